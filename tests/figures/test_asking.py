"""Every figure accepts paths, runs and results, and refuses anything else with a UsageError."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from artists import LOOK, read_heights, read_labels
from handmade import CONVERGED, LCA, add_allocation, make_run

import lca
from lca import analysis, figures
from lca.errors import LCAError, UsageError
from lca.figures.style import Look

WRITES_A_FILE = {"animation", "report"}
NO_FIGURES = {"Film", "Look", "heading", "save"}
FIGURES = sorted(set(dir(figures)) - NO_FIGURES - WRITES_A_FILE)
OF_ONE_RUN = ("cumulative", "curves", "distribution", "error", "frame", "helping", "loss", "neurons", "peaks")
OPTIONS = {"trend": {"option": "momentum"}, "prune": {"evaluate": lambda *arguments: None}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in momentum, with everything that the figures need except for a model."""
    norms = {"gradient_norm": np.ones((5, 4)), "motion_norm": np.ones((4, 4))}
    folder, made = tmp_path_factory.mktemp("asking"), []
    for i in range(2):
        run = make_run(folder / f"{i}.zarr", np.add(LCA, i), status=CONVERGED, training={"momentum": i}, **norms)
        add_allocation(run, "val", np.array(LCA) / 2, status=CONVERGED, attributes={"split": "val"})
        add_allocation(run, "of-5", np.array(LCA), status=CONVERGED, attributes={"examples": 5})
        made.append(lca.open(run.path))
    return made


def read_title(figure):
    return figure.axes[0].get_title(loc="left")


def test_layers_accepts_paths_runs_and_results(runs):
    first, second = runs
    for given in (str(first.path), first.path.path, first, [first], [str(first.path)], analysis.layers(first)):
        (axes,) = figures.layers(given).axes
        assert read_heights(axes) == pytest.approx(analysis.layers(first).total)
    mean = np.mean([analysis.layers(run).total for run in runs], axis=0)
    for given in (runs, (first, str(second.path)), analysis.layers(runs), [analysis.layers(run) for run in runs]):
        (axes,) = figures.layers(given).axes
        assert read_heights(axes) == pytest.approx(mean)


def test_layers_accepts_groups_of_runs_or_results(runs):
    first, second = runs
    for given, labels in (
        ({"a": first, "b": [second]}, ()),
        ({"a": analysis.layers(first), "b": analysis.layers([second])}, ()),
        ([[first], [second]], ("a", "b")),
    ):
        figure = figures.layers(given, labels=labels)
        assert read_heights(figure.axes[0])[:2] == pytest.approx(analysis.layers(first).total)
        assert read_labels(figure.legends[0].texts) == ["a (n = 1)", "b (n = 1)"]
    figure = figures.layers([[first], [second]])
    assert read_labels(figure.legends[0].texts) == ["A (n = 1)", "B (n = 1)"]
    with pytest.raises(UsageError, match="labels: expected 2, one per group of runs, found 1"):
        figures.layers([[first], [second]], labels=["a"])


def test_only_figures_of_runs_have_a_default_title(runs):
    assert read_title(figures.layers(runs)) == "LCA of the train loss, 2 runs"
    assert read_title(figures.layers(runs[0], name="val")) == figures.heading(runs[0], "val") == "LCA of the val loss"
    assert read_title(figures.layers({"a": runs[0], "b": runs[1]})) == "LCA of the train loss, 2 runs"
    assert read_title(figures.layers(runs, LOOK)) == "a title"
    assert read_title(figures.layers(runs, Look(""))) == ""
    assert read_title(figures.layers(analysis.layers(runs))) == ""


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_the_same_signature(name):
    function = getattr(figures, name)
    parameters = inspect.signature(function).parameters
    assert list(parameters)[:3] == ["runs", "look", "name"]
    assert all(parameter.kind == parameter.KEYWORD_ONLY for parameter in list(parameters.values())[2:])
    defaults = [parameters[each].default for each in ("look", "name")]
    assert defaults == [Look(), "train"]
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert f"\n    {section}\n" in function.__doc__


@pytest.mark.parametrize("name", sorted(set(FIGURES) - {"prune"}))
def test_every_figure_accepts_runs(name, runs):
    given = str(runs[0].path) if name in OF_ONE_RUN else runs
    figure = getattr(figures, name)(given, **OPTIONS.get(name, {}))
    texts = [figure.get_suptitle(), *(axes.get_title(loc="left") for axes in figure.axes)]
    assert any("LCA of the train loss" in text for text in texts)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("given", [None, 3, [None], {"a": 1}, [{}], b""], ids=str)
def test_other_arguments_are_refused(name, given):
    with pytest.raises(UsageError, match=r"^runs: expected an? .*, found a \w+\.$"):
        getattr(figures, name)(given, **OPTIONS.get(name, {}))


def test_results_of_another_question_are_refused(runs):
    with pytest.raises(UsageError, match=r"an lca\.analysis\.Layers, or a list of one kind, found a Helping"):
        figures.layers(analysis.helping(runs[0]))
    with pytest.raises(UsageError, match="found a Layers"):
        figures.layers([runs[0], analysis.layers(runs[0])])


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_figures_of_one_run_refuse_several(name, runs):
    with pytest.raises(UsageError, match="runs: expected one, because this figure shows a single run, found 2"):
        getattr(figures, name)(runs)


def test_empty_input_is_refused():
    with pytest.raises(UsageError, match="expected at least one run, found none"):
        figures.layers([])
    with pytest.raises(UsageError, match="expected at least one run, found none"):
        figures.layers({})
    with pytest.raises(UsageError, match="expected an lca.analysis.Layers for each name, found none"):
        figures.cumulative({})
    with pytest.raises(UsageError, match="expected one, because this figure shows a single run, found 0"):
        figures.helping([])


def test_missing_and_invalid_options_are_named(runs):
    with pytest.raises(UsageError, match=r"Pass option, such as"):
        figures.trend(runs)
    with pytest.raises(UsageError, match=r"Pass evaluate, such as lca\.Evaluator"):
        figures.prune(runs)
    with pytest.raises(UsageError, match="what: expected one of LCA, LCA by class, gradient norm, motion, found"):
        figures.peaks(runs[0], what="loss")
    with pytest.raises(UsageError, match="what: expected one of LCA, gradient norm, motion, found 'LCA by class'"):
        figures.peaks(analysis.synchrony(runs[0]), what="LCA by class")
    with pytest.raises(LCAError, match="has no allocation 'test'"):
        figures.overfit(runs, against="test")


def test_package_exports_only_public_names_and_does_not_import_torch():
    assert dir(figures) == sorted({*FIGURES, *WRITES_A_FILE, *NO_FIGURES})
    assert "layers" in FIGURES
    slow = {"torch", "plotly", "imageio_ffmpeg", "matplotlib.pyplot"}
    code = f"import sys, lca.figures; assert not {slow} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
