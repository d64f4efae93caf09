"""Pruning by LCA, by magnitude and at random, compared with explicitly masked models."""

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.analysis import prune
from lca.analysis._prune import set_least_to_zero
from lca.errors import LCAError, UsageError
from lca.problem.losses import cross_entropy


@pytest.fixture(scope="module")
def allocated_run(tmp_path_factory):
    from conftest import small_problem

    path = tmp_path_factory.mktemp("prune") / "run.zarr"
    lca.train(small_problem(), path, lca.TrainConfig(batch_size=20, iterations=40, learning_rate=0.1, device="cpu"))
    lca.allocate(path, small_problem(), lca.AllocateConfig(device="cpu", audit=0, batch_size=20))
    return lca.open(path)


def evaluator(problem):
    return lca.Evaluator(problem, device="cpu")


def test_least_important_weights_are_pruned_first():
    theta = np.arange(1, 7, dtype=np.float32)
    importance = np.array([5.0, 1, 4, 2, 0, 3])
    candidates = np.array([0, 1, 2, 3, 5])  # all except index 4
    assert set_least_to_zero(theta, candidates, importance, 0.4).tolist() == [1, 0, 3, 0, 5, 6]
    assert set_least_to_zero(theta, candidates, importance, 0.0).tolist() == theta.tolist()
    assert set_least_to_zero(theta, candidates, importance, 0.98).tolist() == [0, 0, 0, 0, 5, 0]
    assert theta.tolist() == [1, 2, 3, 4, 5, 6]


def test_loss_and_accuracy_equal_the_masked_model(allocated_run, problem):
    result = prune(allocated_run, evaluator(problem()), pruned=(0.5, 0.8))
    A = allocated_run.allocation("train").lca[:].astype(np.float64).sum(1)
    theta = allocated_run.weights[:, -1]
    kernels = np.r_[0:16, 24:48]  # the kernels of a 2-8-3 network
    for i, importance in enumerate((-A, np.abs(theta))):
        for j, part in enumerate((0, 0.5, 0.8)):
            masked = theta.copy()
            masked[kernels[np.argsort(importance[kernels])[: round(part * 40)]]] = 0
            given = problem()
            nn.utils.vector_to_parameters(torch.from_numpy(masked), given.model.parameters())
            for split in ("train", "val"):
                x, y = given.splits[split]
                with torch.no_grad():
                    loss = nn.functional.cross_entropy(given.model(x), y).item()
                    right = (given.model(x).argmax(1) == y).float().mean().item()
                assert result.loss[split][i, j] == pytest.approx(loss, rel=1e-5)
                assert result.accuracy[split][i, j] == pytest.approx(right)
    assert result.criteria == ["LCA", "magnitude", "random"]
    assert result.pruned.tolist() == [0, 0.5, 0.8]
    assert len(set(result.loss["train"][:, 0])) == 1  # without pruning, all criteria agree
    again = prune(allocated_run, evaluator(problem()), pruned=(0.5, 0.8), seed=1)
    assert again.loss["train"][:2].tolist() == result.loss["train"][:2].tolist()
    assert again.loss["train"][2, 1] != result.loss["train"][2, 1]


def test_each_split_has_a_table(allocated_run, problem):
    answer = prune(allocated_run, evaluator(problem())).to_answer()
    assert [table.title for table in answer.tables] == [
        "train loss (nats) and accuracy of the pruned model, by criterion",
        "val loss (nats) and accuracy of the pruned model, by criterion",
    ]
    assert list(answer.tables[0].rows) == ["none", "50 %", "80 %", "90 %", "95 %", "98 %"]
    names = ("LCA", "magnitude", "random")
    assert list(answer.tables[0].columns) == [*(f"loss, {n}" for n in names), *(f"accuracy %, {n}" for n in names)]


def test_problem_without_accuracy_has_no_accuracy_columns(allocated_run, problem):
    given = problem()
    custom = lca.Problem(given.model, lambda model, batch: cross_entropy(model, batch), given.train)
    result = prune(allocated_run, evaluator(custom), pruned=(0.5,))
    assert np.isnan(result.accuracy["train"]).all()
    assert list(result.to_answer().tables[0].columns) == ["loss, LCA", "loss, magnitude", "loss, random"]


def test_wrong_model_and_invalid_fraction_are_rejected(allocated_run, problem):
    with pytest.raises(LCAError, match="does not match the model that"):
        prune(allocated_run, evaluator(problem(model=nn.Linear(2, 3))))
    with pytest.raises(UsageError, match="pruned: expected fractions between 0 and 1, found 0.5, 1"):
        prune(allocated_run, evaluator(problem()), pruned=(0.5, 1))
