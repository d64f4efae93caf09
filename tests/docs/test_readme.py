"""The README's commands run, on few iterations, and print what the README shows but for the numbers."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from click import Context, Group
from click.testing import CliRunner
from console import find_commands, without_numbers

import lca
from lca.cli.main import main

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_console_shows_what_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = list(find_commands(README))
    assert [arguments[1] for arguments, _ in commands] == ["train", "allocate", "analyze", "analyze", "plot", "plot"]
    for (program, *arguments), printed in commands:
        assert program == "lca"
        monkeypatch.setattr("sys.argv", ["lca", *arguments])
        few = ["--iterations", "100", "--device", "cpu"] if arguments[0] == "train" else []
        result = CliRunner().invoke(main, [*arguments, *few], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert without_numbers(result.stdout) == without_numbers(printed)
    for picture in ("helping.png", "layers.png"):
        assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_the_trainings_run_on_the_embedded_digits(tmp_path, monkeypatch):
    """With the digits in place of each data set, on four iterations, and what is to happen in them earlier."""
    monkeypatch.chdir(tmp_path)
    lines = [line.partition("#")[0] for line in README.splitlines() if line.startswith("lca train ")]
    assert len(lines) >= 7
    for line in lines:
        if "s3://" in line:
            continue
        if "mine.py" in line:
            CliRunner().invoke(main, ["init", "mine.py"])
        line = re.sub(r"(mnist|cifar)-(fc|vgg)", "digits-fc", line).replace("cifar-resnet", "digits-resnet")
        line = re.sub(r"@\d+", "@2", line).replace("--milestone 15 --milestone 20", "--milestone 0.2 --milestone 0.4")
        result = CliRunner().invoke(main, [*shlex.split(line)[1:], "--iterations", "4", "--device", "cpu"])
        assert result.exit_code == 0, (line, result.output)


def test_the_python_example_runs(tmp_path, monkeypatch, problem):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    given = problem()
    optimizer = torch.optim.SGD(given.model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        given.losses(given.model, given.train).mean().backward()
        optimizer.step()

    names = {
        "model": given.model,
        "optimizer": optimizer,
        "losses": given.losses,
        "x": given.train[0],
        "y": given.train[1],
        "step": step,
    }
    exec(example.replace("    ...", "    for _ in range(5): step()"), names)
    assert names["summary"].within_bounds
    assert names["A"].shape == (51, 5)
    assert names["of_layer"].shape == (24, 2)
    assert names["layers"].total.sum() == pytest.approx(names["summary"].allocated, rel=1e-5)
    assert names["data"].lca.shape == (51, 5)
    assert lca.open("run.zarr").n_iterations == 5


def commands_of(group, path=()):
    context = Context(group)
    for name in group.list_commands(context):
        child = group.get_command(context, name)
        yield from commands_of(child, (*path, name)) if isinstance(child, Group) else [" ".join((*path, name))]


COMMANDS = list(commands_of(main))


def test_there_are_commands():
    assert set(COMMANDS) >= {"train", "analyze layers", "plot report"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_table(command):
    figure = command.removeprefix("plot ")
    if figure == command or figure in ("animation", "report"):
        assert re.search(rf"^\| `lca {command} ", README, re.M)
    else:
        assert re.search(rf"^\| (`[a-z-]+`, )*`{figure}`[ ,]", README, re.M)


def test_every_example_is_in_the_table():
    examples = {path.name for path in (Path(__file__).parents[2] / "docs" / "examples").glob("*.py")}
    assert examples == set(re.findall(r"^\| \[(\w+\.py)\]\(docs/examples/\1\) ", README, re.M))


def test_pictures_are_there():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parents[2] / picture).exists()
