"""Checks that a store contains only files and folders. A link may lead out of it, and reading a pipe may never end."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lca.errors import LCAError

CHUNKS = "c"  # the folder of an array's chunks


def require_plain_file(path: Path) -> None:
    """Raise LCAError if the path is neither a file nor a folder, but a link, a pipe or a device."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if kind := _describe(path.lstat().st_mode):
            remedy = "Remove it, or restore the store from a backup."
            raise LCAError(str(path), expected="a file or a folder", found=kind, remedy=remedy)


def require_plain_below(folder: Path, name: str) -> None:
    """Raise LCAError if a file, or any folder on its path, is a link, a pipe or a device.

    `name` is the path of the file relative to `folder`.
    """
    for part in name.split("/"):
        folder /= part
        require_plain_file(folder)


def require_plain_folder(folder: Path) -> None:
    """Raise LCAError if the store in this folder contains links, pipes or devices, except among its chunks."""
    for path, _ in find_special_files(folder, with_chunks=False):
        require_plain_file(path)


def find_special_files(folder: Path, with_chunks: bool = True) -> Iterator[tuple[Path, str]]:
    """Yield the path and a description of every link, pipe and device below the folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process may have just renamed the file
                if kind := _describe(entry.stat(follow_symlinks=False).st_mode):
                    yield Path(entry.path), kind
                elif entry.is_dir(follow_symlinks=False) and (with_chunks or entry.name != CHUNKS):
                    yield from find_special_files(Path(entry.path), with_chunks)


def _describe(mode: int) -> str:
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return "a link" if stat.S_ISLNK(mode) else "a pipe or a device"
