"""Problems defined by the user's code: functions in a module or a file that return a Problem."""

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from lca.errors import Argument, LCAError, UsageError
from lca.problem.losses import describe_value
from lca.problem.problem import Problem

GROUP = "lca.problems"  # group of the entry points with which packages add problems
EXAMPLE = "path/file.py:factory or package.module:factory"


def is_factory(name: str) -> bool:
    """Return whether a problem's name refers to a function rather than to a built-in problem."""
    without_drive = re.sub(r"^[A-Za-z]:(?=[/\\])", "", name)  # of a path on Windows
    return ":" in without_drive or name in list_plugins()


def list_plugins() -> dict[str, str]:
    """Return the problems that installed packages register: the location of each function, by name."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def make_problem(name: str, options: Mapping[str, Any], seed: int = 0) -> Problem:
    """Call the function that `name` refers to, and return the problem that it creates.

    `options` are the arguments of the function. Text is converted to the type of the argument's default. The random
    state of torch is seeded with `seed` for the call, and restored afterwards.

    Raises UsageError if the file, the module, the function or an option does not exist. Raises LCAError, with the
    traceback, if the user's code raises an exception.
    """
    place, _, function = list_plugins().get(name, name).rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not function.isidentifier() or not (is_module or place.endswith(".py")):
        raise UsageError("problem", expected=EXAMPLE, found=repr(name))
    factory = getattr(_import_place(place), function, None)
    if not callable(factory):
        functions = _list_functions(_import_place(place))
        raise UsageError(
            f"{place} has no function {function!r}",
            remedy=f"Its functions are {functions}." if functions else "It defines no public functions.",
        )
    arguments = _read_arguments(factory, name, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            problem = factory(**arguments)
        except LCAError:
            raise
        except (Exception, SystemExit) as error:
            raise LCAError(f"{name} raised an exception:\n\n{_format_traceback(error)}") from error
    if not isinstance(problem, Problem):
        raise LCAError(f"the return value of {name}", expected="an lca.Problem", found=describe_value(problem))
    return replace(problem, name=name, options=arguments)


def _import_place(place: str) -> ModuleType:
    return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{path} does not exist (looked in {Path.cwd()})", remedy=f"Name the problem as {EXAMPLE}.")
    _make_importable(path.resolve().parent)
    name = path.stem if _can_import(path) else f"lca_problem_{path.stem}"
    if name in sys.modules and Path(str(sys.modules[name].__file__)).resolve() == path.resolve():
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look for it there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise LCAError(f"{path} raised an exception on import:\n\n{_format_traceback(error)}") from error
    return module


def _can_import(path: Path) -> bool:
    """Return whether Python finds this file by its name, as the workers of a DataLoader do on macOS and Windows."""
    importlib.invalidate_caches()  # the file may be new
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
        return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path.resolve()
    return False


def _import_module(name: str) -> ModuleType:
    _make_importable(Path.cwd())  # not on sys.path for a console script or torchrun's workers
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"module {error.name!r} is neither installed nor in {Path.cwd()}",
                remedy=f"Name the problem as {EXAMPLE}.",
            ) from None
        raise LCAError(f"{name} raised an exception on import:\n\n{_format_traceback(error)}") from error
    except (Exception, SystemExit) as error:
        raise LCAError(f"{name} raised an exception on import:\n\n{_format_traceback(error)}") from error


def _make_importable(folder: Path) -> None:
    """Make the modules of a folder importable, including those that a problem imports later."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _read_arguments(factory: Callable[..., Any], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the options to arguments of the function. Raise UsageError if one is unknown or missing."""
    parameters = inspect.signature(factory).parameters
    named = {key: p for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in options:
        if key not in named and not any_name:
            remedy = f"Its options are {', '.join(named)}." if named else "It has no options."
            raise UsageError(f"{name} has no option {key!r}", remedy=remedy)
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in options:
            raise UsageError(f"{name} requires the option {key!r}", remedy=("Pass it in ", Argument("options"), "."))
    return {
        key: _read_value(key, value, named[key].default if key in named else None) for key, value in options.items()
    }


def _read_value(name: str, value: Any, default: Any) -> Any:
    """Convert text to a bool or a number if the default is one. Return other values unchanged."""
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
    """Format a traceback, beginning with the first frame of the user's code."""
    frames = error.__traceback__
    while frames and (
        "importlib" in frames.tb_frame.f_code.co_filename or frames.tb_frame.f_code.co_filename == __file__
    ):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()
