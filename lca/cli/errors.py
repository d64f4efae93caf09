"""Errors of the library as messages of the shell: a remedy's arguments become options, its calls become commands."""

import shlex
from typing import Any

import click

from lca.errors import Argument, Call, LCAError, Step, UsageError

COMMANDS = {"train": "train", "allocate": "allocate", "verify": "verify", "analysis.prune": "analyze prune"}
NEED_PROBLEM = ("allocate", "analysis.prune")
FLAGS = {"options": "--set"}  # of arguments that no option of the command is named after


class Shell(click.Group):
    """The one place where an expected error becomes a message and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LCAError as error:
            kind = click.UsageError if isinstance(error, UsageError) else click.ClickException
            raise kind(error.describe(render)) from error


def render(step: Step) -> str:
    """A part of a remedy in the shell's terms: "--overwrite", or "`lca allocate run.zarr --split val`"."""
    context = click.get_current_context(silent=True)
    if isinstance(step, Argument):
        return " ".join(_render_argument(step, _find_command(context)))
    return f"`{_render_call(step, context)}`"


def _find_command(context: click.Context | None) -> click.Command | None:
    """The command that runs, below its groups."""
    while context and isinstance(context.command, click.Group) and context.invoked_subcommand:
        command = context.command.get_command(context, context.invoked_subcommand)
        if not isinstance(command, click.Group):
            return command
        context = click.Context(command, parent=context)
    return context.command if context else None


def _render_argument(argument: Argument, command: click.Command | None) -> list[str]:
    """The words of an option; its name is that of the command's parameter of this name."""
    options = [p for p in command.params if isinstance(p, click.Option) and p.name == argument.name] if command else []
    flag = options[0].opts[0] if options else FLAGS.get(argument.name, f"--{argument.name.replace('_', '-')}")
    if argument.value is None or argument.value is True:
        return [flag]
    if argument.value is False:
        return [f"--no-{flag.removeprefix('--')}"]
    return [flag, shlex.quote(str(argument.value))]


def _render_call(call: Call, context: click.Context | None) -> str:
    """The command line that does what a call does."""
    attributes = _read_attributes(call.path)
    arguments = [*call.arguments]
    if call.function == "train":
        stored = [
            word for word in shlex.split(attributes.get("command") or "") if word not in ("--resume", "--overwrite")
        ]
        words = stored or ["lca", "train", "PROBLEM", "--out", call.path]
    else:
        words = ["lca", *COMMANDS[call.function].split(), call.path]
        if call.function in NEED_PROBLEM and ":" in (problem := str(attributes.get("problem", ""))):
            arguments.append(Argument("problem", problem))  # what a store names is never imported by itself
    command = _look_up(COMMANDS[call.function], context)
    options = [word for argument in arguments for word in _render_argument(argument, command)]
    return " ".join([*(word if word in ("…", "PROBLEM") else shlex.quote(word) for word in words), *options])


def _look_up(name: str, context: click.Context | None) -> click.Command | None:
    """The command of this name, such as "analyze prune"."""
    command = context.find_root().command if context else None
    for word in name.split():
        command = command.get_command(context, word) if context and isinstance(command, click.Group) else None
    return command


def _read_attributes(path: str) -> dict[str, Any]:
    """The attributes of a run; nothing if there is none."""
    from lca.store.run import open_run  # which imports zarr

    try:
        return open_run(path).attributes
    except LCAError:
        return {}
