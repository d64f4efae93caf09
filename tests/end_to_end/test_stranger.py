"""A new user with the built wheel and their own problem file: from training to report, in the shell and in Python."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from processes import Server

import lca

ROOT = Path(__file__).parent.parent.parent

# A model with two inputs, dict batches, tied weights and a custom loss.
PROBLEM_FILE = '''
import torch
from torch import nn
import lca


class Match(nn.Module):
    """Scores how well two sets of features match. Both pass through the same first weights."""

    def __init__(self, width):
        super().__init__()
        self.left, self.right = nn.Linear(6, width), nn.Linear(6, width)
        self.right.weight = self.left.weight
        self.score = nn.Bilinear(width, width, 1)

    def forward(self, left, right):
        return self.score(torch.tanh(self.left(left)), torch.tanh(self.right(right)))[:, 0]


def losses(model, batch):
    """Return the log-cosh of the error of each pair."""
    error = model(batch["pair"]["left"], batch["pair"]["right"]) - batch["score"]
    return error.abs() + nn.functional.softplus(-2 * error.abs()) - 0.6931471805599453


def make_pairs(n, seed):
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(2, n, 6, generator=generator)
    return {"pair": {"left": left, "right": right}, "score": (left * right).sum(1)}


def make(width: int = 8):
    return lca.Problem(Match(width), losses, train=make_pairs(300, 0), val=make_pairs(60, 1))
'''

IN_PYTHON = """
import lca

problem = lca.load("theirs.py:make", options={"width": 12})
config = lca.TrainConfig(optimizer="adamw", learning_rate=0.01, batch_size=50, iterations=70, device="cpu")
lca.train(problem, "python.zarr", config)
for split in ("train", "val"):
    summary = lca.allocate("python.zarr", problem, lca.AllocateConfig(split=split, device="cpu"))
    assert summary.within_bounds
run = lca.open("python.zarr")
layers = lca.analysis.layers(run)
print(dict(zip(layers.layers, layers.total.tolist())))
lca.figures.save(lca.figures.layers(layers, lca.figures.Look(lca.figures.heading(run))), "python.png")
lca.figures.report(run, "python.html")
print(lca.__file__)
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Return a function run(*words) that runs a command in a folder that contains only theirs.py.

    The command runs in an environment with the built wheel and its dependencies, and its output is returned.
    """
    home = tmp_path_factory.mktemp("stranger")
    source = home / "source"  # so that building leaves nothing behind
    shutil.copytree(ROOT / "lca", source / "lca", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    built = ["wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(home)]
    subprocess.run([*pip, *built], check=True, timeout=300)
    environment = home / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=300)
    (wheel,) = home.glob("*.whl")
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True, timeout=300)
    # The dependencies come from this environment. Its own .pth files, such as an editable install of lca, are not read.
    own = next((environment / "lib").glob("python*")) / "site-packages"
    (own / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    folder = home / "empty"
    folder.mkdir()
    (folder / "theirs.py").write_text(PROBLEM_FILE)

    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    clean["PATH"] = f"{environment / 'bin'}{os.pathsep}{clean['PATH']}"

    def run(program, *arguments):
        """Run a program of the environment. After `lca init`, which starts the script `lca`, a server starts lca."""
        if program == "lca" and arguments[0] != "init":
            return server.run(*arguments, cwd=folder, env=clean)[0].decode()
        words = [program, *arguments]
        done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = folder
    with Server(clean, python, folder) as server:
        yield run


def test_shell_and_python_give_the_same_result(stranger):
    trained = stranger(
        *("lca", "train", "theirs.py:make", "--set", "width=12", "--optimizer", "adamw", "--lr", "0.01"),
        *("--batch-size", "50", "--iterations", "70", "--device", "cpu", "--out", "shell.zarr"),
    )
    assert "theirs.py:make (width 12)" in trained
    for split in ("train", "val"):
        summary = stranger("lca", "allocate", "shell.zarr", "--split", split, "--problem", "theirs.py:make")
        assert "bounds               hold" in summary
    stranger("lca", "analyze", "layers", "shell.zarr", "--json", "layers.json")
    stranger("lca", "plot", "layers", "shell.zarr", "--out", "shell.png")
    stranger("lca", "plot", "report", "shell.zarr", "--out", "shell.html")

    *_, totals, where = stranger("python", "-c", IN_PYTHON).splitlines()
    assert where.startswith(str(stranger.folder.parent / "venv"))  # lca is imported from the wheel
    shell, python = (lca.open(stranger.folder / f"{name}.zarr") for name in ("shell", "python"))
    np.testing.assert_array_equal(shell.weights[:], python.weights[:])
    assert [p.name for p in shell.parameters] == [
        "left.weight",
        "left.bias",
        "right.bias",
        "score.weight",
        "score.bias",
    ]
    for split in ("train", "val"):
        a, b = shell.allocation(split), python.allocation(split)
        if (
            a.attributes["batch_size"] == b.attributes["batch_size"]
        ):  # each chose the batch size that it measured as fastest
            np.testing.assert_array_equal(a.lca[:], b.lca[:])
        np.testing.assert_allclose(a.lca[:], b.lca[:], rtol=1e-3, atol=1e-7)
    answer = json.loads((stranger.folder / "layers.json").read_text())
    columns = answer["tables"][0]["columns"]["LCA (units of the loss)"]
    assert {layer: columns[layer]["mean"] for layer in columns if layer != "sum"} == pytest.approx(
        eval(totals), rel=1e-4
    )
    for name in ("shell", "python"):
        assert (stranger.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        page = (stranger.folder / f"{name}.html").read_text()
        assert "left" in page
        assert len(page) > 1_000_000


def test_template_of_init_runs_without_changes(stranger):
    assert "Created mine.py. To train and allocate it:\nlca train mine.py:problem" in stranger("lca", "init", "mine.py")
    stranger("lca", "train", "mine.py:problem", "--iterations", "20", "--out", "mine.zarr")
    assert "hold" in stranger("lca", "allocate", "mine.zarr", "--problem", "mine.py:problem")
