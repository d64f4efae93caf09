"""Losses whose exact allocation is known, in closed form or by brute force. This module does not import lca.

Every loss has the methods loss(theta), which returns a float64 scalar, gradient(theta) of shape (K,), and
allocation(theta0, theta1) of shape (K,), which returns the exact Δ_i ∫₀¹ ∂_i L(θ0 + sΔ) ds.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Quadratic:
    """The loss L = ½ θᵀHθ + bᵀθ.

    Its gradient is linear along a step, so the allocation is Δ times the gradient at the midpoint.
    """

    hessian: Tensor
    b: Tensor

    @classmethod
    def random(cls, K: int, seed: int) -> "Quadratic":
        generator = torch.Generator().manual_seed(seed)
        root = torch.randn(K, K, generator=generator, dtype=torch.float64)
        return cls(root @ root.T / K, torch.randn(K, generator=generator, dtype=torch.float64))

    def loss(self, theta: Tensor) -> Tensor:
        return 0.5 * theta @ self.hessian @ theta + self.b @ theta

    def gradient(self, theta: Tensor) -> Tensor:
        return self.hessian @ theta + self.b

    def allocation(self, theta0: Tensor, theta1: Tensor) -> Tensor:
        return (theta1 - theta0) * self.gradient((theta0 + theta1) / 2)


@dataclass
class Separable:
    """The loss L = Σ_i w_i f_i(θ_i), where f_i cycles through cube, exp and sin.

    The allocation is w_i (f_i(θ1_i) − f_i(θ0_i)).
    """

    weights: Tensor

    def parts(self, theta: Tensor) -> Tensor:
        values = torch.stack([theta**3, theta.exp(), theta.sin()])
        return self.weights * self._pick(values)

    def loss(self, theta: Tensor) -> Tensor:
        return self.parts(theta).sum()

    def gradient(self, theta: Tensor) -> Tensor:
        return self.weights * self._pick(torch.stack([3 * theta**2, theta.exp(), theta.cos()]))

    def allocation(self, theta0: Tensor, theta1: Tensor) -> Tensor:
        return self.parts(theta1) - self.parts(theta0)

    @staticmethod
    def _pick(values: Tensor) -> Tensor:
        columns = torch.arange(values.shape[1])
        return values[columns % len(values), columns]


@dataclass
class TinyNet:
    """The cross-entropy of a 3-4-2 tanh network on 7 examples, in float64, with a hand-written gradient.

    The allocation is computed by Gauss–Legendre quadrature with 60 nodes, which is exact up to rounding here.
    """

    x: Tensor
    y: Tensor

    n_in, n_hidden, n_out = 3, 4, 2
    K = n_in * n_hidden + n_hidden + n_hidden * n_out + n_out

    @classmethod
    def random(cls, seed: int, n_examples: int = 7) -> "TinyNet":
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n_examples, cls.n_in, generator=generator, dtype=torch.float64)
        return cls(x, torch.randint(cls.n_out, (n_examples,), generator=generator))

    def _forward(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        i, h, o = self.n_in, self.n_hidden, self.n_out
        w1, b1, w2, b2 = theta.split([h * i, h, o * h, o])
        hidden = torch.tanh(self.x @ w1.view(h, i).T + b1)
        return hidden, hidden @ w2.view(o, h).T + b2, w2.view(o, h)

    def loss(self, theta: Tensor) -> Tensor:
        _, logits, _ = self._forward(theta)
        picked = logits[torch.arange(len(self.y)), self.y]
        return (logits.exp().sum(1).log() - picked).mean()

    def gradient(self, theta: Tensor) -> Tensor:
        hidden, logits, w2 = self._forward(theta)
        d_logits = torch.softmax(logits, 1)
        d_logits[torch.arange(len(self.y)), self.y] -= 1
        d_logits /= len(self.y)
        d_hidden = (d_logits @ w2) * (1 - hidden**2)
        parts = [d_hidden.T @ self.x, d_hidden.sum(0), d_logits.T @ hidden, d_logits.sum(0)]
        return torch.cat([part.reshape(-1) for part in parts])

    def allocation(self, theta0: Tensor, theta1: Tensor) -> Tensor:
        nodes, weights = np.polynomial.legendre.leggauss(60)
        delta = theta1 - theta0
        mean = sum(w / 2 * self.gradient(theta0 + (s + 1) / 2 * delta) for s, w in zip(nodes, weights, strict=True))
        return delta * mean
