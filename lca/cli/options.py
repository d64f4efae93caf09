"""Options derived from the library: names, types, defaults, choices and help stand there, and nowhere else."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import click

from lca.errors import UsageError

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def config_options(config: Any, names: Collection[str] = (), *, without: Collection[str] = ()) -> Decorator:
    """An option for each field of a configuration, or for some. What the user does not give stays None."""
    hints = get_type_hints(config)
    chosen = [each for each in fields(config) if (not names or each.name in names) and each.name not in without]
    return stack([_make_option(each, hints[each.name]) for each in chosen])


def _make_option(each: "Field[Any]", hint: Any) -> Decorator:
    metadata = each.metadata
    flag = f"--{(metadata['short'] or each.name).replace('_', '-')}"
    kind, is_repeatable = _resolve_type(hint)
    if metadata["choices"]:
        kind = click.Choice(metadata["choices"])
    default = metadata["unset"] or ("" if each.default in (None, (), "", False) else str(each.default))
    help = metadata["help"] + (f"  [default: {default}]" if default else "")
    if kind is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", each.name, default=None, help=help)
    metavar = metadata["metavar"] or None
    return click.option(flag, each.name, type=kind, multiple=is_repeatable, metavar=metavar, help=help)


def _resolve_type(hint: Any) -> tuple[Any, bool]:
    """The type of a value, and whether it is repeatable: Sequence[float] -> float, True; int | None -> int, False."""
    if get_origin(hint) is Sequence or getattr(get_origin(hint), "__name__", "") == "Sequence":
        return get_args(hint)[0], True
    if get_origin(hint) is tuple:  # written as text, which the command reads
        return str, False
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return (kinds[0] if kinds else hint), False


def argument_options(
    function: Callable[..., Any], helps: Mapping[str, str], **settings: Mapping[str, Any]
) -> Decorator:
    """An option for each of these keyword arguments of a function, with the function's own defaults.

    helps: by name of the argument. settings: of click.option, by name of the argument; `flag` renames the option.
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
    if isinstance(default, tuple):
        shown = f"  [default: {' '.join(map(str, default))}]" if default and "type" not in settings else ""
        return click.option(flag, parameter.name, multiple=True, default=default, help=help + shown, **settings)
    has_default = default not in (None, parameter.empty)
    settings.setdefault("type", type(default) if has_default else None)
    default = default if has_default else None
    return click.option(flag, parameter.name, default=default, show_default=has_default, help=help, **settings)


def stack(options: Sequence[Decorator]) -> Decorator:
    """Several options as one decorator, in this order."""

    def decorate(command: Command) -> Command:
        for each in reversed(options):
            command = each(command)
        return command

    return decorate


def keep_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the user gave; the others have the default of their configuration."""
    return {key: value for key, value in options.items() if value is not None and value != ()}


run_argument = click.argument("path", metavar="RUN", type=click.Path())  # or a URL, so it stays a string
runs_argument = click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path())
name_option = click.option("--name", default="train", show_default=True, help="Allocation to use.")
unconverged_option = click.option(
    "--unconverged", is_flag=True, help="Also count the iterations whose residual stayed above the tolerance."
)
json_option = click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Also write the result as JSON."
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="Device to use; auto is CUDA if there is one, else the CPU."
)
problem_option = click.option(
    "--problem",
    metavar="PROBLEM",
    help="Problem that the run was trained on, as path/file.py:factory or package.module:factory; "
    "a built-in one is known from the run.",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a problem option (see `lca problems`). Repeatable.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what exists under this name.")
data_options = stack(
    [
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder with MNIST/raw, FashionMNIST/raw or cifar-10-batches-bin.  "
            "[default: LCA_DATA, else ~/.cache/lca]",
        ),
        click.option("--download", is_flag=True, help="Download the dataset into the data folder if it is missing."),
    ]
)

BETWEEN_GROUPS = "\x1d"  # stands for `--`, which click would drop: ASCII's group separator, which no path contains


class Grouped(click.Command):
    """Takes RUN... -- RUN..., options anywhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [BETWEEN_GROUPS if arg == "--" else arg for arg in args])


def split_groups(runs: Sequence[str]) -> list[list[str]]:
    """The groups of runs of a Grouped command; UsageError if one is empty."""
    groups: list[list[str]] = [[]]
    for run in runs:
        if run == BETWEEN_GROUPS:
            groups.append([])
        else:
            groups[-1].append(run)
    if not all(groups):
        raise UsageError(
            "the groups of runs", expected="RUN... -- RUN..., with runs on either side of --", found="an empty group"
        )
    return groups


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, … by name."""
    for text in settings:
        if not all(text.partition("=")):
            raise UsageError("--set", expected="NAME=VALUE, such as width=0.5", found=repr(text))
    return dict(text.split("=", 1) for text in settings)
