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

from lca import checkpoint, consolidated
from lca.arrays import ARRAYS, Allocation
from lca.errors import LCAError
from lca.integrate import Status
from lca.layout import Array, missing_files
from lca.location import ROOT
from lca.store import Run, open_run


@dataclass(frozen=True)
class Finding:
    """Something wrong. where: an array, a block or an attribute. repair: marks it as not done, if that can help."""

    where: str
    what: str
    repair: Callable[[], None] | None = None


@dataclass(frozen=True)
class Verdict:
    """findings: what is wrong. remarks: what is unusual, and may be meant. n_repaired: findings marked as not done."""

    findings: list[Finding]
    remarks: list[str]
    n_repaired: int


def verify(path: Path | str, repair: bool = False) -> Verdict:
    """Read the whole store, and with repair mark what is damaged as not done, so that the same command redoes it."""
    run = open_run(path, "r+" if repair else "r")
    remarks: list[str] = []
    n_repaired = 0
    with run.lock() if repair else nullcontext():
        findings = [*_table(run), *_training(run), *_weights(run, remarks)]
        for name in run.allocations:
            findings += _allocation(run.allocation(name))
        findings += _consolidated(run)
        if repair:
            for finding in findings:
                if finding.repair:
                    finding.repair()
                    n_repaired += 1
    if partial := len(run.half_written):
        remarks.append(f"{partial} half-written files of an interrupted process; they are not read, and may be removed")
    return Verdict(findings, remarks, n_repaired)


def _table(run: Run) -> Iterator[Finding]:
    offsets = [0, *accumulate(parameter.size for parameter in run.parameters)]
    for parameter, offset in zip(run.parameters, offsets, strict=False):
        if parameter.offset != offset or parameter.size != prod(parameter.shape):
            yield Finding(f"parameters: {parameter.name}", f"offset {parameter.offset} or size {parameter.size} is off")
    wanted = run.attributes.get("train", {}).get("iterations")
    if run.status == "complete" and wanted is not None and run.n_iterations != wanted:
        yield Finding("status", f"complete, with {run.n_iterations:,} of {wanted:,} iterations")


def _training(run: Run) -> Iterator[Finding]:
    for name, array in run.training.items():
        yield from _recorded_shape(f"training/{name}", array, (run.n_iterations,), run)
        if isinstance(error := _read(array, slice(None)), str):
            yield Finding(f"training/{name}", error)


def _weights(run: Run, remarks: list[str]) -> Iterator[Finding]:
    def retrain() -> None:
        (run.path / checkpoint.FILE).remove()
        run.reopen()

    yield from _recorded_shape("weights", run.weights, (run.parameters.size, run.n_iterates), run)
    missing = {coordinates[1] for coordinates in missing_files(run.path / "weights", run.weights)}
    last: NDArray[np.unsignedinteger[Any]] | None = None
    still: list[int] = []
    diverged = False
    for block in range(-(-run.n_iterates // run.block)):
        begin, end = block * run.block, min((block + 1) * run.block, run.n_iterates)
        where = f"weights, block {block} (iterates {begin} to {end - 1})"
        columns = "a file is missing" if block in missing else _read(run.weights, (slice(None), slice(begin, end)))
        if isinstance(columns, str):
            yield Finding(where, columns, retrain)
            last = None
            continue
        not_finite = ~np.isfinite(columns).all(axis=0)
        if not_finite.any() and not diverged:
            diverged = True
            t = begin + int(np.argmax(not_finite))
            row = int(np.argmax(~np.isfinite(columns[:, t - begin])))
            name = next(parameter.name for parameter in run.parameters if row < parameter.offset + parameter.size)
            yield Finding(where, f"iterate {t} is the first that is not finite, in {name}")
        bits = columns.view(f"u{columns.itemsize}")
        before = bits[:, :-1] if last is None else np.concatenate([last[:, None], bits[:, :-1]], axis=1)
        same = (before == bits[:, bits.shape[1] - before.shape[1] :]).all(axis=0)
        still += [int(t) for t in np.flatnonzero(same) + begin - (last is not None)]
        last = bits[:, -1]
    if still:
        remarks.append(f"{len(still):,} iterations without any motion, the first of them {still[0]}")
        yield from _moved(run, still)


def _moved(run: Run, still: list[int]) -> Iterator[Finding]:
    """The recorder noted which iterations moved; if it saw motion where there is none, the iterates are wrong."""
    if "moved" in run.training and (moved := np.asarray(run.training["moved"][:])).size == run.n_iterations:
        wrong = [t for t in still if moved[t] == 1]
        if wrong:
            yield Finding("weights", f"iterates {wrong[0]} and {wrong[0] + 1} are the same, and were not when recorded")


def _allocation(allocation: Allocation) -> Iterator[Finding]:
    prefix, spans = f"lca/{allocation.name}", allocation.iteration_blocks
    sizes, length = allocation.sizes, allocation.run.block
    for name in allocation.arrays:
        yield from _shape(f"{prefix}/{name}", getattr(allocation, name), tuple(sizes[d] for d in ARRAYS[name][1]))
    missing = {
        (name, coordinates[ARRAYS[name][1][0] in ("parameter", "packed")])
        for name in allocation.arrays
        for coordinates in missing_files(allocation.path / name, getattr(allocation, name))
    }
    blocks = np.asarray(allocation.blocks[:])
    if allocation.complete and not blocks.all():
        yield Finding(f"{prefix}", f"complete, but {int((blocks == 0).sum())} blocks are not", allocation.reopen)
    for block, span in enumerate(spans):
        if not blocks[block]:
            continue

        def redo(block: int = block) -> None:
            allocation.undo(block)

        is_last = block == len(spans) - 1
        wanted = [t - span.start for t in range(span.start, span.stop) if t in allocation.iterations]
        for name in allocation.arrays:
            if name == "blocks":
                continue
            where = f"{prefix}/{name}, block {block} (iterations {span.start} to {span.stop - 1})"
            part, _ = allocation.where(name, block)
            files = {(name, block)}
            if "iterate" in ARRAYS[name][1] and is_last:  # θ_T goes with the last block, and may begin a file
                files = {(name, at // length) for at in (span.start, span.stop)}
            if files & missing:
                yield Finding(where, "a file is missing", redo)
            elif isinstance(values := _read(getattr(allocation, name), part), str):
                yield Finding(where, values, redo)
            elif name == "status" and (values[wanted] == Status.NOT_ALLOCATED).any():
                yield Finding(where, "marked as done, with iterations that are not allocated", redo)


def _consolidated(run: Run) -> Iterator[Finding]:
    if not consolidated.is_current(run.path):
        what = "its consolidated metadata are not those of the arrays and groups; xarray and zarr would go by them"
        yield Finding(ROOT, what, lambda: consolidated.drop(run.path))


def _shape(where: str, array: Array, wanted: tuple[int, ...]) -> Iterator[Finding]:
    if array.shape != wanted:
        yield Finding(where, f"shape {array.shape}; {wanted} was wanted")


def _recorded_shape(where: str, array: Array, wanted: tuple[int, ...], run: Run) -> Iterator[Finding]:
    """As _shape, but while a run is recorded its arrays may be ahead of what counts."""
    if run.status == "complete" or len(array.shape) != len(wanted) or any(map(lt, array.shape, wanted)):
        yield from _shape(where, array, wanted)


def _read(array: Array, where: Any) -> NDArray[Any] | str:
    """A part of an array, or what went wrong in reading it."""
    try:
        return np.asarray(array[where])
    except LCAError:
        raise
    except Exception as error:  # zarr and the codecs raise many kinds for damaged bytes
        return f"damaged: {error}"
