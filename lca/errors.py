"""Errors that the user can fix: each says what was expected, what was found, and what to do about it.

Remedies are written for Python users. Arguments and calls in a remedy are objects rather than text, so that another
front end, such as the command line, can render them in its own syntax.
"""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

DISK_PROBLEMS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "there is no permission to write"
    + (", or another program has the file open" if sys.platform == "win32" else ""),
}

NO_THREAD = "can't start new thread"  # message of Python's RuntimeError

# The Python form of each call that a remedy can contain, with a field for the path of the run.
SIGNATURES = {
    "train": "lca.train(problem, {path}{arguments})",
    "allocate": "lca.allocate({path}, problem{arguments})",
    "verify": "lca.verify({path}{arguments})",
    "analysis.prune": "lca.analysis.prune({path}, evaluate{arguments})",
}


@dataclass(frozen=True)
class Argument:
    """An argument that an error suggests passing to the function that raised it.

    str() returns the Python form: "overwrite=True", or "batch_size" if there is no value.

    Attributes:
        name: Name of the argument.
        value: Value to pass. None if any value will do.
    """

    name: str
    value: Any = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


@dataclass(frozen=True, init=False)
class Call:
    """A call of a library function, as part of a remedy.

    str() returns the Python form: "lca.allocate('run.zarr', problem, split='val')".

    Attributes:
        function: Name of the function without the leading "lca.".
        path: Path or URL of the run.
        arguments: Further arguments of the call.
    """

    function: str
    path: str
    arguments: tuple[Argument, ...]

    def __init__(self, function: str, path: object, **arguments: Any) -> None:
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "path", str(path))
        object.__setattr__(self, "arguments", tuple(Argument(name, value) for name, value in arguments.items()))

    def __str__(self) -> str:
        arguments = "".join(f", {argument}" for argument in self.arguments)
        return SIGNATURES[self.function].format(path=repr(self.path), arguments=arguments)


Step = Argument | Call
Remedy = str | tuple[str | Step, ...]


class LCAError(Exception):
    """An expected failure, as opposed to a bug. It is the base class of all errors that `lca` raises deliberately.

    Attributes:
        message: What went wrong, or the subject that `expected` and `found` refer to.
        expected: What was expected. Empty if the message says it all.
        found: What was found instead.
        remedy: What to do about it: a string, or a tuple of strings, `Argument` and `Call` objects that are joined.
    """

    def __init__(self, message: str = "", *, expected: str = "", found: str = "", remedy: Remedy = "") -> None:
        super().__init__(message)
        self.message, self.expected, self.found, self.remedy = message, expected, found, remedy

    def __str__(self) -> str:
        return self.describe(str)

    def describe(self, render: Callable[[Step], str]) -> str:
        """Return the whole text of the error.

        Args:
            render: Function that turns an `Argument` or `Call` of the remedy into text. Pass `str` for Python syntax.
        """
        text = self.message
        if self.expected:
            difference = f"expected {self.expected}, found {self.found}."
            text = f"{text}: {difference}" if text else difference[0].upper() + difference[1:]
        if not self.remedy:
            return text
        parts = (self.remedy,) if isinstance(self.remedy, str) else self.remedy
        remedy = "".join(part if isinstance(part, str) else render(part) for part in parts)
        return f"{text.rstrip('.')}. {remedy}"


class UsageError(LCAError, ValueError):
    """An invalid argument. It is also a `ValueError`."""


class DamagedError(LCAError):
    """Part of a run store cannot be read, because a file is missing or its bytes do not match their checksum."""


class Interrupted(LCAError):
    """The work was stopped by a signal between two iterations. Finished work is kept and can be continued."""


@contextmanager
def storage_errors(path: object, remedy: Remedy) -> Iterator[None]:
    """Turn an error of the disk that holds `path` (full, over quota, read-only) into an LCAError with this remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_PROBLEMS:
            raise
        raise LCAError(f"{DISK_PROBLEMS[error.errno]}: {path}", remedy=remedy) from error
