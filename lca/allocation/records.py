"""The values that an allocation stores for each iteration and each iterate, keyed by the names of its arrays."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from lca.allocation.iteration import Evaluation, Integral
from lca.allocation.steps import Step
from lca.model.vectors import norm_by_tensor, sum_by_tensor
from lca.store.parameters import ParameterTable

BITS = (128, 64, 32, 16, 8, 4, 2, 1)


class Records:
    """Computes the values of the arrays of an allocation. All tensors stay on the device."""

    def __init__(self, table: ParameterTable, arrays: Collection[str], device: torch.device) -> None:
        self.arrays = arrays
        self.lengths = torch.tensor(table.sizes, device=device)
        self._bits = torch.tensor(BITS, dtype=torch.uint8, device=device)

    def collect_iteration(self, integral: Integral, step: Step) -> dict[str, Any]:
        """Return the values of one iteration, keyed by array name."""
        values = {
            "lca": integral.allocation,
            "allocated": integral.allocated,
            "residual": integral.residual,
            "intervals": integral.intervals,
            "status": int(integral.status),
            "part_estimate": integral.part_estimate,
            "curvature_share": integral.curvature_share,
            "tensor_lca": sum_by_tensor(integral.allocation, self.lengths),
            "motion_norm": norm_by_tensor(step.theta1 - step.theta0, self.lengths),
            "class_lca": integral.class_allocation,
        }
        return {name: value for name, value in values.items() if name in self.arrays}

    def collect_iterate(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return the values of one iterate, keyed by array name."""
        values = {
            "loss": evaluation.loss,
            "gradient_norm": norm_by_tensor(evaluation.gradient, self.lengths),
        }
        if "gradient_sign" in self.arrays:
            values["gradient_sign"] = self._pack(evaluation.gradient > 0)
        return values

    def _pack(self, bits: Tensor) -> Tensor:
        """Pack booleans (K,) into bytes (⌈K/8⌉,), the first into the highest bit, like numpy.packbits."""
        padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -len(bits) % 8))
        return (padded.view(-1, 8) * self._bits).sum(1, dtype=torch.uint8)
