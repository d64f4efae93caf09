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


def test_option_is_derived_from_a_field():
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
    assert given == dict.fromkeys(options)  # None, so that the configuration applies its own defaults


def test_fields_have_readable_metavars_and_defaults():
    @configuration
    class Named:
        some_size: int = option(default=0, help="A size.", group="Numbers")
        some_title: str | None = option(default=None, help="A title.")
        glob: str = option(default="*", metavar="GLOB", help="A glob.")

    options = {p.name: p for p in make_command(config_options(Named)).params}
    assert [options[name].metavar for name in ("some_size", "some_title", "glob")] == ["N", "TITLE", "GLOB"]
    assert [options[name].group for name in ("some_size", "some_title", "glob")] == ["Numbers", "", ""]
    assert options["some_size"].help == "A size.  [default: 0]"
    assert options["some_title"].help == "A title."
    assert options["glob"].help == "A glob.  [default: all]"


def test_option_is_derived_from_an_argument_with_its_default():
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
def test_every_field_of_a_configuration_is_an_option(name, config):
    command = main.get_command(click.Context(main), name)
    options = {p.name: p for p in command.params if isinstance(p, click.Option)}
    for each in fields(config):
        assert each.metadata["help"] in options[each.name].help


@pytest.mark.parametrize("config", [TrainConfig, AllocateConfig])
def test_help_of_every_field_is_a_sentence(config):
    for each in fields(config):
        help = each.metadata["help"]
        assert help[0].isupper()
        assert help.endswith(".")
