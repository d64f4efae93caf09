"""File locks that prevent two processes from writing to the same run or allocation."""

import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Self

from lca.errors import LCAError
from lca.store.plain_files import require_plain_file

if sys.platform == "win32":
    import msvcrt

    # Windows locks bytes of a file, always exclusively. Here, an exclusive lock covers all of these bytes, and a shared
    # one a single one of them. They lie behind the content, because other processes cannot read locked bytes.
    LOCKED_BYTES = range(2**20, 2**20 + 256)

    def lock_file(file: IO[bytes], shared: bool) -> Callable[[], None]:
        """Lock an open file and return a function that unlocks it. Raise BlockingIOError if others have locked it."""
        n = 1 if shared else len(LOCKED_BYTES)

        def change(mode: int, first: int) -> None:
            file.seek(first)
            msvcrt.locking(file.fileno(), mode, n)

        for first in LOCKED_BYTES[::n]:
            with suppress(PermissionError):  # another lock covers these bytes
                change(msvcrt.LK_NBLCK, first)
                return partial(change, msvcrt.LK_UNLCK, first)
        raise BlockingIOError

else:
    import fcntl

    def lock_file(file: IO[bytes], shared: bool) -> Callable[[], None]:
        """Lock an open file and return a function that unlocks it. Raise BlockingIOError if others have locked it."""
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return partial(fcntl.flock, file, fcntl.LOCK_UN)


class Lock:
    """A context manager that locks a file of a store, either exclusively or together with other shared locks.

    The operating system releases the lock when the process ends, even if it is killed. The file of an exclusive lock
    contains the process ID and the host of its owner, for error messages.
    """

    def __init__(self, file: Path, store: Path, shared: bool = False) -> None:
        self.file, self.store, self.shared = file, store, shared
        self._handle: IO[bytes] | None = None
        self._unlock: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        require_plain_file(self.file)
        handle = self.file.open("ab+", buffering=0)
        try:
            self._unlock = lock_file(handle, self.shared)
        except OSError as error:
            handle.close()
            if not isinstance(error, BlockingIOError):  # such as a file system without locks
                raise
            raise LCAError(
                f"{self.store} is being written by {_describe_owner(self.file)}",
                remedy="Wait until it is done, or stop it, and try again.",
            ) from error
        self._handle = handle
        if not self.shared:
            handle.truncate(0)
            handle.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode())
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handle:
            if not self.shared:
                self._handle.truncate(0)  # not deleted, because another process may be about to lock the open file
            self._unlock()
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
