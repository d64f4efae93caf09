"""Composite Simpson's rule on [0, 1], as running sums that are reused whenever the step is halved.

With n subintervals (n even), the nodes are k/n and

    ∫₀¹ f ≈ (f(0) + f(1) + 4 Σ_{k odd} f(k/n) + 2 Σ_{k even, 0<k<n} f(k/n)) / 3n

When n doubles, every interior node becomes an even node. It is therefore enough to keep the sums over the
endpoints, the odd nodes and the even nodes. For n = 2 the weights are 1/6, 4/6 and 1/6. This is the rule used in the
paper, with the coefficients of RK4 [arXiv 1909.01440, section 2].
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


def odd_nodes(n: int) -> list[float]:
    """Return the nodes that n subintervals add to those of n/2 subintervals: k/n for odd k."""
    if n < 2 or n % 2:
        raise ValueError(f"composite Simpson's rule: expected an even number of subintervals, found {n}")
    return [k / n for k in range(1, n, 2)]


@dataclass(frozen=True)
class Simpson:
    """The sums of f over the two ends, the odd and the even interior nodes of n subintervals."""

    ends: Tensor
    odd: Tensor
    even: Tensor
    n: int

    @classmethod
    def start(cls, ends: Tensor, middle: Tensor) -> Self:
        """Return the rule with n = 2 from f(0) + f(1) and f(½)."""
        return cls(ends, middle, middle.new_zeros(()), 2)

    def halve(self, odd: Tensor) -> "Simpson":
        """Return the rule with 2n subintervals. `odd` is the sum of f over odd_nodes(2n)."""
        return Simpson(self.ends, odd, self.even + self.odd, 2 * self.n)

    def compute_integral(self) -> Tensor:
        """Return the estimate of ∫₀¹ f(s) ds as a new tensor, which the caller may modify."""
        total = torch.add(self.ends, self.odd, alpha=4)
        return total.add_(self.even, alpha=2).div_(3 * self.n)
