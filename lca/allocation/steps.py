"""The steps of a trajectory, each with what is found at its ends, and their integration."""

from dataclasses import dataclass, replace

from torch import Tensor

from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.allocation.iteration import Evaluation, Integral, integrate_iteration
from lca.allocation.trajectory import Trajectory


@dataclass(frozen=True)
class Arrival:
    """θ_t (K,), and what is found there for the step that leads to it and for the one that leaves it.

    The two differ where classes are told apart: each has the slopes along its own step.
    """

    t: int
    theta: Tensor
    arriving: Evaluation
    leaving: Evaluation


@dataclass(frozen=True)
class Step:
    """An iteration: the iterates at its ends, (K,), and the evaluations there, with slopes along the step."""

    theta0: Tensor
    theta1: Tensor
    start: Evaluation
    end: Evaluation

    @classmethod
    def between(cls, start: Arrival, end: Arrival) -> "Step":
        return cls(start.theta, end.theta, start.leaving, end.arriving)


@dataclass(frozen=True)
class Steps:
    """The steps of a trajectory. gradient, theta: entered."""

    gradient: FullGradient
    theta: Trajectory
    config: AllocateConfig

    def arrive(self, t: int, before: Tensor | None = None) -> Arrival:
        """Evaluate θ_t; before: θ_{t−1}, where the step from there is wanted too."""
        theta = self.theta(t)
        if self.gradient.by_class is None:
            evaluation = self.gradient.at_iterate(theta)
            return Arrival(t, theta, evaluation, evaluation)
        steps = [] if before is None else [theta.double() - before]
        steps += [self.theta(t + 1).double() - theta] if t < self.theta.run.n_iterations else []
        evaluation = self.gradient.at_iterate(theta, *steps)
        if len(steps) == 1:
            return Arrival(t, theta, evaluation, evaluation)
        assert evaluation.slopes is not None
        arriving, leaving = (replace(evaluation, slopes=slopes) for slopes in evaluation.slopes)
        return Arrival(t, theta, arriving, leaving)

    def take(self, t: int) -> Step:
        """Evaluate both ends of iteration t."""
        start = self.arrive(t)
        return Step.between(start, self.arrive(t + 1, start.theta))

    def integrate(self, step: Step, min_intervals: int = 1) -> Integral:
        """Allocate the loss change of a step, with at least min_intervals subintervals."""
        return integrate_iteration(
            self.gradient,
            step.theta0,
            step.theta1,
            step.start,
            step.end,
            tolerance=self.config.tolerance,
            max_intervals=self.config.max_intervals,
            min_intervals=min_intervals,
            rule=self.config.rule,
        )
