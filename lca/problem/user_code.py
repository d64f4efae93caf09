"""A problem of the user's own: a function that returns it, in a module or a file."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from lca.errors import Argument, LCAError, UsageError
from lca.problem.problem import Problem

GROUP = "lca.problems"  # of the entry points by which a package adds names
EXAMPLE = "path/file.py:factory or package.module:factory"


def is_factory(name: str) -> bool:
    """Whether a problem's name says where a function is, rather than being built in."""
    return ":" in name or name in list_plugins()


def list_plugins() -> dict[str, str]:
    """The names that installed packages add, and the functions that they stand for."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def make_problem(name: str, options: Mapping[str, Any], seed: int = 0) -> Problem:
    """Call the function that a name stands for; the caller's random state is left as it was.

    options: its arguments, text being read as what their defaults are. seed: of the weights it may draw.
    Raises UsageError where there is no such file, module or function, and LCAError, with their traceback, where the
    module or the function raise.
    """
    place, _, function = list_plugins().get(name, name).rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not function.isidentifier() or not (is_module or place.endswith(".py")):
        raise UsageError("problem", expected=EXAMPLE, found=repr(name))
    factory = getattr(_import_place(place), function, None)
    if not callable(factory):
        raise UsageError(
            f"{place} has no function {function!r}; it has {_list_functions(_import_place(place)) or 'none'}."
        )
    arguments = _read_arguments(factory, name, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            problem = factory(**arguments)
        except LCAError:
            raise
        except (Exception, SystemExit) as error:
            raise LCAError(f"{name} raised:\n\n{_format_traceback(error)}") from error
    if not isinstance(problem, Problem):
        raise LCAError(f"what {name} returned", expected="an lca.Problem", found=f"a {type(problem).__name__}")
    return replace(problem, name=name, options=arguments)


def _import_place(place: str) -> ModuleType:
    return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path} in {Path.cwd()}", remedy=f"Name the problem as {EXAMPLE}.")
    name = f"lca_problem_{path.stem}"
    if name in sys.modules and Path(str(sys.modules[name].__file__)) == path.resolve():
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    _make_importable(path.resolve().parent)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise LCAError(f"{path} raised on import:\n\n{_format_traceback(error)}") from error
    return module


def _import_module(name: str) -> ModuleType:
    _make_importable(Path.cwd())  # which is not on the path of a console script, nor of torchrun's workers
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"there is no module {error.name!r}, neither installed nor in {Path.cwd()}",
                remedy=f"Name the problem as {EXAMPLE}.",
            ) from None
        raise LCAError(f"{name} raised on import:\n\n{_format_traceback(error)}") from error
    except (Exception, SystemExit) as error:
        raise LCAError(f"{name} raised on import:\n\n{_format_traceback(error)}") from error


def _make_importable(folder: Path) -> None:
    """Modules of a folder can be imported from now on, also those that a problem imports later."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _read_arguments(factory: Callable[..., Any], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as arguments of the function; an error that lists what it takes."""
    parameters = inspect.signature(factory).parameters
    named = {key: p for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    takes = ", ".join(named) or "none"
    for key in options:
        if key not in named and not any_name:
            raise UsageError(f"{name} has no option {key!r}; it takes {takes}.")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in options:
            raise UsageError(
                f"{name} needs the option {key!r}; it takes {takes}", remedy=("Pass it in ", Argument("options"), ".")
            )
    return {
        key: _read_value(key, value, named[key].default if key in named else None) for key, value in options.items()
    }


def _read_value(name: str, value: Any, default: Any) -> Any:
    """Text as a value of the kind of the default: a bool, a number, or else text."""
    if not isinstance(value, str) or not isinstance(default, bool | int | float):
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        return type(default)(value)
    except (KeyError, ValueError):
        expected = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise UsageError(name, expected=expected, found=repr(value)) from None


def _list_functions(module: ModuleType) -> str:
    own = (name for name, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__)
    return ", ".join(name for name in own if not name.startswith("_"))


def _format_traceback(error: BaseException) -> str:
    """The traceback from where the user's own code begins."""
    frames = error.__traceback__
    while frames and (
        "importlib" in frames.tb_frame.f_code.co_filename or frames.tb_frame.f_code.co_filename == __file__
    ):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()
