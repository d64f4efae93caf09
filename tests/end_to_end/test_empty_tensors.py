"""Parameters without elements, as in models with an optional part of width 0, in every analysis and figure."""

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca import analysis, figures
from lca.errors import UsageError
from lca.problem.losses import cross_entropy

EMPTY = ["first", "between.weight", "last.weight"]
ITERATIONS = 30


class Model(nn.Module):
    """A network with empty tensors before, between and after its layers. One of them is a layer of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(0))
        self.dense = nn.Linear(2, 4)
        self.between = nn.Module()
        self.between.weight = nn.Parameter(torch.zeros(0, 5))
        self.out = nn.Linear(4, 2)
        self.last = nn.Module()
        self.last.weight = nn.Parameter(torch.zeros(3, 0))

    def forward(self, x):
        nothing = self.first.sum() + self.between.weight.sum() + self.last.weight.sum()
        return self.out(torch.relu(self.dense(x))) + nothing


def make_problem(seed):
    torch.manual_seed(seed)
    x = torch.randn(60, 2)
    y = (x.sum(dim=1) > 0).long()
    return lca.Problem(
        Model(), cross_entropy, train=(x[:40], y[:40]), val=(x[40:], y[40:]), groups=lambda batch: batch[1]
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Paths of two runs that differ in momentum, with every array that an analysis can need."""
    folder, paths = tmp_path_factory.mktemp("empty"), []
    for i in range(2):
        problem, path = make_problem(i), folder / f"{i}.zarr"
        config = lca.TrainConfig(iterations=ITERATIONS, batch_size=10, momentum=i / 2, seed=i, device="cpu")
        lca.train(problem, path, config)
        options = {"by_class": True, "gradient_signs": True, "device": "cpu", "audit": 0.2}
        lca.allocate(path, problem, lca.AllocateConfig(**options))
        lca.allocate(path, problem, lca.AllocateConfig(split="val", device="cpu", audit=0))
        lca.allocate(path, problem, lca.AllocateConfig(name="part", examples=20, device="cpu", audit=0))
        paths.append(str(path))
    return paths


def ask(question, runs):
    """Ask a question about all runs, or about each group if it compares them."""
    special = {
        "compare": lambda: analysis.compare(runs[:1], runs[1:]),
        "trend": lambda: analysis.trend(runs, "momentum"),
        "prune": lambda: analysis.prune(runs[0], lca.Evaluator(make_problem(0), device="cpu")),
    }
    return special.get(question, lambda: getattr(analysis, question)(runs))()


@pytest.mark.parametrize("question", analysis.__dir__())
def test_every_question_is_answered(runs, question):
    result = ask(question, runs)
    assert str(result)
    result.to_answer().to_json()


def test_empty_tensors_have_no_lca_and_change_no_other_value(runs):
    run = lca.open(runs[0])
    assert [p.name for p in run.parameters if not p.size] == EMPTY
    stored = run.allocation("train").lca[:]
    result = analysis.helping(run)
    for i, parameter in enumerate(run.parameters):
        values = stored[parameter.span]
        np.testing.assert_array_equal(result.helped[:, i], (values < 0).sum(axis=0))
        np.testing.assert_array_equal(result.hurt[:, i], (values > 0).sum(axis=0))
    np.testing.assert_allclose(analysis.neurons(run).total.sum(), stored.sum(dtype=np.float64), rtol=1e-6)
    changes = analysis.oscillation(run)
    assert changes.moving[[0, 3, 6]].tolist() == [0, 0, 0]
    assert changes.moving.sum() == (np.diff(run.weights[:], axis=1) != 0).any(axis=1).sum()


@pytest.mark.parametrize("name", sorted(set(dir(figures)) - {"Film", "Look", "heading", "save", "animation", "report"}))
def test_every_figure_is_drawn(runs, name):
    if name == "prune":
        figure = figures.prune(ask("prune", runs))
    elif name == "trend":
        figure = figures.trend(runs, option="momentum")
    else:
        figure = getattr(figures, name)(runs[0])
    assert figure.axes


def test_report_and_animation_are_written(runs, tmp_path):
    figures.report(runs, tmp_path / "report.html")
    figures.animation(runs[0], tmp_path / "film.gif")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "film.gif").stat().st_size > 1_000


def test_frame_of_empty_layers_is_refused(runs):
    with pytest.raises(
        UsageError, match="layers: expected a layer with parameters, found layers whose tensors are all"
    ):
        figures.frame(runs[0], figures.Look(layers="between"))
