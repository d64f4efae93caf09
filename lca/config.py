"""Configurations: frozen dataclasses whose fields carry their help text, choices and command-line name.

The dataclass is the only place that defines defaults and choices. The command line derives its options from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar, dataclass_transform

from lca.errors import UsageError

MANY = 10**12  # upper limit for a number of iterations, examples or the like
LARGEST_SEED = 2**63 - 1
LARGEST_FLOAT = 3.4e38  # slightly below the largest float32

C = TypeVar("C")


def option(
    *,
    default: Any,
    help: str,
    choices: Sequence[str] = (),
    limits: tuple[float, float] | None = None,
    short: str = "",
    metavar: str = "",
    unset: str = "",
    group: str = "",
) -> Any:
    """Define a field of a configuration.

    `help` describes the field and must be clear without its name. `choices` lists the allowed values, and `limits`
    contains the smallest and the largest allowed number. The rest is for the command line: `short` is the option's name
    if it differs from that of the field, `metavar` the placeholder for its value, `unset` a description of the default
    to show instead of its value, and `group` the heading under which the help lists the option.
    """
    texts = {"help": help, "short": short, "metavar": metavar, "unset": unset, "group": group}
    metadata = {**texts, "choices": tuple(choices), "limits": limits}
    return field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, field_specifiers=(option,))
def configuration(cls: type[C]) -> type[C]:
    """Turn a class into a frozen dataclass that raises UsageError for an unknown field or an invalid value.

    Values are checked against `choices` and `limits`, and integers in float fields become floats.
    """
    check: Callable[[C], None] | None = getattr(cls, "__post_init__", None)

    def check_all(self: Any) -> None:
        for each in fields(self):
            value, choices = getattr(self, each.name), each.metadata.get("choices")
            if isinstance(value, int) and each.type in (float, float | None):
                object.__setattr__(self, each.name, float(value))  # so that 1 and 1.0 are stored alike
            if choices and value is not None and value not in choices:
                raise UsageError(each.name, expected=f"one of {', '.join(choices)}", found=repr(value))
            if each.metadata.get("limits") and value is not None:
                _require_within(each.name, value, *each.metadata["limits"])
        if check:
            check(self)

    cls.__post_init__ = check_all  # type: ignore[attr-defined]
    result = dataclass(frozen=True)(cls)
    initialize = result.__init__

    @wraps(initialize)
    def check_and_initialize(self: Any, *arguments: Any, **options: Any) -> None:
        require_fields(result, options)
        initialize(self, *arguments, **options)

    result.__init__ = check_and_initialize  # type: ignore[method-assign]
    return result


def _require_within(name: str, value: float, low: float, high: float) -> None:
    """Raise UsageError unless low <= value <= high.

    If the value is too low, an upper limit of MANY or more is not mentioned.
    """
    if isinstance(value, int | float) and low <= value <= high:
        return
    is_low = isinstance(value, int | float) and value < low and high >= MANY
    raise UsageError(name, expected=f"at least {low:,}" if is_low else f"{low:,} to {high:,}", found=repr(value))


def require_fields(cls: Any, options: dict[str, Any]) -> None:
    """Raise UsageError if an option is not a field of the configuration class."""
    known = [each.name for each in fields(cls)]
    short_names = {each.metadata.get("short"): each.name for each in fields(cls)}
    for name in options:
        if name not in known:
            close = [short_names[name]] if name in short_names else get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UsageError(f"{cls.__name__} has no field {name!r}.{hint} Its fields are {', '.join(known)}.")


def resolve(cls: type[C], config: C | None, options: dict[str, Any]) -> C:
    """Return `config` with the fields in `options` replaced. If `config` is None, start from the defaults."""
    if config is not None and not isinstance(config, cls):
        kind = type(config).__name__
        found = f"an {kind}" if kind[0] in "AEIOUaeiou" else f"a {kind}"
        raise UsageError("config", expected=f"an lca.{cls.__name__}", found=found)
    require_fields(cls, options)
    return cls(**options) if config is None else replace(config, **options)  # type: ignore[type-var]
