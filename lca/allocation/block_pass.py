"""The main pass of an allocation: the processes integrate and write one block of iterations after another."""

import time
from collections.abc import Mapping
from math import ceil, inf
from typing import Any

from lca.allocation.forecast import UNREFINED
from lca.allocation.prediction import TrapezoidPredictor
from lca.allocation.steps import Arrival, Step
from lca.allocation.task import Task
from lca.allocation.write_behind import BlockRows, WriteBehind
from lca.runtime.workers import Phase
from lca.store import chunks
from lca.store.schema import Status


class BlockPass:
    """Allocates and writes the unfinished blocks. Each block goes to the first process that is free."""

    def __init__(self, task: Task) -> None:
        self.task, self.steps = task, task.steps
        self._last: Arrival | None = None

    def run(self) -> None:
        task = self.task
        allocation, team = task.allocation, task.team
        done, blocks = allocation.read("blocks"), allocation.blocks_of_run
        n_taken = 0
        with WriteBehind(allocation, task.device, task.config.keep_bits) as writer:
            for block in team.workers.take(Phase.BLOCKS, len(blocks)):
                n_taken += 1
                if done[block]:
                    team.advance(sum(t in allocation.iterations for t in blocks.range(block)))
                else:
                    self._allocate_block(block, writer)
        team.advance(0, now=True)
        team.workers.add(Phase.BLOCKS, n_taken)
        if team.leads:
            team.wait(Phase.BLOCKS, len(blocks))

    def _allocate_block(self, block: int, writer: WriteBehind) -> None:
        allocation, team = self.task.allocation, self.task.team
        rows, span = writer.begin(block), allocation.blocks_of_run.range(block)
        config = self.task.config
        predictor = None
        if config.rule == "adaptive" and config.part_limit:
            predictor = TrapezoidPredictor(config.part_limit, allocation.attributes["factors"])
        saved = time.monotonic()
        self.steps.theta.read_ahead(block)
        self.steps.theta.read_ahead(block + 1)
        for row, t in enumerate(span):
            if t not in allocation.iterations:
                continue
            if not rows.is_set(row):
                has_end = t + 1 in span or t + 1 == allocation.n_iterations
                self._allocate_iteration(t, row, rows, has_end, predictor.curvature_limit if predictor else inf)
            share, estimate, n = (rows.read(name, row) for name in ("curvature_share", "part_estimate", "intervals"))
            if predictor:
                predictor.observe(share, estimate, int(n))
            team.advance(1, refined=n > ceil(UNREFINED[config.rule]))
            if team.stop.name:
                writer.save(rows)
                team.raise_if_stopped()
            if len(span) > chunks.BLOCK and time.monotonic() - saved >= chunks.PARTIAL_S:
                writer.save(rows)
                saved = time.monotonic()
        writer.write(rows)

    def _allocate_iteration(self, t: int, row: int, rows: BlockRows, has_end: bool, curvature_limit: float) -> None:
        """Compute iteration t and store its values, and those of θ_t, in a row of the block.

        `has_end` states whether the block has a row for θ_{t+1}. If so, and if iteration t + 1 is not to be allocated,
        the values of θ_{t+1} are stored as well.
        """
        last, self._last = self._last, None
        rows["status", row] = Status.NOT_FINITE  # replaced below, unless θ_t or θ_{t+1} is not finite
        if not self.steps.theta.is_finite(t):
            return
        start = last if last and last.t == t else self.steps.arrive(t)
        _fill(rows, row, self.task.records.collect_iterate(start.leaving))
        if not self.steps.theta.is_finite(t + 1):
            return
        end = self._last = self.steps.arrive(t + 1, start.theta)
        step = Step.between(start, end)
        integral = self.steps.integrate(step, curvature_limit=curvature_limit)
        _fill(rows, row, self.task.records.collect_iteration(integral, step))
        if has_end and t + 1 not in self.task.allocation.iterations:
            _fill(rows, row + 1, self.task.records.collect_iterate(end.arriving))


def _fill(rows: BlockRows, row: int, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        rows[name, row] = value
