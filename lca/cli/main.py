"""`lca`: the root command, which imports each subcommand when it is used."""

from importlib import import_module
from typing import Any

import click

from lca.cli.encoding import make_output_readable
from lca.cli.errors import Shell
from lca.cli.help import Group

# Command -> the module and function that define it, and its short help.
COMMANDS = {
    "train": ("lca.cli.train:train", "Train a network and record every iterate."),
    "allocate": ("lca.cli.allocate:allocate", "Allocate the loss change to the parameters."),
    "analyze": ("lca.cli.analyze:analyze", "Answer a question about allocated runs."),
    "plot": ("lca.cli.plot:plot", "Draw a figure, a film or a report."),
    "info": ("lca.cli.store:info", "Show the contents of a run."),
    "verify": ("lca.cli.store:verify", "Check a run for damage and repair it."),
    "check": ("lca.cli.allocate:check", "Check whether a run can be allocated."),
    "problems": ("lca.cli.problems:problems", "List the built-in problems."),
    "init": ("lca.cli.problems:init", "Write a template for your own problem."),
    "import": ("lca.cli.importing:import_", "Create a run from checkpoints."),
}


class Root(Shell, Group):
    """The root command. It imports a subcommand's module only on use, so that `lca info` does not wait for torch."""

    def main(self, *args: Any, **extra: Any) -> Any:
        make_output_readable()
        return super().main(*args, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        command.short_help = COMMANDS[cmd_name][1]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help) for name, (_, short_help) in COMMANDS.items()])


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="loss-change-allocation", help="Show the version and exit.")
def main() -> None:
    """Which parameters learned, and when?

    Loss Change Allocation (LCA) divides the change in the full training loss among the parameters, iteration by
    iteration. A parameter with an LCA below zero helped to lower the loss, and one with an LCA above zero raised it.
    First train a network and record the training as a run. Then allocate the run, and analyze or plot the result.

    \b
    lca train digits-fc --out run.zarr
    lca allocate run.zarr
    lca analyze layers run.zarr
    lca plot helping run.zarr --out helping.png
    """
