"""Is a store what it says it is? Every chunk is read, so that its checksum is tested."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from operator import lt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca.errors import Call, DamagedError
from lca.store import consolidated
from lca.store.allocation import Allocation
from lca.store.allocation_writer import AllocationWriter
from lca.store.chunks import Array, find_missing_files, read_part
from lca.store.paths import ROOT, half_written
from lca.store.run import Run, open_run
from lca.store.run_writer import RunWriter
from lca.store.schema import ARRAYS, STATE_FILE, Status
from lca.text import pluralize


@dataclass(frozen=True)
class Finding:
    """Something wrong. where: an array, a block or an attribute. repair: marks it as not done, if that can help."""

    where: str
    what: str
    repair: Callable[[], None] | None = None


@dataclass(frozen=True)
class Verdict:
    """What `verify` found; str() gives it as text.

    path: of the store. findings: what is wrong. remarks: what is unusual and may be intended. n_repaired: findings that
    were marked as not done.
    """

    path: str
    findings: list[Finding]
    remarks: list[str]
    n_repaired: int

    @property
    def is_sound(self) -> bool:
        return not self.findings

    @property
    def can_be_repaired(self) -> bool:
        """Whether marking what is damaged as not done would help, and was not done."""
        return not self.n_repaired and any(finding.repair for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{finding.where}: {finding.what}" for finding in self.findings]
        lines += [f"note: {remark}" for remark in self.remarks]
        if self.is_sound:
            lines.append(f"{self.path} is sound: every chunk was read and agrees with its checksum")
        elif self.n_repaired:
            lines.append(f"marked as not done: {pluralize(self.n_repaired, 'finding')}")
        return "\n".join(lines)


def verify(path: Path | str, repair: bool = False) -> Verdict:
    """Read a whole run store and compare it with its checksums and its schema.

    Args:
        path: The run store, a path or a URL.
        repair: Mark what is damaged as not done, so that resuming the training or repeating the allocation redoes it.

    Returns:
        What is wrong, what is unusual, and how much was repaired.
    """
    run = open_run(path, "r+" if repair else "r")
    remarks: list[str] = []
    n_repaired = 0
    with RunWriter(run).lock() if repair else nullcontext():
        findings = [*_check_table(run), *_check_training(run), *_check_weights(run, remarks)]
        for name in run.allocations:
            findings += _check_allocation(run.allocation(name))
        findings += _check_consolidated(run)
        if repair:
            for finding in findings:
                if finding.repair:
                    finding.repair()
                    n_repaired += 1
    if partial := len(half_written(run.path)):
        files = pluralize(partial, "half-written file")
        remarks.append(f"{files} of an interrupted process; nothing reads them, and they may be removed")
    return Verdict(str(run.path), findings, remarks, n_repaired)


def repair_call(verdict: Verdict) -> Call:
    """The call that marks what is damaged as not done."""
    return Call("verify", verdict.path, repair=True)


def _check_table(run: Run) -> Iterator[Finding]:
    offsets = [0, *accumulate(parameter.size for parameter in run.parameters)]
    for parameter, offset in zip(run.parameters, offsets, strict=False):
        if parameter.offset != offset or parameter.size != prod(parameter.shape):
            what = f"offset {parameter.offset} or size {parameter.size} is wrong"
            yield Finding(f"parameters: {parameter.name}", what)
    expected = run.attributes.get("train", {}).get("iterations")
    if run.status == "complete" and expected is not None and run.n_iterations != expected:
        yield Finding("status", f"complete, with {run.n_iterations:,} of {expected:,} iterations")


def _check_training(run: Run) -> Iterator[Finding]:
    for name, array in run.training.items():
        yield from _check_recorded_shape(f"training/{name}", array, (run.n_iterations,), run)
        if isinstance(error := _read(array, slice(None)), str):
            yield Finding(f"training/{name}", error)


def _check_weights(run: Run, remarks: list[str]) -> Iterator[Finding]:
    def retrain() -> None:
        (run.path / STATE_FILE).remove()
        RunWriter(run).reopen()

    yield from _check_recorded_shape("weights", run.weights, (run.parameters.size, run.n_iterates), run)
    missing = {coordinates[1] for coordinates in find_missing_files(run.path / "weights", run.weights)}
    last: NDArray[np.unsignedinteger[Any]] | None = None
    still: list[int] = []
    diverged = False
    for block, span in enumerate(run.iterate_blocks):
        begin = span.start
        where = f"weights, block {block} (iterates {begin} to {span.stop - 1})"
        columns = "a file is missing" if block in missing else _read(run.weights, (slice(None), span))
        if isinstance(columns, str):
            yield Finding(where, columns, retrain)
            last = None
            continue
        if not diverged and (first := _first_not_finite(columns, run, begin)):
            diverged = True
            yield Finding(where, first)
        bits = columns.view(f"u{columns.itemsize}")
        before = bits[:, :-1] if last is None else np.concatenate([last[:, None], bits[:, :-1]], axis=1)
        same = (before == bits[:, bits.shape[1] - before.shape[1] :]).all(axis=0)
        still += [int(t) for t in np.flatnonzero(same) + begin - (last is not None)]
        last = bits[:, -1]
    if still:
        remarks.append(f"{pluralize(len(still), 'iteration')} without any motion, the first of them {still[0]}")
        yield from _check_moved(run, still)


def _first_not_finite(columns: NDArray[np.floating[Any]], run: Run, begin: int) -> str | None:
    """Which iterate of a block is the first that is not finite, in words; None if all are finite."""
    not_finite = ~np.isfinite(columns).all(axis=0)
    if not not_finite.any():
        return None
    t = int(np.argmax(not_finite))
    row = int(np.argmax(~np.isfinite(columns[:, t])))
    name = next(parameter.name for parameter in run.parameters if row < parameter.offset + parameter.size)
    return f"iterate {begin + t} is the first that is not finite, in {name}"


def _check_moved(run: Run, still: list[int]) -> Iterator[Finding]:
    """The recorder noted which iterations moved; if it saw motion where there is none, the iterates are wrong."""
    if "moved" in run.training and (moved := np.asarray(run.training["moved"][:])).size == run.n_iterations:
        wrong = [t for t in still if moved[t] == 1]
        if wrong:
            what = f"iterates {wrong[0]} and {wrong[0] + 1} are equal, and differed when they were recorded"
            yield Finding("weights", what)


def _check_allocation(allocation: Allocation) -> Iterator[Finding]:
    prefix, writer, blocks = f"lca/{allocation.name}", AllocationWriter(allocation), allocation.blocks_of_run
    sizes = allocation.sizes
    for name in allocation.arrays:
        yield from _check_shape(f"{prefix}/{name}", getattr(allocation, name), tuple(sizes[d] for d in ARRAYS[name][1]))
    missing = {
        (name, coordinates[ARRAYS[name][1][0] in ("parameter", "packed")])
        for name in allocation.arrays
        for coordinates in find_missing_files(allocation.path / name, getattr(allocation, name))
    }
    done = allocation.read("blocks")
    if allocation.complete and not done.all():
        yield Finding(f"{prefix}", f"complete, but {int((done == 0).sum())} blocks are not", writer.reopen)
    for block in np.flatnonzero(done).tolist():

        def redo(block: int = block) -> None:
            writer.undo(block)

        span = blocks[block]
        requested = [t - span.start for t in blocks.range(block) if t in allocation.iterations]
        for name in allocation.arrays:
            if name == "blocks":
                continue
            where = f"{prefix}/{name}, block {block} (iterations {span.start} to {span.stop - 1})"
            part, _ = allocation.place(name, block)
            files = {(name, block)}
            if "iterate" in ARRAYS[name][1] and block == len(blocks) - 1:  # θ_T, in the last block, may begin a file
                files = {(name, at // blocks.length) for at in (span.start, span.stop)}
            if files & missing:
                yield Finding(where, "a file is missing", redo)
            elif isinstance(values := _read(getattr(allocation, name), part), str):
                yield Finding(where, values, redo)
            elif name == "status" and (values[requested] == Status.NOT_ALLOCATED).any():
                yield Finding(where, "marked as done, with iterations that are not allocated", redo)


def _check_consolidated(run: Run) -> Iterator[Finding]:
    if not consolidated.is_current(run.path):
        what = "its consolidated metadata, which xarray and zarr use, differ from those of the arrays and groups"
        yield Finding(ROOT, what, lambda: consolidated.drop(run.path))


def _check_shape(where: str, array: Array, expected: tuple[int, ...]) -> Iterator[Finding]:
    if array.shape != expected:
        yield Finding(where, f"expected shape {expected}, found {array.shape}")


def _check_recorded_shape(where: str, array: Array, expected: tuple[int, ...], run: Run) -> Iterator[Finding]:
    """As _check_shape, except that the arrays may be ahead of what counts while a run is recorded."""
    if run.status == "complete" or len(array.shape) != len(expected) or any(map(lt, array.shape, expected)):
        yield from _check_shape(where, array, expected)


def _read(array: Array, where: Any) -> NDArray[Any] | str:
    """A part of an array, or what went wrong in reading it."""
    try:
        return read_part(array, where, "")
    except DamagedError as error:
        return f"damaged: {error.__cause__}"
