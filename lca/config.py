"""Configurations: frozen dataclasses whose fields carry their help, choices and name in the shell.

A default and its choices stand in the dataclass and nowhere else; the shell derives its options from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar, dataclass_transform

from lca.errors import UsageError

C = TypeVar("C")


def option(
    *, default: Any, help: str, choices: Sequence[str] = (), short: str = "", metavar: str = "", unset: str = ""
) -> Any:
    """A field of a configuration.

    help: one sentence that is understood without the field's name. choices: the allowed values, if they are few.
    short: the name by which front ends know the field, if it is another. metavar: what stands for its value there.
    unset: what is used if the field is None, for the help.
    """
    metadata = {"help": help, "choices": tuple(choices), "short": short, "metavar": metavar, "unset": unset}
    return field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, field_specifiers=(option,))
def configuration(cls: type[C]) -> type[C]:
    """Make a class a frozen dataclass that refuses unknown fields and unknown choices with a UsageError."""
    check: Callable[[C], None] | None = getattr(cls, "__post_init__", None)

    def check_all(self: Any) -> None:
        for each in fields(self):
            value, choices = getattr(self, each.name), each.metadata.get("choices")
            if choices and value is not None and value not in choices:
                raise UsageError(each.name, expected=f"one of {', '.join(choices)}", found=repr(value))
        if check:
            check(self)

    cls.__post_init__ = check_all  # type: ignore[attr-defined]
    made = dataclass(frozen=True)(cls)
    initialize = made.__init__

    @wraps(initialize)
    def initialize_known(self: Any, *arguments: Any, **options: Any) -> None:
        require_fields(made, options)
        initialize(self, *arguments, **options)

    made.__init__ = initialize_known  # type: ignore[method-assign]
    return made


def require_fields(cls: Any, options: dict[str, Any]) -> None:
    """Raise UsageError unless every option is a field of the configuration class."""
    known = [each.name for each in fields(cls)]
    short_names = {each.metadata.get("short"): each.name for each in fields(cls)}
    for name in options:
        if name not in known:
            close = [short_names[name]] if name in short_names else get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UsageError(f"{cls.__name__} has no field {name!r}.{hint} Its fields are {', '.join(known)}.")


def resolve(cls: type[C], config: C | None, options: dict[str, Any]) -> C:
    """The configuration, with fields given as keywords in place of its own; a default one if it is None."""
    if config is not None and not isinstance(config, cls):
        raise UsageError("config", expected=f"an lca.{cls.__name__}", found=f"a {type(config).__name__}")
    require_fields(cls, options)
    return cls(**options) if config is None else replace(config, **options)  # type: ignore[type-var]
