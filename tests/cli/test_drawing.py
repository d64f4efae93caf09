"""The shell and Python draw the same: every command of `lca plot` is a function of lca.figures, and has its pixels."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from handmade import CONVERGED, LCA, NAN, add_allocation, make_run
from matplotlib import rc_context
from matplotlib.image import imread

import lca
from lca import analysis, figures
from lca.cli.errors import render
from lca.cli.main import main
from lca.cli.plot import plot as plot_group
from lca.figures import Look

NO_FIGURES = {"heading", "save"}


@pytest.fixture
def run(tmp_path):
    """The LCA made by hand, on a train loss and on another; of its four iterations the last is not finite."""
    options = {"status": CONVERGED, "loss": [3.0, 2, 1.5, 1, NAN]}
    norms = {"gradient_norm": np.ones((5, 4)), "motion_norm": np.ones((4, 4))}
    run = make_run(tmp_path / "run.zarr", LCA, **options, **norms)
    add_allocation(run, "val", np.array(LCA) / 2, attributes={"split": "val"}, **options)
    return lca.open(run.path)


def plot(*arguments):
    result = CliRunner().invoke(main, ["plot", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_every_figure_of_the_shell_is_one_of_python():
    functions = {name for name, value in vars(figures).items() if inspect.isfunction(value) and name != "__dir__"}
    commands = {name.replace("-", "_") for name in plot_group.commands}
    assert functions - NO_FIGURES == commands
    assert len(commands) >= 19
    for name in commands:
        function = getattr(figures, name)
        assert function.__doc__, name
        assert inspect.signature(function).parameters["look"].default == Look(), name


# By the command with its options: what Python is given for the same.
DRAWN = {
    "loss --iterations 1:3": ({"iterations": (1, 3)}, {}),
    "helping": ({}, {}),
    "helping --style paper": ({"style": "paper"}, {}),
    "helping --iterations :2": ({"iterations": (None, 2)}, {}),
    "helping-by-layer --layers 1": ({"layers": "1"}, {}),
    "helping-by-parameter": ({}, {}),
    "distribution --style paper": ({"style": "paper"}, {}),
    "layers --colors blue-orange": ({"colors": "blue-orange"}, {}),
    "peaks": ({}, {}),
    "frame --layers 1 --style paper": ({"layers": "1", "style": "paper"}, {}),
    "neurons --layers 1 --iterations 1:3": ({"layers": "1", "iterations": (1, 3)}, {}),
    "curves --parameter worst": ({}, {"parameters": ["worst"]}),
    "cumulative": ({}, {}),
    "oscillation": ({}, {}),
    "overfit": ({}, {}),
    "error --against val": ({}, {"against": ["val"]}),
}


@pytest.mark.parametrize("command", DRAWN)
def test_the_pixels_are_the_same(tmp_path, run, command):
    name, *options = command.split()
    look, arguments = DRAWN[command]
    plot(name, run.path, *options, "--dpi", 80, "--out", tmp_path / "shell.png")
    figure = getattr(figures, name.replace("-", "_"))(run, Look(**look), **arguments)
    figures.save(figure, str(tmp_path / "python.png"), dpi=80)
    shell, python = imread(tmp_path / "shell.png"), imread(tmp_path / "python.png")
    assert shell.std() > 0.01  # something is drawn
    np.testing.assert_array_equal(shell, python)


def test_a_result_without_a_title_is_drawn_as_the_shell_draws_with_none(tmp_path, run):
    plot("helping", run.path, "--title", "", "--out", tmp_path / "shell.png")
    figures.save(figures.helping(analysis.helping(run)), tmp_path / "python.png")
    np.testing.assert_array_equal(imread(tmp_path / "shell.png"), imread(tmp_path / "python.png"))


def test_a_figure_keeps_its_style(tmp_path, run):
    """Also where it is saved by matplotlib's own method, in a process with other settings."""
    figure = figures.helping(analysis.helping(run), Look(style="paper"))
    figures.save(figure, tmp_path / "a.png")
    again = figures.helping(analysis.helping(run), Look(style="paper"))
    with rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.facecolor": "black"}):
        again.savefig(tmp_path / "b.png", dpi=160)
    np.testing.assert_array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))


def test_a_film_and_a_report_are_the_same(tmp_path, run):
    plot("animation", run.path, "--size", "320x240", "--out", tmp_path / "shell.gif")
    film = figures.Film(width=320, height=240)
    assert figures.animation(run, str(tmp_path / "python.gif"), film=film) == 4
    assert (tmp_path / "shell.gif").read_bytes() == (tmp_path / "python.gif").read_bytes()
    pytest.importorskip("plotly", reason="needs the extra `report`")
    plot("report", run.path, "--out", tmp_path / "shell.html")
    figures.report(run, str(tmp_path / "python.html"), render_remedy=render)
    assert (tmp_path / "shell.html").read_text() == (tmp_path / "python.html").read_text()


def test_importing_lca_waits_for_nothing():
    code = "import sys, lca; assert {'train', 'open', 'figures'} < set(dir(lca)); "
    code += "assert not {'torch', 'matplotlib', 'zarr', 'numpy'} & set(sys.modules); "
    code += "lca.figures.save; assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
