"""Commands import only the heavy packages that they need: for example, `lca info` does not import torch."""

import subprocess
import sys

import pytest

import lca

CODE = """
import sys
from lca.cli.main import main
try:
    main(sys.argv[1:], standalone_mode=False)
except SystemExit:
    pass
heavy = ("torch", "matplotlib", "numpy", "zarr", "scipy.stats")
print(*(name for name in heavy if name in sys.modules), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def allocated(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.zarr"
    lca.train(lca.load("digits-fc"), path, iterations=4, device="cpu")
    lca.allocate(path, lca.load("digits-fc"), audit=0, device="cpu")
    return path


def find_imported(*arguments):
    """Return the heavy modules that a command imports in a new process."""
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_help_imports_nothing_heavy():
    assert not find_imported("--help")


@pytest.mark.parametrize("command", ["info", "verify"])
def test_info_and_verify_import_only_numpy_and_zarr(allocated, command):
    assert find_imported(command, allocated) == {"numpy", "zarr"}


QUESTIONS = ["helping", "layers", "neurons", "oscillation --no-crossings", "tails", "synchrony", "error", "all"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_analyze_imports_neither_torch_nor_matplotlib(allocated, question):
    imported = find_imported("analyze", *question.split(), allocated)
    assert not imported & {"torch", "matplotlib"}
    assert question != "layers" or "scipy.stats" not in imported


@pytest.mark.parametrize("figure", ["helping", "layers"])
def test_plot_does_not_import_torch(tmp_path, allocated, figure):
    assert "torch" not in find_imported("plot", figure, allocated, "--out", tmp_path / "figure.png")
