"""Every command of `lca plot` corresponds to a function of lca.figures and draws the same pixels."""

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

NOT_FIGURES = {"heading", "save"}


@pytest.fixture
def run(tmp_path):
    """A handmade run with allocations on two splits, in which the last of four iterations is not finite."""
    options = {"status": CONVERGED, "loss": [3.0, 2, 1.5, 1, NAN]}
    norms = {"gradient_norm": np.ones((5, 4)), "motion_norm": np.ones((4, 4))}
    run = make_run(tmp_path / "run.zarr", LCA, **options, **norms)
    add_allocation(run, "val", np.array(LCA) / 2, attributes={"split": "val"}, **options)
    return lca.open(run.path)


def plot(*arguments):
    result = CliRunner().invoke(main, ["plot", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_every_plot_command_has_a_function():
    functions = {name for name, value in vars(figures).items() if inspect.isfunction(value) and name != "__dir__"}
    commands = {name.replace("-", "_") for name in plot_group.commands}
    assert functions - NOT_FIGURES == commands
    assert len(commands) >= 19
    for name in commands:
        function = getattr(figures, name)
        assert function.__doc__, name
        assert inspect.signature(function).parameters["look"].default == Look(), name


# Command with its options -> the fields of Look and the arguments that draw the same figure in Python.
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
def test_shell_and_python_draw_the_same_pixels(tmp_path, run, command):
    name, *options = command.split()
    look, arguments = DRAWN[command]
    plot(name, run.path, *options, "--dpi", 80, "--out", tmp_path / "shell.png")
    figure = getattr(figures, name.replace("-", "_"))(run, Look(**look), **arguments)
    figures.save(figure, str(tmp_path / "python.png"), dpi=80)
    shell, python = imread(tmp_path / "shell.png"), imread(tmp_path / "python.png")
    assert shell.std() > 0.01  # something is drawn
    np.testing.assert_array_equal(shell, python)


def test_result_without_title_equals_shell_with_empty_title(tmp_path, run):
    plot("helping", run.path, "--title", "", "--out", tmp_path / "shell.png")
    figures.save(figures.helping(analysis.helping(run)), tmp_path / "python.png")
    np.testing.assert_array_equal(imread(tmp_path / "shell.png"), imread(tmp_path / "python.png"))


def test_figure_keeps_its_style_under_other_matplotlib_settings(tmp_path, run):
    figure = figures.helping(analysis.helping(run), Look(style="paper"))
    figures.save(figure, tmp_path / "a.png")
    again = figures.helping(analysis.helping(run), Look(style="paper"))
    with rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.facecolor": "black"}):
        again.savefig(tmp_path / "b.png", dpi=160)
    np.testing.assert_array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))


def test_shell_and_python_make_the_same_film_and_report(tmp_path, run):
    plot("animation", run.path, "--size", "320x240", "--out", tmp_path / "shell.gif")
    film = figures.Film(width=320, height=240)
    assert figures.animation(run, str(tmp_path / "python.gif"), film=film) == 4
    assert (tmp_path / "shell.gif").read_bytes() == (tmp_path / "python.gif").read_bytes()
    pytest.importorskip("plotly", reason="needs the extra `report`")
    plot("report", run.path, "--out", tmp_path / "shell.html")
    figures.report(run, str(tmp_path / "python.html"), render_remedy=render)
    assert (tmp_path / "shell.html").read_text() == (tmp_path / "python.html").read_text()


def test_importing_lca_imports_nothing_heavy():
    code = "import sys, lca; assert {'train', 'open', 'figures'} < set(dir(lca)); "
    code += "assert not {'torch', 'matplotlib', 'zarr', 'numpy'} & set(sys.modules); "
    code += "lca.figures.save; assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
