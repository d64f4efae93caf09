"""Composite Simpson on [0, 1], as running sums that every halving of the step uses again.

With n subintervals (n even) the nodes are k/n, and

    ∫₀¹ f ≈ (f(0) + f(1) + 4 Σ_{k odd} f(k/n) + 2 Σ_{k even, 0<k<n} f(k/n)) / 3n

On doubling n every interior node becomes an even one, so three sums (ends, odd, even) are all that has to be kept.
n = 2 is the rule of the paper: weights 1, 4, 1 over 6, the coefficients of RK4 [arXiv 1909.01440, section 2].
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


def odd_nodes(n: int) -> list[float]:
    """The nodes that n subintervals have and n/2 do not: k/n for odd k."""
    if n < 2 or n % 2:
        raise ValueError(f"composite Simpson has an even number of subintervals, not {n}")
    return [k / n for k in range(1, n, 2)]


@dataclass(frozen=True)
class Simpson:
    """The sums of f over the nodes of n subintervals: ends, odd and even interior ones."""

    ends: Tensor
    odd: Tensor
    even: Tensor
    n: int

    @classmethod
    def start(cls, ends: Tensor, middle: Tensor) -> Self:
        """n = 2, from f(0) + f(1) and f(½)."""
        return cls(ends, middle, middle.new_zeros(()), 2)

    def halve(self, odd: Tensor) -> "Simpson":
        """Twice as many subintervals; odd: the sum of f over odd_nodes(2 n)."""
        return Simpson(self.ends, odd, self.even + self.odd, 2 * self.n)

    def integral(self) -> Tensor:
        """A new vector, which is the caller's to change."""
        total = torch.add(self.ends, self.odd, alpha=4)
        return total.add_(self.even, alpha=2).div_(3 * self.n)
