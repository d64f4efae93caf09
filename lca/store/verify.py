"""Verification of a run store: read every chunk, which tests its checksum, and check the metadata of the store."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from operator import lt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca.errors import Call, DamagedError
from lca.store import consolidated
from lca.store.checked_file import read_checked
from lca.store.checksums import Array
from lca.store.chunks import find_missing_files
from lca.store.findings import Finding, run_check, try_to_read
from lca.store.paths import Location, find_half_written
from lca.store.run import Run, open_run
from lca.store.run_arrays import weights_checksums
from lca.store.run_writer import SCALARS_CHUNK, RunWriter
from lca.store.schema import PREVIOUS_STATE, ROOT, STATE_FILE
from lca.store.verify_allocation import check_allocation
from lca.text import pluralize

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`. str() returns it as text.

    Attributes:
        path: Path or URL of the run store.
        findings: Defects of the store.
        remarks: Observations that are unusual but may be intended.
        n_repaired: Number of repaired findings.
    """

    path: str
    findings: list[Finding]
    remarks: list[str]
    n_repaired: int

    @property
    def is_sound(self) -> bool:
        """Whether the store has no defects."""
        return not self.findings

    @property
    def can_be_repaired(self) -> bool:
        """Whether any defect can be repaired, and no repair has been made yet."""
        return not self.n_repaired and any(finding.repair for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{finding.where}: {finding.what}" for finding in self.findings]
        lines += [f"note: {remark}" for remark in self.remarks]
        if self.is_sound:
            lines.append(f"{self.path} is sound: every chunk was read and matches its checksum")
        elif self.n_repaired:
            lines.append(f"marked {pluralize(self.n_repaired, 'damaged part')} as missing")
        return "\n".join(lines)


def verify(path: Path | str, repair: bool = False) -> Verdict:
    """Read a whole run store and check it against its checksums and its schema.

    Args:
        path: Path or URL of the run.
        repair: Whether to mark damaged parts as missing, so that resuming the training or repeating the allocation
            computes them again.

    Returns:
        The defects that were found, remarks, and the number of repaired defects.

    Example:
        >>> print(lca.verify("run.zarr"))
        run.zarr is sound: every chunk was read and matches its checksum
    """
    run = open_run(path, "r+" if repair else "r")
    remarks: list[str] = []
    n_repaired = 0
    if special := run.path.find_special_files():  # a link may lead out of the store, and reading a pipe may never end
        what = "neither a file nor a folder, so nothing was read"
        return Verdict(str(run.path), [Finding(name, f"{kind}, {what}") for name, kind in special.items()], [], 0)
    motion = np.full((run.n_iterations, len(run.parameters)), np.nan)
    with RunWriter(run).lock() if repair else nullcontext():
        findings = [
            *_check_length(run),
            *run_check("training", lambda: _check_training(run)),
            *run_check("weights", lambda: _check_weights(run, remarks, motion)),
            *_check_state(run),
            *run_check("lca", lambda: _check_allocations(run, motion)),
            *run_check(ROOT, lambda: _check_consolidated(run)),
        ]
        if repair:
            for finding in findings:
                if finding.repair:
                    finding.repair()
                    n_repaired += 1
    if partial := len(find_half_written(run.path)):
        files = pluralize(partial, "half-written file")
        remarks.append(f"{files} left by an interrupted process, never read and safe to delete")
    return Verdict(str(run.path), findings, remarks, n_repaired)


def repair_call(verdict: Verdict) -> Call:
    """Return the call that marks damaged parts as missing, for the remedy of an error."""
    return Call("verify", verdict.path, repair=True)


def _check_allocations(run: Run, motion: Floats) -> Iterator[Finding]:
    for name in run.allocations:
        check = partial(_check_allocation, run, name, motion)
        yield from run_check(f"lca/{name}", check)


def _check_allocation(run: Run, name: str, motion: Floats) -> Iterator[Finding]:
    yield from check_allocation(run.allocation(name), motion)


def _check_length(run: Run) -> Iterator[Finding]:
    planned = run.attributes.get("train", {}).get("iterations")
    if "diverged_at" in run.attributes:  # training stopped at the first iterate that was not finite
        planned = run.attributes["diverged_at"] - 1
    if run.status == "complete" and planned is not None and run.n_iterations != planned:
        yield Finding("status", f"complete, but only {run.n_iterations:,} of {planned:,} iterations are recorded")


def _check_training(run: Run) -> Iterator[Finding]:
    for name, array in run.training.items():
        yield from _check_recorded_shape(f"training/{name}", array, (run.n_iterations,), run)
        for file, begin in enumerate(range(0, array.shape[0], SCALARS_CHUNK)):
            span = slice(begin, min(begin + SCALARS_CHUNK, array.shape[0]))
            if isinstance(error := try_to_read(array, span), str):
                where = f"training/{name}, iterations {span.start} to {span.stop - 1}"
                yield Finding(where, error, partial(RunWriter(run).clear_scalar, name, file))


def _check_weights(run: Run, remarks: list[str], motion: Floats) -> Iterator[Finding]:
    """Check all iterates. Set `motion`, (iteration, tensor), to the L2 norm of the motion of each tensor."""

    def retrain() -> None:
        for path in _locate_states(run):
            path.remove()
        RunWriter(run).reopen()

    yield from _check_recorded_shape("weights", run.weights, (run.parameters.size, run.n_iterates), run)
    stored = weights_checksums(run.weights).stored
    if missing_files := find_missing_files(run.path / "checksums", stored):
        yield Finding(
            "checksums", f"{pluralize(len(missing_files), 'file')} missing", partial(stored.__setitem__, ..., 0)
        )
    missing = {coordinates[1] for coordinates in find_missing_files(run.path / "weights", run.weights)}
    last: Floats | None = None
    unmoved: list[int] = []
    diverged = False
    for block, span in enumerate(run.iterate_blocks):
        begin = span.start
        where = f"weights, block {block} (iterates {begin} to {span.stop - 1})"
        columns = "a file is missing" if block in missing else try_to_read(run.weights, (slice(None), span))
        if isinstance(columns, str):
            yield Finding(where, columns, retrain)
            last = None
            continue
        if not diverged and (first := _describe_first_not_finite(columns, run, begin)):
            diverged = True
            yield Finding(where, first)
        known = columns if last is None else np.concatenate([last[:, None], columns], axis=1)
        first_step = begin - (last is not None)
        bits = known.view(f"u{known.itemsize}")
        unmoved += [int(t) for t in np.flatnonzero((bits[:, :-1] == bits[:, 1:]).all(axis=0)) + first_step]
        motion[first_step : first_step + known.shape[1] - 1] = _measure_motion(known, run)
        last = columns[:, -1]
    if unmoved:
        first_one = f"iteration {unmoved[0]}" if len(unmoved) == 1 else f"the first is iteration {unmoved[0]}"
        remarks.append(f"{pluralize(len(unmoved), 'iteration')} changed no parameter ({first_one})")
        yield from _check_moved(run, unmoved)


def _measure_motion(columns: Floats, run: Run) -> Floats:
    """Return the L2 norm of the steps between the iterates in `columns`, as an array of shape (step, tensor)."""
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.diff(columns, axis=1)
        norms = [np.linalg.norm(steps[parameter.span].astype(np.float64), axis=0) for parameter in run.parameters]
    return np.stack(norms, axis=1) if norms else np.empty((steps.shape[1], 0))


def _locate_states(run: Run) -> list[Location]:
    """Return the locations of the state for resuming and of the one before it."""
    folder, _, name = STATE_FILE.rpartition("/")
    return [run.path / folder / name, run.path / folder / PREVIOUS_STATE]


def _check_state(run: Run) -> Iterator[Finding]:
    """Check the checksums of the states for resuming. If one is removed, training resumes from an earlier iterate."""
    for path in _locate_states(run):
        try:
            read_checked(path)
        except FileNotFoundError:
            pass
        except DamagedError as error:
            yield Finding(str(path).removeprefix(f"{run.path}/"), str(error).partition(" is ")[2], path.remove)


def _describe_first_not_finite(columns: NDArray[np.floating[Any]], run: Run, begin: int) -> str | None:
    """Describe the first iterate of a block that is not finite. Return None if all are finite.

    `columns` contains the iterates of the block, which starts at iterate `begin`.
    """
    not_finite = ~np.isfinite(columns).all(axis=0)
    if not not_finite.any():
        return None
    t = int(np.argmax(not_finite))
    row = int(np.argmax(~np.isfinite(columns[:, t])))
    name = next(parameter.name for parameter in run.parameters if row < parameter.offset + parameter.size)
    return f"iterate {begin + t} is the first with a value that is not finite, in {name}"


def _check_moved(run: Run, unmoved: list[int]) -> Iterator[Finding]:
    """Report consecutive iterates that are equal, although the recorder noted that a parameter changed between them."""
    if "moved" in run.training and (moved := np.asarray(run.training["moved"][:])).size == run.n_iterations:
        wrong = [t for t in unmoved if moved[t] == 1]
        if wrong:
            what = f"iterates {wrong[0]} and {wrong[0] + 1} are equal, but differed when they were recorded"
            yield Finding("weights", what)


def _check_consolidated(run: Run) -> Iterator[Finding]:
    if not consolidated.is_current(run.path):
        what = "the consolidated metadata, which xarray and zarr use, differ from those of the arrays and groups"
        yield Finding(ROOT, what, lambda: consolidated.drop(run.path))


def _check_recorded_shape(where: str, array: Array, expected: tuple[int, ...], run: Run) -> Iterator[Finding]:
    """Check a shape. While a run is being recorded, its arrays may be longer than expected."""
    is_final = run.status == "complete" or len(array.shape) != len(expected) or any(map(lt, array.shape, expected))
    if is_final and array.shape != expected:
        yield Finding(where, f"expected shape {expected}, found {array.shape}")
