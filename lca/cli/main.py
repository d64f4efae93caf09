"""`lca`: the commands, each loaded when it is used."""

from importlib import import_module

import click

from lca.cli.errors import Shell

# Command -> where it is defined, and what it does.
COMMANDS = {
    "train": ("lca.cli.train:train", "Train a network and record every iterate."),
    "allocate": ("lca.cli.allocate:allocate", "Divide the loss change among parameters."),
    "analyze": ("lca.cli.analyze:analyze", "Ask a question about allocated runs."),
    "plot": ("lca.cli.plot:plot", "Draw a figure, a film or a report."),
    "info": ("lca.cli.store:info", "Show what a run holds."),
    "verify": ("lca.cli.store:verify", "Check a run for damage, and repair it."),
    "check": ("lca.cli.allocate:check", "Check a problem before allocating."),
    "problems": ("lca.cli.problems:problems", "List the built-in problems."),
    "init": ("lca.cli.problems:init", "Write a problem file to start from."),
    "import": ("lca.cli.importing:import_", "Create a run from checkpoints."),
}


class Root(Shell):
    """Imports the module of a command only when the command is used: looking at a run must not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="loss-change-allocation")
def main() -> None:
    """Which parameters learned, and when?

    Loss Change Allocation divides the change of the full training loss among the parameters, iteration by iteration.

    \b
    lca train digits-fc --out run.zarr        record every iterate
    lca allocate run.zarr                     divide the loss change among the parameters
    lca analyze layers run.zarr               ask
    lca plot helping run.zarr --out a.png     look
    """
