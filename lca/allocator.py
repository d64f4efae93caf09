"""Blocks are integrated and written, then the total is refined and a sample audited; shared among the workers."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lca.arrays import Allocation
from lca.audit import Audit, compare, draw_iterations
from lca.config import AllocateConfig
from lca.errors import Interrupted, LCAError
from lca.gradient import FullGradient
from lca.integrate import Evaluation, Integral, Status, integrate_iteration
from lca.parameters import norm_by_tensor, sum_by_tensor
from lca.replay import Rows, Trajectory, WriteBehind, keep_bits
from lca.signals import Stop
from lca.store import Run
from lca.summary import counted, read
from lca.workers import Workers

REPORT_S = 1.0  # how often a worker tells how far it is
GO_ON = "Go on with the same command, without --overwrite."
BITS = (128, 64, 32, 16, 8, 4, 2, 1)


class Allocator:
    """The iterations of one run, integrated with one gradient and written into one allocation.

    theta, gradient: entered. team: who shares the work. shown: the progress of all. stop: whether to end early.
    """

    def __init__(
        self,
        run: Run,
        allocation: Allocation,
        gradient: FullGradient,
        theta: Trajectory,
        config: AllocateConfig,
        team: Workers,
        shown: "tqdm[Any]",
        stop: Stop,
    ) -> None:
        self.run, self.allocation, self.gradient, self.theta, self.config = run, allocation, gradient, theta, config
        self.team, self.shown, self.stop = team, shown, stop
        self.lengths = torch.tensor(run.parameters.sizes, device=gradient.device)
        self._bits = torch.tensor(BITS, dtype=torch.uint8, device=gradient.device)
        self._last: tuple[int, Tensor, Evaluation] | None = None  # t, θ_t, what was found there
        self._ahead, self._told = 0, 0.0

    def allocate_blocks(self) -> None:
        """Allocate and write every block that is not yet done; this process those that it can get."""
        blocks = np.asarray(self.allocation.blocks[:])
        taken = 0
        with WriteBehind(self.allocation, self.gradient.device, self.config.keep_bits) as writer:
            for block in self.team.take("blocks", len(blocks)):
                taken += 1
                if blocks[block]:
                    span = self.allocation.iteration_blocks[block]
                    self._advance(len([t for t in span_of(span) if t in self.allocation.iterations]))
                else:
                    self._allocate_block(block, writer)
        self._advance(0, now=True)
        self.team.count("blocks", taken)
        if self.team.first:
            self._wait("blocks", len(blocks))

    def refine_total(self) -> None:
        """Integrate the worst iteration more finely until the cumulative residual is under its bound.

        The first worker does it, and the others wait.
        """
        if not self.team.first:
            self._wait("refined")
            return
        arrays = {
            name: read(self.allocation, name) for name in ("loss", "allocated", "residual", "intervals", "status")
        }
        n_refined = 0
        # What a kill has left half written is begun anew: its numbers may be of both.
        wanted = self.allocation.attributes.get("refining") or self._next_refinement(arrays)
        while wanted:
            self._heed_signals()
            t, n = wanted
            self.allocation.note("refining", wanted)
            values = self._refine(t, n)
            self.allocation.write_iteration(t, values)
            self.allocation.note("refining", None)
            for name in ("allocated", "residual", "intervals", "status"):
                arrays[name][t] = values[name]
            n_refined += 1
            self._say(f"{n_refined} refined for the total")
            wanted = self._next_refinement(arrays)
        self.team.count("refined")

    def _next_refinement(self, arrays: Mapping[str, NDArray[Any]]) -> list[int] | None:
        """Which iteration to integrate with how many subintervals, if any."""
        t = worst_iteration(arrays, self.config, float(np.finfo(self.run.weights.dtype).eps))
        return None if t is None else [t, 2 * int(arrays["intervals"][t])]

    def _refine(self, t: int, n: int) -> dict[str, NDArray[Any]]:
        """What is stored of iteration t, integrated with at least n subintervals."""
        theta0, theta1, start, end = self._ends(t)
        described = self._describe(self._integrate(theta0, theta1, start, end, n), theta0, theta1)
        values = {name: torch.as_tensor(value).cpu().numpy() for name, value in described.items()}
        if "lca" in values:
            values["lca"] = keep_bits(values["lca"].astype(np.float32), self.config.keep_bits)
        return values

    def audit(self) -> None:
        """Integrate a sample of the iterations with twice and four times the subintervals, and keep what differs."""
        intervals, status = read(self.allocation, "intervals"), read(self.allocation, "status")
        candidates = np.flatnonzero(counted(status)).tolist()
        if not self.config.audit or not candidates:
            return
        iterations = draw_iterations(candidates, self.config.audit, self.config.seed)
        for i in self.team.take("audit", len(iterations)):
            self._heed_signals()
            self._say(f"audit {i + 1} of {len(iterations)}")
            t = iterations[i]
            self.team.tell(f"audit/{i}", self._audit(t, int(intervals[t])))
            self.team.count("audit")
        if self.team.first:
            self._wait("audit", len(iterations))
            self._say(f"{len(iterations)} audited")
            figures = [self.team.told(f"audit/{i}") for i in range(len(iterations))]
            columns = {name: [row[name] for row in figures] for name in figures[0]}
            self.allocation.note("audit_result", Audit(iterations=iterations, **columns).to_json())

    def _audit(self, t: int, n: int) -> dict[str, float]:
        """The figures of iteration t, which was integrated with n subintervals."""
        theta0, theta1 = self.theta(t), self.theta(t + 1)
        start, end = self.gradient.in_full(theta0), self.gradient.in_full(theta1)

        def reference(m: int) -> NDArray[np.float64]:
            """A (K,) by composite Simpson in full precision, whatever the rule and the precision of the allocation."""
            options = {"tolerance": float("inf"), "min_intervals": m, "max_intervals": m}
            integral = integrate_iteration(self.gradient.in_full, theta0, theta1, start, end, **options)  # type: ignore[arg-type]
            return integral.allocation.cpu().numpy()

        if "lca" in self.allocation.arrays:
            stored = np.asarray(self.allocation.lca[:, t], np.float64)
        else:
            stored = self._integrate(*self._ends(t), n).allocation.cpu().numpy()
        return compare(stored, reference(2 * n), reference(4 * n))

    def _allocate_block(self, block: int, writer: WriteBehind) -> None:
        rows, span = writer.begin(block), self.allocation.iteration_blocks[block]
        self.theta.read_ahead(block)
        self.theta.read_ahead(block + 1)
        for row, t in enumerate(span_of(span)):
            if t not in self.allocation.iterations:
                continue
            if not rows.is_set(row):
                self._allocate_iteration(t, row, rows, has_end=t + 1 < span.stop or t + 1 == self.run.n_iterations)
            self._advance(1)
            if self.stop.name:
                writer.write(rows, done=False)
                writer.wait()
                self._heed_signals()
        writer.write(rows, done=True)

    def _allocate_iteration(self, t: int, row: int, rows: Rows, has_end: bool) -> None:
        """Fill a row of a block. has_end: whether θ_{t+1} belongs to the block too."""
        last, self._last = self._last, None
        rows["status", row] = Status.NOT_FINITE  # until it is known to be
        if not self.theta.is_finite(t):
            return
        if last and last[0] == t:
            _, theta0, start = last
        else:
            theta0, _, start = self._arrive(t)
        self._describe_iterate(start, row, rows)
        if not self.theta.is_finite(t + 1):
            return
        theta1, end, begin = self._arrive(t + 1, theta0)
        self._last = t + 1, theta1, begin
        integral = self._integrate(theta0, theta1, start, end)
        for name, value in self._describe(integral, theta0, theta1).items():
            rows[name, row] = value
        if has_end and t + 1 not in self.allocation.iterations:
            self._describe_iterate(end, row + 1, rows)

    def _arrive(self, t: int, before: Tensor | None = None) -> tuple[Tensor, Evaluation, Evaluation]:
        """θ_t, and what is found there for the step from θ_{t−1} (before) and for the one to θ_{t+1}.

        The two differ where classes are told apart: each has the slopes along its own step.
        """
        theta = self.theta(t)
        if self.gradient.groups is None:
            evaluation = self.gradient.at_iterate(theta)
            return theta, evaluation, evaluation
        steps = [] if before is None else [theta.double() - before]
        steps += [self.theta(t + 1).double() - theta] if t < self.run.n_iterations else []
        evaluation = self.gradient.at_iterate(theta, *steps)
        if len(steps) == 1:
            return theta, evaluation, evaluation
        assert evaluation.slopes is not None
        arriving, leaving = (replace(evaluation, slopes=slopes) for slopes in evaluation.slopes)
        return theta, arriving, leaving

    def _ends(self, t: int) -> tuple[Tensor, Tensor, Evaluation, Evaluation]:
        """The iterates of iteration t, and what is found there."""
        theta0, _, start = self._arrive(t)
        theta1, end, _ = self._arrive(t + 1, theta0)
        return theta0, theta1, start, end

    def _integrate(
        self, theta0: Tensor, theta1: Tensor, start: Evaluation, end: Evaluation, min_intervals: int = 1
    ) -> Integral:
        return integrate_iteration(
            self.gradient,
            theta0,
            theta1,
            start,
            end,
            tolerance=self.config.tolerance,
            max_intervals=self.config.max_intervals,
            min_intervals=min_intervals,
            rule=self.config.rule,
        )

    def _describe(self, integral: Integral, theta0: Tensor, theta1: Tensor) -> dict[str, Any]:
        """What is stored of an iteration, by the names of the schema."""
        values = {
            "lca": integral.allocation,
            "allocated": integral.allocated,
            "residual": integral.residual,
            "intervals": integral.intervals,
            "status": int(integral.status),
            "layer_lca": sum_by_tensor(integral.allocation, self.lengths),
            "motion_norm": norm_by_tensor(theta1 - theta0, self.lengths),
            "class_lca": integral.class_allocation,
        }
        return {name: value for name, value in values.items() if name in self.allocation.arrays}

    def _describe_iterate(self, evaluation: Evaluation, row: int, rows: Rows) -> None:
        """What is stored of an iterate, by the names of the schema."""
        rows["loss", row] = evaluation.loss
        rows["gradient_norm", row] = norm_by_tensor(evaluation.gradient, self.lengths)
        if "gradient_sign" in rows:
            rows["gradient_sign", row] = self._packed(evaluation.gradient > 0)

    def _packed(self, bits: Tensor) -> Tensor:
        """(K,) bool -> (packed,) uint8, eight to a byte, the first in its highest bit: as numpy.packbits has them."""
        padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -len(bits) % 8))
        return (padded.view(-1, 8) * self._bits).sum(1, dtype=torch.uint8)

    def _advance(self, n: int, now: bool = False) -> None:
        """Tell the others, now and then, that n more iterations are done, and show how far all are."""
        self._ahead += n
        if now or time.monotonic() - self._told > REPORT_S or self.team.size == 1:
            total = self.team.count("iterations", self._ahead)
            self._ahead, self._told = 0, time.monotonic()
            self.shown.update(total - self.shown.n)

    def finish(self) -> None:
        """The first worker declares the allocation complete, once every block is; the others wait for it."""
        if not self.team.first:
            self._wait("finished")
            return
        missing = np.flatnonzero(np.asarray(self.allocation.blocks[:]) == 0)
        if len(missing):
            raise LCAError(
                f"{len(missing)} blocks of {self.allocation.path} were not allocated, {missing[0]} the first of them. "
                f"{GO_ON}"
            )
        self.allocation.finish()
        self.team.count("finished")

    def _wait(self, what: str, n: int = 1) -> None:
        """Until all workers together have counted to n; meanwhile their progress is shown."""

        def meanwhile() -> None:
            self._heed_signals()
            self._advance(0)

        self.team.wait(what, n, meanwhile)

    def _heed_signals(self) -> None:
        if self.stop.name:
            raise Interrupted(f"stopped by {self.stop.name}; what is allocated is kept. {GO_ON}")

    def _say(self, words: str) -> None:
        self.shown.set_postfix_str(words, refresh=False)
        self.shown.update(0)


def worst_iteration(arrays: Mapping[str, NDArray[Any]], config: AllocateConfig, eps: float) -> int | None:
    """The iteration to refine next so that the cumulative residual comes under its bound; None if it is, or cannot.

    arrays: loss (T+1,), allocated, residual, intervals and status (T,). It is the one with the largest |residual|. An
    iteration at the limit, one that is not finite, and one whose residual is rounding cannot be made better; nor can
    the first order. eps: of the numbers of the iterates.
    """
    loss, status = arrays["loss"], arrays["status"]
    residual = np.where(counted(status), arrays["residual"], 0)
    change = np.sum(arrays["allocated"] - arrays["residual"], where=counted(status))
    if config.rule == "first-order" or not abs(residual.sum()) > config.total_tolerance * abs(change):
        return None
    rounding = 8 * eps * np.fmax(np.abs(loss[1:]), np.abs(loss[:-1]))
    open_ = (2 * arrays["intervals"] <= config.max_intervals) & (np.abs(residual) > rounding)
    return int(np.argmax(np.where(open_, np.abs(residual), 0))) if open_.any() else None


def span_of(iterations: slice) -> range:
    return range(iterations.start, iterations.stop)
