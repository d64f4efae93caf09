"""Problems that the user defines in a file, a package or a plug-in."""

import os
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from shell import call

import lca
from lca.cli.loading import load_problem
from lca.errors import LCAError
from lca.problem import user_code as factory
from lca.store.run import open_run
from lca.store.run_writer import RunWriter

CPU = lca.AllocateConfig(device="cpu", audit=0)


FROZEN_BASE = """
import torch
from torch import nn
import lca

def problem():
    model = nn.Sequential(nn.Linear(2, 8).requires_grad_(False), nn.Tanh(), nn.Linear(8, 2))
    x = torch.linspace(-1, 1, 40).reshape(20, 2)
    return lca.Problem(model, train=(x, (x[:, 0] > 0).long()))
"""


def test_problem_is_loaded_with_the_seed_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frozen_base.py").write_text(FROZEN_BASE)
    name = "frozen_base.py:problem"
    problem = lca.load(name, seed=3)
    run = lca.train(problem, "run.zarr", lca.TrainConfig(seed=3, iterations=2, batch_size=10, device="cpu"))
    again = load_problem(run, name, None, False)
    assert torch.equal(again.model[0].weight, problem.model[0].weight)
    lca.allocate("run.zarr", again, CPU)
    with pytest.raises(LCAError, match=r"frozen parameter 0\.weight has changed.*from the same seed"):
        lca.allocate("run.zarr", lca.load(name), lca.AllocateConfig(device="cpu", name="other"))


def test_plugin_adds_a_problem(folder, monkeypatch):
    points = [EntryPoint("their-net", "mine:problem", factory.GROUP)]
    monkeypatch.setattr(factory, "entry_points", lambda group: points if group == factory.GROUP else [])
    assert lca.load("their-net").name == "their-net"
    assert "their-net" in call("problems").stdout
    call("train", "their-net", "--iterations", 3, "--batch-size", 10, "--out", "run.zarr", "--device", "cpu")
    refused = call("allocate", "run.zarr", status=2)
    assert "was trained on 'their-net', which is not a built-in problem" in refused.stderr
    call("allocate", "run.zarr", "--problem", "their-net", "--audit", 0)


def test_problem_file_works_in_every_command(folder):
    arguments = ["--iterations", 5, "--batch-size", 10, "--set", "hidden=3", "--device", "cpu"]
    call("train", "mine.py:problem", "--out", "run.zarr", *arguments)
    assert lca.open("run.zarr").attributes["problem_options"] == {"hidden": 3}
    refused = call("allocate", "run.zarr", status=2)
    assert "was trained on 'mine.py:problem', which is not a built-in problem" in refused.stderr
    assert "--problem mine.py:problem" in refused.stderr
    call("check", "run.zarr", "--problem", "mine.py:problem")
    hint = call("analyze", "layers", "run.zarr", status=1).stderr
    assert "`lca allocate run.zarr --problem mine.py:problem`" in hint
    call("allocate", "run.zarr", "--problem", "package.module:problem", "--audit", 0)
    assert (
        "pruned weights"
        in call("analyze", "prune", "run.zarr", "--problem", "mine.py:problem", "--device", "cpu").stdout
    )
    refused = call("train", "mine.py:problem", "--out", "b.zarr", "--set", "hidden=x", status=2)
    assert "hidden: expected a whole number, found 'x'" in refused.stderr


def test_problem_named_only_in_a_store_is_never_imported(folder):
    call("train", "mine.py:problem", "--iterations", 2, "--batch-size", 10, "--out", "run.zarr", "--device", "cpu")
    (folder / "evil.py").write_text("open('touched', 'w')\n")
    writer = RunWriter(open_run("run.zarr", "r+"))
    for name in ("evil.py:problem", "evil:problem"):
        writer.set_attributes(problem=name)
        for command in (["allocate"], ["check"], ["analyze", "prune"], ["plot", "prune", "--out", "a.png"]):
            call(*command, "run.zarr", status=2)
        call("info", "run.zarr")
    assert not (folder / "touched").exists()


def test_torchrun_workers_import_from_the_current_folder(folder, server):
    call("train", "mine:problem", "--iterations", 4, "--batch-size", 10, "--out", "run.zarr", "--device", "cpu")
    command = ["--nproc-per-node=2", "-m", "lca", "allocate", "run.zarr", "--problem", "mine:problem", "--audit", 0]
    server.run(*command, module="torch.distributed.run", env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert np.isfinite(lca.open("run.zarr").allocation("train").lca[:]).all()


def test_template_of_init_runs_without_changes(folder):
    printed = call("init", "new/start.py").stdout
    assert printed.splitlines() == [
        "Created new/start.py. To train and allocate it:",
        "lca train new/start.py:problem --iterations 200 --out start.zarr",
        "lca allocate start.zarr --problem new/start.py:problem",
    ]
    call("train", "new/start.py:problem", "--iterations", 20, "--out", "start.zarr", "--device", "cpu")
    summary = call("allocate", "start.zarr", "--problem", "new/start.py:problem", "--by-class", "--split", "val").stdout
    assert "bounds               hold" in summary
    assert "FILE" not in (folder / "new/start.py").read_text()
    assert "new/start.py already exists" in call("init", "new/start.py", status=2).stderr
    assert "expected the name of a Python file" in call("init", "start.txt", status=2).stderr
    assert "expected a name without quotes" in call("init", "it's.py", status=2).stderr
    assert "lca train 'my file.py':problem" in call("init", "my file.py").stdout


@pytest.mark.parametrize("status", [0, 3, "'bye'", ""])
def test_sys_exit_in_user_code_is_an_error(folder, status):
    """The exit status is the command's own: 0 would mean success, and 3 that a bound does not hold."""
    (folder / "leaving.py").write_text(f"""
import sys
from mine import problem as make
from dataclasses import replace
import torch

def problem():
    given, calls = make(), []

    def losses(model, batch):
        calls.append(1)
        if len(calls) > 5:
            sys.exit({status})
        return given.losses(model, batch)

    return replace(given, losses=losses)
""")
    result = call(
        *("train", "leaving.py:problem", "--iterations", 20, "--batch-size", 10, "--out", "run.zarr"), status=1
    )
    assert "was ended by sys.exit(" in result.stderr
    assert lca.open("run.zarr").status == "training"
