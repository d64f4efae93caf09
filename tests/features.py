"""A model whose loss depends on random features besides θ, and a recorded training run of it."""

import torch
from conftest import small_problem
from torch import nn

import lca


class Features(nn.Module):
    """A trained layer on random features, which are either a frozen parameter or a buffer."""

    def __init__(self, seed, frozen):
        super().__init__()
        torch.manual_seed(seed)
        random = torch.randn(2, 8)
        if frozen:
            self.random = nn.Parameter(random, requires_grad=False)
        else:
            self.register_buffer("random", random)
        self.register_buffer("n", torch.zeros(()))
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        if self.training:
            self.n += 1
        return self.out(torch.cos(x @ self.random))


def trained(path, frozen, seed=0, folder=None):
    given = small_problem(model=Features(seed, frozen))
    optimizer = torch.optim.SGD([p for p in given.model.parameters() if p.requires_grad], 0.1)
    with lca.Recorder(path, given.model) as recorder:
        recorder.attach(optimizer)
        for step in range(4):
            if folder:
                torch.save(given.model.state_dict(), folder / f"{step}.pt")
            optimizer.zero_grad()
            given.losses(given.model, given.train).mean().backward()
            optimizer.step()
    return given
