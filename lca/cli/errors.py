"""Messages for the library's errors: arguments in a remedy are rendered as options, calls as commands."""

import errno
import shlex
from typing import Any

import click

from lca.errors import DISK_PROBLEMS, NO_THREAD, Argument, Call, LCAError, Step, UsageError
from lca.text import escape_control, quote

COMMANDS = {"train": "train", "allocate": "allocate", "verify": "verify", "analysis.prune": "analyze prune"}
NEED_PROBLEM = ("allocate", "analysis.prune")
FLAGS = {"options": "--set"}  # for arguments whose option has a different name


class Shell(click.Group):
    """A group that turns the library's expected errors into a message and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LCAError as error:
            kind = click.UsageError if isinstance(error, UsageError) else click.ClickException
            raise kind(escape_control(error.describe(render))) from error
        except OSError as error:
            if error.errno in (None, errno.EPIPE):  # a closed pipe is not an error, as in `lca analyze … | head`
                raise
            raise click.ClickException(escape_control(describe_system_error(error))) from error
        except RuntimeError as error:
            if str(error) != NO_THREAD:
                raise
            raise click.ClickException(
                "the system allows no more threads or processes. Everything completed so far is kept. Close other "
                "programs or raise the limit (`ulimit -u`), and try again"
            ) from error
        except SystemExit as error:  # user code must not determine the exit status of a command
            raise click.ClickException(f"the program was ended by sys.exit({error.code!r}) in user code") from error


def describe_system_error(error: OSError) -> str:
    """Return the message for an operating-system error, such as a full disk, with the name of the affected file."""
    reason = DISK_PROBLEMS.get(error.errno or 0) or (error.strerror or str(error)).lower()
    where = f": {error.filename}" if error.filename else ""
    return f"{reason}{where}. Everything completed so far is kept"


def render(step: Step) -> str:
    """Render a part of a remedy for the shell: "--overwrite", or "`lca allocate run.zarr --split val`"."""
    context = click.get_current_context(silent=True)
    if isinstance(step, Argument):
        return " ".join(_render_argument(step, _find_command(context)))
    return f"`{_render_call(step, context)}`"


def _find_command(context: click.Context | None) -> click.Command | None:
    """Return the command that is running, not the groups above it."""
    while context and isinstance(context.command, click.Group) and context.invoked_subcommand:
        command = context.command.get_command(context, context.invoked_subcommand)
        if not isinstance(command, click.Group):
            return command
        context = click.Context(command, parent=context)
    return context.command if context else None


def _render_argument(argument: Argument, command: click.Command | None) -> list[str]:
    """Return the words of an option. The flag is looked up in the command's parameters by the argument's name."""
    options = [p for p in command.params if isinstance(p, click.Option) and p.name == argument.name] if command else []
    flag = options[0].opts[0] if options else FLAGS.get(argument.name, f"--{argument.name.replace('_', '-')}")
    if argument.value is None or argument.value is True:
        return [flag]
    if argument.value is False:
        return [f"--no-{flag.removeprefix('--')}"]
    return [flag, quote(str(argument.value))]


def _render_call(call: Call, context: click.Context | None) -> str:
    """Return the command line that is equivalent to a call."""
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
            arguments.append(Argument("problem", problem))  # user code is imported only on request
    command = _look_up(COMMANDS[call.function], context)
    options = [word for argument in arguments for word in _render_argument(argument, command)]
    return " ".join([*(word if word in ("…", "PROBLEM") else quote(word) for word in words), *options])


def _look_up(name: str, context: click.Context | None) -> click.Command | None:
    """Return the command of this name, such as "analyze prune"."""
    command = context.find_root().command if context else None
    for word in name.split():
        command = command.get_command(context, word) if context and isinstance(command, click.Group) else None
    return command


def _read_attributes(path: str) -> dict[str, Any]:
    """Return the attributes of the run at this path, or an empty dict if there is no run."""
    from lca.store.run import open_run  # imports zarr, so only when needed

    try:
        return open_run(path).attributes
    except LCAError:
        return {}
