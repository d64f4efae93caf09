"""The same eleven examples as a map-style dataset and as an iterable dataset."""

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

X, Y = torch.arange(22.0).reshape(11, 2), torch.arange(11) % 3


class Listed(Dataset):
    """A map-style dataset whose examples are dictionaries of x and y."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data[0])

    def __getitem__(self, i):
        return {"x": self.data[0][i], "y": self.data[1][i]}


class Iterated(IterableDataset):
    """An iterable dataset with the same examples."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return ({"x": x, "y": y} for x, y in zip(*self.data, strict=True))


def losses(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none")
