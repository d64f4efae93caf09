"""Loss and accuracy after pruning."""

import numpy as np
from artists import LOOK
from handmade import NAN

from lca import figures
from lca.analysis._prune import Pruned
from lca.analysis.iterations import Iterations

USED = Iterations(np.ones(1, np.uint8), np.ones(2), np.zeros(1), np.zeros(1), "nats")


def test_each_criterion_and_split_has_a_line():
    loss = {"train": np.arange(6.0).reshape(3, 2), "val": np.ones((3, 2))}
    accuracy = {split: values / 10 for split, values in loss.items()}
    result = Pruned(np.array([0, 0.5]), ["LCA", "magnitude", "random"], loss, accuracy, USED)
    left, right = figures.prune([result], LOOK).axes
    np.testing.assert_allclose([line.get_ydata() for line in left.lines[:3]], loss["train"])
    np.testing.assert_allclose([line.get_ydata() for line in right.lines[:3]], 10 * loss["train"])
    assert left.lines[0].get_xdata().tolist() == [0, 50]
    assert [line.get_label() for line in left.lines[2:4]] == ["random, train", "LCA, val"]
    unknown = Pruned(result.pruned, result.criteria, loss, {"train": np.full((3, 2), NAN)}, USED)
    assert len(figures.prune([unknown], LOOK).axes) == 1
