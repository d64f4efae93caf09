"""The objects that the stages of an allocation share."""

from dataclasses import dataclass
from functools import cached_property

import torch

from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.allocation.records import Records
from lca.allocation.steps import Steps
from lca.allocation.teamwork import Teamwork
from lca.allocation.trajectory import Trajectory
from lca.store.allocation import Allocation
from lca.store.allocation_writer import AllocationWriter
from lca.store.run import Run


@dataclass(frozen=True)
class Task:
    """The run to allocate, the allocation to write, and everything needed to compute one from the other.

    `gradient` and `theta` are context managers that must have been entered.
    """

    run: Run
    allocation: Allocation
    gradient: FullGradient
    theta: Trajectory
    config: AllocateConfig
    team: Teamwork

    @property
    def device(self) -> torch.device:
        return self.gradient.device

    @cached_property
    def writer(self) -> AllocationWriter:
        return AllocationWriter(self.allocation)

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.gradient, self.theta, self.config, self.allocation.attributes["tolerance"])

    @cached_property
    def records(self) -> Records:
        return Records(self.run.parameters, self.allocation.arrays, self.gradient.float64_device)
