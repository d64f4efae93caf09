"""What can go wrong in a way that a user can mend."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "there is no permission to write",
}


class LCAError(Exception):
    """An expected failure of a run: the message says what was found, what was wanted and what to do."""


class UsageError(LCAError, ValueError):
    """A bad argument."""


class Interrupted(LCAError):
    """Stopped from outside, between two iterations; what is done is kept and can be gone on with."""


@contextmanager
def storage_errors(path: object, advice: str) -> Iterator[None]:
    """An error of the disk under path becomes one that says so, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise LCAError(f"{DISK[error.errno]}: {path}. {advice}") from error
