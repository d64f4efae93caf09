"""Options derived from configurations and functions: name, type, default, choices and help."""

from dataclasses import fields

import click
import pytest

from lca.allocation.config import AllocateConfig
from lca.cli.main import main
from lca.cli.options import argument_options, config_options
from lca.config import configuration, option
from lca.training.config import TrainConfig


@configuration
class Config:
    """A configuration."""

    rate: float | None = option(default=None, short="lr", help="A rate.", unset="by optimizer")
    kind: str = option(default="a", choices=("a", "b"), help="A kind.")
    flag: bool = option(default=False, help="A switch.")
    n: int = option(default=7, metavar="N", help="A number.")


def make_command(*decorators):
    def command(**options):
        return options

    for decorate in decorators:
        command = decorate(command)
    return click.command()(command)


def test_a_field_becomes_an_option():
    command = make_command(config_options(Config))
    options = {p.name: p for p in command.params}
    assert options["rate"].opts == ["--lr"]
    assert options["rate"].type is click.FLOAT
    assert options["rate"].help == "A rate.  [default: by optimizer]"
    assert options["kind"].type.choices == ("a", "b")
    assert options["kind"].help == "A kind.  [default: a]"
    assert options["flag"].secondary_opts == ["--no-flag"]
    assert options["flag"].help == "A switch."
    assert options["n"].metavar == "N"
    given = command.main([], standalone_mode=False)
    assert given == dict.fromkeys(options)  # so that the configuration's own defaults are used


def test_an_argument_becomes_an_option_with_the_default_of_the_function():
    def question(run, *, repeats=1_000, by_class=False, crossings=True, against=(), split="val"):
        pass

    helps = {"repeats": "R.", "by_class": "B.", "crossings": "C.", "against": "A.", "split": "S."}
    options = {p.name: p for p in make_command(argument_options(question, helps)).params}
    assert (options["repeats"].default, options["repeats"].type) == (1_000, click.INT)
    assert options["by_class"].is_flag
    assert options["crossings"].secondary_opts == ["--no-crossings"]
    assert options["crossings"].default is True
    assert options["against"].multiple
    assert options["split"].default == "val"


@pytest.mark.parametrize(("name", "config"), [("train", TrainConfig), ("allocate", AllocateConfig)])
def test_every_field_of_a_configuration_is_an_option_of_its_command(name, config):
    command = main.get_command(click.Context(main), name)
    options = {p.name: p for p in command.params if isinstance(p, click.Option)}
    for each in fields(config):
        assert each.metadata["help"] in options[each.name].help


@pytest.mark.parametrize("config", [TrainConfig, AllocateConfig])
def test_every_field_is_documented_by_a_sentence(config):
    for each in fields(config):
        help = each.metadata["help"]
        assert help[0].isupper()
        assert help.endswith(".")
