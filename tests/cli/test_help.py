"""The help of every command: complete sentences, an example, and options that are understood without their name."""

import re
from inspect import cleandoc

import click
import pytest
from click.testing import CliRunner
from shell import call

from lca.cli.help import Command, Group, Option
from lca.cli.main import main
from lca.figures import Film, Look

DEFAULT = re.compile(r"\s*\[default: [^]]*\]$")
EXAMPLE = re.compile(r"\x08\n((?:.+\n?)+)$")  # the last paragraph; \x08 keeps click from wrapping it


def walk(command, path=()):
    """Yield every command below `command`, and `command` itself, with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


def find_example(command):
    """Return the lines of the example at the end of a command's help."""
    found = EXAMPLE.search(cleandoc(command.help))
    assert found, command.help
    return found[1].splitlines()


COMMANDS = list(walk(main))
OPTIONS = [
    (path, option) for path, command in COMMANDS for option in command.params if isinstance(option, click.Option)
]
every_command = pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=[" ".join(["lca", *path]) for path, _ in COMMANDS]
)
every_option = pytest.mark.parametrize(
    ("path", "option"), OPTIONS, ids=[" ".join([*path, option.opts[0]]) for path, option in OPTIONS]
)


def test_all_commands_are_walked():
    assert len(COMMANDS) > 40
    assert len(OPTIONS) > 200


@every_command
def test_help_begins_with_a_sentence_and_ends_with_an_example(path, command):
    first = cleandoc(command.help).split("\n\n")[0]
    assert first[0].isupper()
    assert first[-1] in ".?"
    lines = find_example(command)
    assert all(line.startswith(("lca ", "torchrun ")) for line in lines)
    assert any(line.startswith(" ".join(["lca", *path])) for line in lines)


@every_command
def test_examples_use_options_that_exist(path, command):
    for line in find_example(command):
        words = line[line.index("lca ") :].split()[1:]
        called = max((p for p, _ in COMMANDS if list(p) == words[: len(p)]), key=len)
        known = {name for p, option in OPTIONS if p == called for name in [*option.opts, *option.secondary_opts]}
        assert {word for word in words if word.startswith("--") and word != "--"} <= known


@every_command
def test_short_help_is_a_short_sentence(path, command):
    if path:
        assert 0 < len(command.short_help) <= 45
        assert command.short_help[0].isupper()
        assert command.short_help.endswith(".")


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("path", [path for path, command in COMMANDS if isinstance(command, click.Group)])
def test_lists_of_commands_are_not_cut_off(path, width):
    text = CliRunner().invoke(main, [*path, "--help"], terminal_width=width).output
    listed = text.split("Commands:")[1]
    assert "…" not in text
    assert "..." not in listed
    for other, command in COMMANDS:
        if other[:-1] == path and other:
            assert command.short_help in " ".join(listed.split())


@every_option
def test_help_of_an_option_is_understood_without_its_name(path, option):
    assert option.help
    text = DEFAULT.sub("", option.help)
    assert text[0].isupper() or text[0].isdigit()
    assert text.endswith(".")
    assert text.split()[0] not in ("Of", "Whose", "Only")


@every_option
def test_an_option_with_a_value_has_a_meaningful_metavar(path, option):
    if not option.is_flag:
        assert option.metavar or isinstance(option.type, click.Choice)
        assert option.metavar not in ("TEXT", "INTEGER", "FLOAT", "PATH", "FILENAME", "DIRECTORY")


@pytest.mark.parametrize("config", [Look, Film])
def test_every_field_of_a_look_and_a_film_has_help(config):
    for each in config.__dataclass_fields__.values():
        assert each.metadata["help"][0].isupper()
        assert each.metadata["help"].endswith(".")


def test_defaults_are_shown():
    text = " ".join(call("allocate", "--help").stdout.split())
    for default in ("0.01", "64", "simpson", "auto", "0"):
        assert f"[default: {default}]" in text


@pytest.mark.parametrize(
    ("path", "headings"),
    [
        ("allocate", ["What to allocate", "Accuracy", "Storage", "Speed", "Problem and data", "Other options"]),
        ("check", ["What to allocate", "Speed", "Problem and data", "Other options"]),
        (
            "train",
            [
                "Recording",
                "Optimizer",
                "Learning-rate schedule",
                "Layers and initial weights",
                "Training",
                "Problem and data",
                "Other options",
            ],
        ),
        ("import", ["Recording", "Problem and data", "Other options"]),
        ("info", ["Options"]),
        ("plot prune", ["Options", "Problem and data"]),
    ],
)
def test_options_are_listed_in_groups(path, headings):
    text = call(*path.split(), "--help").stdout
    assert re.findall(r"^([A-Z].*):$", text, re.M) == headings


def test_every_command_lists_its_options_in_groups():
    for path, command in COMMANDS:
        assert isinstance(command, Group if path in [(), ("analyze",), ("plot",)] else Command), path


def test_options_without_a_group_are_listed_as_other_options():
    @click.command(cls=Command)
    @click.option("--a", cls=Option, group="First", help="A.")
    @click.option("--b", help="B.")
    @click.option("--c", cls=Option, group="First", help="C.")
    def command(a, b, c):
        pass

    text = CliRunner().invoke(command, ["--help"]).output
    assert [line.split()[0] for line in text[text.index("First:") :].splitlines() if line] == [
        "First:",
        "--a",
        "--c",
        "Other",
        "--b",
        "--help",
    ]


def test_an_option_in_a_group_is_parsed_like_any_other():
    assert isinstance(next(p for p in dict(COMMANDS)["allocate",].params if p.name == "tolerance"), Option)
    assert "Invalid value for '--tolerance'" in call("allocate", "x.zarr", "--tolerance", "a", status=2).stderr
