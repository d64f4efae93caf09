"""Allocate a problem with two parameters, small enough to check by hand, and draw it.

    python two_parameters.py [FIGURE.png]

The parameters are p and q. The dataset has two examples, s = +1 and s = −1, with the losses ½q² + sp. Their mean,
L = ½q², does not depend on p. SGD sees one example per step, so the mini-batch noise also moves p. But every change of
L is due to q.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import lca


class TwoParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([0.0]))
        self.q = nn.Parameter(torch.tensor([2.0]))


def losses(model, batch):
    (sign,) = batch
    return 0.5 * model.q**2 + sign * model.p


signs = torch.tensor([1.0, -1.0])


def train_and_allocate(path, iterations=6):
    """Train, allocate, and return the iterates, shape (2, T + 1), and the LCA, shape (2, T)."""
    model = TwoParameters()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    with lca.Recorder(path, model) as recorder:
        recorder.attach(optimizer)
        for t in range(iterations):
            optimizer.zero_grad()
            losses(model, (signs[t % 2],)).sum().backward()
            optimizer.step()
    lca.allocate(path, lca.Problem(model, losses, train=(signs,)))
    run = lca.open(path)
    return run.weights[:, :], run.allocation("train").lca[:, :]


def draw(theta, A, file):
    """Draw the path on the contours of L, and the LCA of each parameter over the iterations."""
    figure, (surface, *bars) = plt.subplots(1, 3, figsize=(9, 3), layout="constrained", width_ratios=(1.5, 1, 1))
    x, y = np.meshgrid(np.linspace(-0.9, 0.3, 50), np.linspace(-1, 2.3, 100))
    surface.contourf(x, y, 0.5 * y**2, levels=12, cmap="Grays", alpha=0.5)
    surface.plot(*theta, "o-", color="black", markersize=4)
    for t, offset in enumerate([(8, -4), (-16, -4), (8, -4), (-16, -4)]):
        surface.annotate(rf"$\theta_{t}$", theta[:, t], xytext=offset, textcoords="offset points")
    surface.set(xlabel="p", ylabel="q", title="Path on the loss L = ½q²")
    for i, axes in enumerate(bars):
        axes.bar(range(A.shape[1]), A[i], color=np.where(A[i] < 0, "#1a9641", "#d7191c"))
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(ylim=(-1.6, 0.3), yticks=(-1.5, -1, -0.5, 0), xlabel="iteration", title=f"LCA of {'pq'[i]}")
    bars[0].set_ylabel("below 0 helps, above 0 hurts")
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        theta, A = train_and_allocate(Path(folder) / "two.zarr")
    print("t        p        q    A of p    A of q")
    for t, row in enumerate(np.stack([*theta[:, :-1], *A], axis=1) + 0):  # + 0 turns -0.0 into 0.0
        print(f"{t} {row[0]:8.5f} {row[1]:8.5f} {row[2]:9.5f} {row[3]:9.5f}")
    if len(sys.argv) > 1:
        draw(theta, A, sys.argv[1])
