"""Attributes of a run that describe the model when recording starts and ends, such as digests of its buffers."""

from typing import Any

import torch
from torch import nn

from lca.errors import UsageError
from lca.model.parameters import flatten, get_named_parameters
from lca.problem.problem import Problem
from lca.problem.provenance import describe_changes, describe_fixed, describe_problem
from lca.problem.reference import compute_reference_loss
from lca.store.run import Run


class Endpoints:
    """Describes the model when recording starts and when it ends, as attributes of the run.

    `problem` is the problem being trained, or None if it is unknown. Raises UsageError if its model is not the
    recorded one.
    """

    def __init__(self, model: nn.Module, problem: Problem | None) -> None:
        self.model, self.problem = model, problem
        if problem and not _share_parameters(problem.model, model):
            raise UsageError(
                "problem",
                expected="a problem with the recorded model",
                found=f"another {type(problem.model).__name__}",
                remedy="Create it with Problem(model, …), and pass the same model to the optimizer.",
            )
        self._in_eval_mode: list[str] | None = None

    def describe_start(self, known: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes of a new run, including those in `known`, which need not be computed."""
        attributes: dict[str, Any] = {"fixed": describe_fixed(self.model)}
        if self.problem:
            attributes |= {} if "splits" in known else describe_problem(self.problem)
            attributes["reference"] = {"start": compute_reference_loss(self.problem)}
        return {**attributes, **known}

    def observe_modes(self) -> None:
        """Remember which BatchNorm modules are in eval mode at the first optimizer step. Later calls do nothing."""
        if self._in_eval_mode is None:
            self._in_eval_mode = [
                name
                for name, module in self.model.named_modules()
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.training
            ]

    def describe_end(self, run: Run) -> dict[str, Any]:
        """Return the attributes to add to a run whose iterates have all been written."""
        attributes: dict[str, Any] = {"fixed_at_end": describe_changes(run.attributes["fixed"], self.model)}
        if self._in_eval_mode:
            attributes["batchnorm_in_eval_mode"] = self._in_eval_mode
        if self.problem and self._is_at_last_iterate(run, self.problem.model):
            attributes["reference"] = {**run.attributes["reference"], "end": compute_reference_loss(self.problem)}
        return attributes

    def _is_at_last_iterate(self, run: Run, model: nn.Module) -> bool:
        """Return whether the parameters are those of the last iterate. A loop may change them after its last step."""
        last = torch.from_numpy(run.iterate(run.n_iterations))
        return bool(torch.equal(flatten(model).cpu(), last))


def _share_parameters(one: nn.Module, other: nn.Module) -> bool:
    return {id(x) for x in get_named_parameters(one).values()} == {id(x) for x in get_named_parameters(other).values()}
