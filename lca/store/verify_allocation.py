"""Verification of one allocation: its files, and the sums on which its arrays must agree."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca.store.allocation import Allocation
from lca.store.allocation_writer import AllocationWriter
from lca.store.chunks import find_missing_files
from lca.store.findings import Finding, try_to_read
from lca.store.schema import ARRAYS, MANTISSA_BITS, Status
from lca.text import pluralize

Values = Mapping[str, NDArray[Any]]

COMPARED = {"status", "tensor_lca", "allocated", "residual", "motion_norm"}
RELATIVE_ERROR = 1e-5  # of sums of float32 values


def check_allocation(allocation: Allocation, motion: NDArray[np.floating[Any]]) -> Iterator[Finding]:
    """Read all blocks of an allocation, and compare the arrays of finished blocks with each other.

    `motion` is the L2 norm of the motion of each tensor according to the weights, with shape (iteration, tensor). It is
    NaN where the weights cannot be read.
    """
    prefix, writer, blocks = f"lca/{allocation.name}", AllocationWriter(allocation), allocation.blocks_of_run
    if damaged := list(_check_checksums(allocation, prefix, writer)):
        yield from damaged  # without them, nothing else can be read
        return
    missing = {
        (name, coordinates[ARRAYS[name][1][0] in ("parameter", "packed")])
        for name in allocation.arrays
        for coordinates in find_missing_files(allocation.path / name, getattr(allocation, name))
    }
    small = _read_small_arrays(allocation)
    done, findings = _read_marks(allocation, prefix, writer)
    yield from findings
    if allocation.complete and not findings and not done.all():
        missing_blocks = pluralize(int((done == 0).sum()), "unfinished block")
        yield Finding(prefix, f"marked as complete, but has {missing_blocks}", writer.reopen)
    for block in range(len(blocks)):
        redo, span = partial(writer.undo, block), blocks[block]
        place = f"block {block} (iterations {span.start} to {span.stop - 1})"
        rows: dict[str, NDArray[Any]] = {}
        for name in allocation.arrays:
            if name == "blocks":
                continue
            where, (part, axis) = f"{prefix}/{name}, {place}", allocation.place(name, block)
            files = {(name, block)}
            if "iterate" in ARRAYS[name][1] and block == len(blocks) - 1:  # θ_T may start a new file
                files = {(name, at // blocks.length) for at in (span.start, span.stop)}
            if done[block] and files & missing:
                yield Finding(where, "a file is missing", redo)
            elif isinstance(values := small[name][part] if name in small else _read(allocation, name, part), str):
                yield Finding(where, values, redo)
            else:
                rows[name] = np.moveaxis(values, axis, 0)
        if done[block] and rows.keys() >= COMPARED and "loss" in small:
            rows["loss"] = small["loss"][span.start : span.stop + 1]
            for what in _find_disagreements(allocation, block, rows, motion[span]):
                yield Finding(f"{prefix}, {place}", what, redo)


def _check_checksums(allocation: Allocation, prefix: str, writer: AllocationWriter) -> Iterator[Finding]:
    stored, done = allocation.opened.stored_checksums, try_to_read(allocation.opened.blocks, slice(None))
    missing = {row for row, _ in find_missing_files(allocation.path / "checksums", stored)}
    for row in range(len(allocation.blocks_of_run)):
        if row in missing and not isinstance(done, str) and done[row]:
            error: Any = "a file is missing"
        else:
            error = try_to_read(stored, row)
        if isinstance(error, str):
            yield Finding(f"{prefix}/checksums, block {row}", error, partial(writer.forget_checksums, row))


def _read_marks(
    allocation: Allocation, prefix: str, writer: AllocationWriter
) -> tuple[NDArray[np.bool_], list[Finding]]:
    """Return which blocks are marked as done, and findings for damaged or missing marks, which count as not done."""
    findings, n = [], len(allocation.blocks_of_run)
    done = np.zeros(n, bool)
    sealed: NDArray[np.bool_] = (allocation.opened.checksums.values[:n] != 0).any(axis=1)
    marks = _read(allocation, "blocks", slice(None))
    for block in range(n):
        mark: Any = _read(allocation, "blocks", block) if isinstance(marks, str) else marks[block]
        done[block] = not isinstance(mark, str) and bool(mark)
        if isinstance(mark, str) or (allocation.complete and sealed[block] and not mark):
            what = mark if isinstance(mark, str) else "the mark of a finished block is missing"
            repair = partial(writer.mark, block, bool(sealed[block]))
            findings.append(Finding(f"{prefix}/blocks, block {block}", what, repair))
    return done, findings


def _read_small_arrays(allocation: Allocation) -> Values:
    """Read the arrays without a dimension of length K, each as a whole. Damaged ones are omitted."""
    small = {}
    for name in allocation.arrays:
        if ARRAYS[name][1][0] not in ("parameter", "packed", "block"):
            values = _read(allocation, name, slice(None))
            if not isinstance(values, str):
                small[name] = values
    return small


def _read(allocation: Allocation, name: str, part: Any) -> NDArray[Any] | str:
    return try_to_read(getattr(allocation, name), part)


def _find_disagreements(
    allocation: Allocation, block: int, rows: Values, motion: NDArray[np.floating[Any]]
) -> Iterator[str]:
    """Yield a description of each kind of sum on which the arrays of a block disagree.

    `rows` contains the arrays of the block, with iterations along the first axis. `loss` has one row more than the
    others. `motion` has shape (iteration, tensor).
    """
    span, status = allocation.blocks_of_run.range(block), rows["status"]
    requested = np.array([t in allocation.iterations for t in span])
    if (requested & (status == Status.NOT_ALLOCATED)).any():
        yield "marked as done, but some iterations are not allocated"
    rows = {name: values[:-1] if name == "loss" else values for name, values in rows.items()} | {
        "change": np.diff(rows["loss"])
    }
    used = np.isin(status, (Status.CONVERGED, Status.AT_LIMIT))
    by_tensor, allocated = rows["tensor_lca"], rows["allocated"]
    magnitude = np.abs(by_tensor)
    if "lca" in rows:
        lca = [rows["lca"][:, parameter.span] for parameter in allocation.parameters]
        total = np.stack([part.sum(axis=1, dtype=np.float64) for part in lca], axis=1)
        magnitude = np.stack([np.abs(part).sum(axis=1, dtype=np.float64) for part in lca], axis=1)
        limit = RELATIVE_ERROR + 2.0 ** -allocation.attributes.get("keep_bits", MANTISSA_BITS)
        yield from _compare("Σ lca", total, "tensor_lca", by_tensor, limit * magnitude, used, span)
    total = by_tensor.sum(axis=1)
    limit = RELATIVE_ERROR * magnitude.sum(axis=1)
    yield from _compare("Σ tensor_lca", total, "allocated", allocated, limit, used, span)
    limit = 1e-9 * (np.abs(rows["loss"]) + np.abs(rows["change"]) + np.abs(allocated))
    difference = allocated - rows["change"]
    yield from _compare("allocated − loss change", difference, "residual", rows["residual"], limit, used, span)
    known = used & np.isfinite(motion).all(axis=1)
    yield from _compare("the motion of weights", motion, "motion_norm", rows["motion_norm"], 1e-3 * motion, known, span)


def _compare(
    first: str,
    a: NDArray[Any],
    second: str,
    b: NDArray[Any],
    limit: NDArray[Any],
    used: NDArray[np.bool_],
    iterations: range,
) -> Iterator[str]:
    """Yield a description of the first used iteration in which two arrays differ by more than the limit, if any."""
    n = len(used)
    differs = used & ~(np.abs(a - b) <= limit + np.finfo(np.float32).tiny).reshape(n, -1).all(axis=1)
    if differs.any():
        t = int(np.argmax(differs))
        yield f"{first} differs from {second} in {pluralize(int(differs.sum()), 'iteration')}, first in {iterations[t]}"
