"""Locks: one writer per store."""

import json
import os
import socket
from pathlib import Path
from typing import IO, Self

from lca.errors import LCAError

try:
    import fcntl
except ImportError:  # no such lock on this system: the owner is written down, and not enforced
    fcntl = None  # type: ignore[assignment]


class Lock:
    """The right to write into a store; a context manager.

    The operating system holds the lock for as long as the process lives, so that one left by a process that was killed
    is free again at once. The file says who has it: process and host.
    """

    def __init__(self, file: Path, store: Path) -> None:
        self.file, self.store = file, store
        self._handle: IO[str] | None = None

    def __enter__(self) -> Self:
        handle = self.file.open("a+")
        if fcntl:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                owner = _owner(self.file)
                handle.close()
                raise LCAError(
                    f"{self.store} is being written by {owner}",
                    remedy="Wait until it is done, or stop it, and try again.",
                ) from error
        handle.truncate(0)
        json.dump({"process": os.getpid(), "host": socket.gethostname()}, handle)
        handle.flush()
        self._handle = handle
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handle:
            self._handle.truncate(0)  # not removed: another process may have it open and be about to lock it
            self._handle.close()
            self._handle = None


def _owner(file: Path) -> str:
    try:
        owner = json.loads(file.read_text())
        return f"process {owner['process']} on {owner['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
