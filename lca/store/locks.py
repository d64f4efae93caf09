"""File locks that prevent two processes from writing to the same run or allocation."""

import json
import os
import socket
from pathlib import Path
from typing import IO, Self

from lca.errors import LCAError
from lca.store.plain_files import require_plain_file

try:
    import fcntl
except ImportError:  # this system has no such locks: the file states the owner, but nothing is enforced
    fcntl = None  # type: ignore[assignment]


class Lock:
    """A context manager that locks a file of a store, either exclusively or together with other shared locks.

    The operating system releases the lock when the process ends, even if it is killed. The file of an exclusive lock
    contains the process ID and the host of its owner, for error messages.
    """

    def __init__(self, file: Path, store: Path, shared: bool = False) -> None:
        self.file, self.store, self.shared = file, store, shared
        self._handle: IO[str] | None = None

    def __enter__(self) -> Self:
        require_plain_file(self.file)
        handle = self.file.open("a+", encoding="utf-8")
        if fcntl:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as error:
                owner = _describe_owner(self.file)
                handle.close()
                raise LCAError(
                    f"{self.store} is being written by {owner}",
                    remedy="Wait until it is done, or stop it, and try again.",
                ) from error
        self._handle = handle
        if not self.shared:
            handle.truncate(0)
            json.dump({"process": os.getpid(), "host": socket.gethostname()}, handle)
            handle.flush()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handle:
            if not self.shared:
                self._handle.truncate(0)  # not deleted, because another process may be about to lock the open file
            self._handle.close()
            self._handle = None


def _describe_owner(file: Path) -> str:
    """Describe the process that holds a lock, as stated in its file or in the lock file of a part, FILE-PART."""
    for candidate in (file, *sorted(file.parent.glob(f"{file.name}-*"))):
        try:
            owner = json.loads(candidate.read_text(encoding="utf-8"))
            return f"process {owner['process']} on {owner['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return "another process"
