"""Errors that the user can fix: what was expected, what was found, and what to do about it.

A remedy is written in Python's terms. Its parts that name an argument or a call are objects, so that another front end,
such as the shell, can render them in its own terms.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

DISK_PROBLEMS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "there is no permission to write",
}

# How each function of the library that a remedy may name takes the path of a run.
SIGNATURES = {
    "train": "lca.train(problem, {path}{arguments})",
    "allocate": "lca.allocate({path}, problem{arguments})",
    "verify": "lca.verify({path}{arguments})",
    "analysis.prune": "lca.analysis.prune({path}, evaluate{arguments})",
}


@dataclass(frozen=True)
class Argument:
    """An argument of the function that raised, as part of a remedy; value None stands for any value.

    str() gives Python's form: "overwrite=True", or "batch_size" without a value.
    """

    name: str
    value: Any = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


@dataclass(frozen=True, init=False)
class Call:
    """A call of the library, as part of a remedy; function is one of SIGNATURES.

    str() gives Python's form: "lca.allocate('run.zarr', problem, split='val')".
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
    """An expected failure, as opposed to a bug.

    message: what went wrong, or what `expected` and `found` are about. expected, found: where the two differ.
    remedy: what to do, as text, or as a tuple of texts, Arguments and Calls that are joined.
    """

    def __init__(self, message: str = "", *, expected: str = "", found: str = "", remedy: Remedy = "") -> None:
        super().__init__(message)
        self.message, self.expected, self.found, self.remedy = message, expected, found, remedy

    def __str__(self) -> str:
        return self.describe(str)

    def describe(self, render: Callable[[Step], str]) -> str:
        """The whole text, with the arguments and calls of the remedy as `render` gives them."""
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
    """A bad argument."""


class DamagedError(LCAError):
    """Part of a store cannot be read: a file is missing, or its bytes do not agree with their checksum."""


class Interrupted(LCAError):
    """Stopped from outside between two iterations. What is done is kept and can be continued."""


@contextmanager
def storage_errors(path: object, remedy: Remedy) -> Iterator[None]:
    """Turn a full or read-only disk under `path` into an LCAError with this remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_PROBLEMS:
            raise
        raise LCAError(f"{DISK_PROBLEMS[error.errno]}: {path}", remedy=remedy) from error
