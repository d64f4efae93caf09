"""Remedies in the shell: arguments are rendered as options and calls as commands."""

import click
import pytest
from click.testing import CliRunner
from handmade import make_run

import lca
from lca.cli.errors import Shell, render
from lca.cli.main import main
from lca.errors import Argument, Call, LCAError


@pytest.mark.parametrize(
    ("argument", "python", "shell"),
    [
        (Argument("overwrite", True), "overwrite=True", "--overwrite"),
        (Argument("by_class", False), "by_class=False", "--no-by-class"),
        (Argument("keep", "tensors"), "keep='tensors'", "--keep tensors"),
        (Argument("name", "a b"), "name='a b'", "--name 'a b'"),
        (Argument("batch_size"), "batch_size", "--batch-size"),
    ],
)
def test_argument_is_rendered_as_option(argument, python, shell):
    assert str(argument) == python
    assert render(argument) == shell


def test_option_has_the_name_that_the_command_gives_it():
    @click.group(cls=Shell)
    def group():
        pass

    @group.command()
    @click.option("--lr", "learning_rate", type=float)
    def train(learning_rate):
        raise LCAError("too fast", remedy=("Pass a smaller ", Argument("learning_rate"), "."))

    result = CliRunner().invoke(group, ["train"])
    assert result.exit_code == 1
    assert "too fast. Pass a smaller --lr." in result.output


def test_call_is_rendered_as_command(tmp_path):
    call = Call("allocate", tmp_path / "run.zarr", split="val", gradient_signs=True, overwrite=True)
    path = str(tmp_path / "run.zarr")
    assert str(call) == f"lca.allocate({path!r}, problem, split='val', gradient_signs=True, overwrite=True)"
    assert render(call) == f"`lca allocate {path} --split val --gradient-signs --overwrite`"
    assert render(Call("train", path)) == f"`lca train PROBLEM --out {path}`"
    assert render(Call("verify", path, repair=True)) == f"`lca verify {path} --repair`"


def test_command_names_a_problem_defined_in_a_file(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run.zarr", [[-1.0]] * 7)
    attributes = {**run.attributes, "problem": "mine.py:make"}
    monkeypatch.setattr("lca.store.run.Run.attributes", attributes, raising=False)
    monkeypatch.setattr("lca.cli.errors._read_attributes", lambda path: attributes)
    assert render(Call("allocate", run.path)) == f"`lca allocate {run.path} --problem mine.py:make`"
    assert "--problem" not in render(Call("verify", run.path))


def test_resuming_repeats_the_stored_command(tmp_path, monkeypatch):
    stored = {"command": "lca train digits-fc --seed 3 --out run.zarr --overwrite"}
    monkeypatch.setattr("lca.cli.errors._read_attributes", lambda path: stored)
    call = Call("train", "run.zarr", resume=True)
    assert render(call) == "`lca train digits-fc --seed 3 --out run.zarr --resume`"
    assert str(call) == "lca.train(problem, 'run.zarr', resume=True)"


def test_error_names_an_argument_in_python_and_an_option_in_the_shell(tmp_path, run):
    with pytest.raises(lca.UsageError, match="pass overwrite=True to replace it"):
        lca.Recorder(run, lca.load("digits-fc").model).__enter__()
    result = CliRunner().invoke(main, ["train", "digits-fc", "--out", str(run)])
    assert "pass --overwrite to replace it" in result.output
