"""The steps of a trajectory: loss and gradient at both ends of an iteration, and integration between them."""

from dataclasses import dataclass, replace
from math import inf

from torch import Tensor

from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.allocation.iteration import Evaluation, Integral, integrate_iteration
from lca.allocation.trajectory import Trajectory


@dataclass(frozen=True)
class Arrival:
    """The iterate θ_t (K,), with its evaluations as the end of iteration t − 1 and as the start of iteration t.

    The evaluations `arriving` and `leaving` differ only if the LCA is split by class. Each then holds the slopes along
    its own step.
    """

    t: int
    theta: Tensor
    arriving: Evaluation
    leaving: Evaluation


@dataclass(frozen=True)
class Step:
    """The iterates θ0 and θ1 (K,) of an iteration and the evaluations there, with any slopes along θ1 − θ0."""

    theta0: Tensor
    theta1: Tensor
    start: Evaluation
    end: Evaluation

    @classmethod
    def between(cls, start: Arrival, end: Arrival) -> "Step":
        return cls(start.theta, end.theta, start.leaving, end.arriving)


@dataclass(frozen=True)
class Steps:
    """Evaluates and integrates the steps of a trajectory.

    `gradient` and `theta` are context managers that must have been entered. `tolerance` is the largest residual allowed
    in an iteration, in units of the loss.
    """

    gradient: FullGradient
    theta: Trajectory
    config: AllocateConfig
    tolerance: float

    def arrive(self, t: int, before: Tensor | None = None) -> Arrival:
        """Evaluate θ_t. Pass θ_{t−1} as `before` if the slopes along the step from there are needed as well."""
        theta = self.theta(t)
        if self.gradient.by_class is None:
            evaluation = self.gradient.evaluate_iterate(theta)
            return Arrival(t, theta, evaluation, evaluation)
        steps = [] if before is None else [theta.double() - before]
        steps += [self.theta(t + 1).double() - theta] if t < self.theta.run.n_iterations else []
        evaluation = self.gradient.evaluate_iterate(theta, *steps)
        if len(steps) == 1:
            return Arrival(t, theta, evaluation, evaluation)
        assert evaluation.slopes is not None
        arriving, leaving = (replace(evaluation, slopes=slopes) for slopes in evaluation.slopes)
        return Arrival(t, theta, arriving, leaving)

    def take(self, t: int) -> Step:
        """Evaluate both ends of iteration t and return its step."""
        start = self.arrive(t)
        return Step.between(start, self.arrive(t + 1, start.theta))

    def integrate(self, step: Step, min_intervals: int = 1, curvature_limit: float = inf) -> Integral:
        """Allocate the loss change of a step, using at least min_intervals subintervals.

        `curvature_limit` is the largest curvature share for which the adaptive rule keeps the trapezoidal rule.
        """
        return integrate_iteration(
            self.gradient,
            step.theta0,
            step.theta1,
            step.start,
            step.end,
            tolerance=self.tolerance,
            part_tolerance=self.config.part_limit or inf,
            curvature_limit=curvature_limit,
            max_intervals=self.config.max_intervals,
            min_intervals=min_intervals,
            rule=self.config.rule,
        )
