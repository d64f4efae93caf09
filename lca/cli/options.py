"""Options of the commands, derived from the library's configurations and function signatures.

The library defines names, types, defaults and choices, and also the help texts of configuration fields. The help texts
of function arguments, and options that are not derived, such as --out, are defined here or next to their command.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import click

from lca.cli.help import Command, Option
from lca.errors import UsageError

Callback = Callable[..., Any]
Decorator = Callable[[Callback], Callback]


def config_options(config: Any, names: Collection[str] = (), *, without: Collection[str] = ()) -> Decorator:
    """Add an option for each field of a configuration class, or only for the fields in `names`.

    The fields in `without` get no option. The value of an option that the user does not pass is None, or () if the
    option is repeatable.
    """
    hints = get_type_hints(config)
    chosen = [each for each in fields(config) if (not names or each.name in names) and each.name not in without]
    return stack([_make_option(each, hints[each.name]) for each in chosen])


def _make_option(each: "Field[Any]", hint: Any) -> Decorator:
    metadata = each.metadata
    flag = f"--{(metadata['short'] or each.name).replace('_', '-')}"
    kind, is_repeatable = _resolve_type(hint)
    if metadata["choices"]:
        kind = click.Choice(metadata["choices"])
    default = metadata["unset"] or _describe_default(each.default)
    help = metadata["help"] + (f"  [default: {default}]" if default else "")
    settings: dict[str, Any] = {"cls": Option, "group": metadata["group"], "help": help}
    if kind is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", each.name, default=None, **settings)
    metavar = metadata["metavar"] or _name_value(flag, kind)
    return click.option(flag, each.name, type=kind, multiple=is_repeatable, metavar=metavar, **settings)


def _describe_default(default: Any) -> str:
    """Return a default value for the help, or "" if there is nothing to show."""
    is_empty = default is None or default is False or default in ((), "")
    return "" if is_empty else "all" if default == "*" else str(default)


def _name_value(flag: str, kind: Any) -> str | None:
    """Return the metavar of an option that defines none: N for an integer, NAME for --name, None for choices."""
    if isinstance(kind, click.Choice):
        return None
    return "N" if kind is int else flag.rpartition("-")[2].upper()


def _resolve_type(hint: Any) -> tuple[Any, bool]:
    """Return an option's type and whether it is repeatable: int | None -> (int, False), Sequence[T] -> (T, True)."""
    if get_origin(hint) is Sequence or getattr(get_origin(hint), "__name__", "") == "Sequence":
        return get_args(hint)[0], True
    if get_origin(hint) is tuple:  # the command parses the text
        return str, False
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return (kinds[0] if kinds else hint), False


def argument_options(
    function: Callable[..., Any], helps: Mapping[str, str], **settings: Mapping[str, Any]
) -> Decorator:
    """Add an option for each keyword argument of `function` that `helps` names, with the function's own default.

    `settings` maps an argument's name to further settings of click.option. Its key `flag` renames the option.
    """
    parameters = inspect.signature(function).parameters
    return stack([_make_argument(parameters[name], help, dict(settings.get(name, {}))) for name, help in helps.items()])


def _make_argument(parameter: inspect.Parameter, help: str, settings: dict[str, Any]) -> Decorator:
    default = parameter.default
    flag = settings.pop("flag", f"--{parameter.name.replace('_', '-')}")
    if isinstance(default, bool):
        if default:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        return click.option(flag, parameter.name, is_flag=True, default=default, help=help, **settings)
    has_default = default not in (None, parameter.empty)
    if not isinstance(default, tuple):
        settings.setdefault("type", type(default) if has_default else None)
    settings.setdefault("metavar", _name_value(flag, settings.get("type")))
    if isinstance(default, tuple):
        shown = f"  [default: {' '.join(map(str, default))}]" if default and "type" not in settings else ""
        return click.option(flag, parameter.name, multiple=True, default=default, help=help + shown, **settings)
    default = default if has_default else None
    return click.option(flag, parameter.name, default=default, show_default=has_default, help=help, **settings)


def stack(options: Sequence[Decorator]) -> Decorator:
    """Combine several options into one decorator, in the order given."""

    def decorate(callback: Callback) -> Callback:
        for each in reversed(options):
            callback = each(callback)
        return callback

    return decorate


def keep_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the user passed, so that the configuration's own defaults apply to the others."""
    return {key: value for key, value in options.items() if value is not None and value != ()}


run_argument = click.argument("path", metavar="RUN", type=click.Path())  # a string, because it may be a URL
runs_argument = click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path())
name_option = click.option(
    "--name", metavar="NAME", default="train", show_default=True, help="Name of the allocation to use."
)
json_option = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the result to this file as JSON.",
)
device_option = click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    show_default=True,
    help="Device to run the model on; auto selects the accelerator if there is one, otherwise the CPU.",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    cls=Option,
    group="Problem and data",
    help="Set a problem option (see `lca problems`). Repeatable.",
)


def overwrite_option(group: str, help: str) -> Decorator:
    """Return the option --overwrite, listed under the heading `group`."""
    return click.option("--overwrite", is_flag=True, cls=Option, group=group, help=help)


problem_option = click.option(
    "--problem",
    metavar="PROBLEM",
    cls=Option,
    group="Problem and data",
    help="Problem that the run was trained on, as path/file.py:factory or package.module:factory. Not needed for "
    "built-in problems.",
)
data_options = stack(
    [
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="FOLDER",
            cls=Option,
            group="Problem and data",
            help="Folder that contains MNIST/raw, FashionMNIST/raw or cifar-10-batches-bin.  "
            "[default: the environment variable LCA_DATA, else ~/.cache/lca]",
        ),
        click.option(
            "--download",
            is_flag=True,
            cls=Option,
            group="Problem and data",
            help="Download a missing dataset into the data folder.",
        ),
    ]
)

BETWEEN_GROUPS = "\x1d"  # stands for `--`, which click would drop: the ASCII group separator, which no path contains


class RunGroups(Command):
    """A command that takes groups of runs, RUN... -- RUN..., with options anywhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [BETWEEN_GROUPS if arg == "--" else arg for arg in args])


def split_groups(runs: Sequence[str]) -> list[list[str]]:
    """Return the groups of runs that were passed to a RunGroups command; raise UsageError if one is empty."""
    groups: list[list[str]] = [[]]
    for run in runs:
        if run == BETWEEN_GROUPS:
            groups.append([])
        else:
            groups[-1].append(run)
    if not all(groups):
        raise UsageError(
            "the groups of runs", expected="RUN... -- RUN..., with runs on both sides of --", found="an empty group"
        )
    return groups


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """Parse the values of --set: ["width=0.5"] -> {"width": "0.5"}."""
    for text in settings:
        if not all(text.partition("=")):
            raise UsageError("--set", expected="NAME=VALUE, such as width=0.5", found=repr(text))
    return dict(text.split("=", 1) for text in settings)
