"""Paths on a disk, where a file is written under another name and then renamed.

It is therefore either complete or absent.
"""

import errno
import glob
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from lca.errors import UsageError
from lca.store.locks import Lock
from lca.store.plain_files import find_special_files, require_plain_below, require_plain_file, require_plain_folder
from lca.store.schema import PARTIAL

ABANDONED_S = 60.0  # age above which a temporary folder is no longer in use by another process
# Seconds until another attempt to replace a file. Windows does not replace a file while another process reads it.
BUSY_S = (0.01, 0.1, 1.0) if sys.platform == "win32" else ()


@contextmanager
def whole_file(path: Path, previous: str = "") -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` at the end. After an exception, delete it instead.

    If `previous` is given, the replaced file is kept under this name in the same folder.
    """
    partial = path.with_name(f"{path.stem}{PARTIAL}{path.suffix}")
    try:
        yield partial
        if previous and path.exists():
            _replace(path, path.with_name(previous))
        _replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _replace(path: Path, target: Path) -> None:
    for delay in Local.busy_s:
        with suppress(PermissionError):
            path.replace(target)
            return
        time.sleep(delay)
    path.replace(target)


class Local:
    """The location of a file or folder on a disk. It need not exist."""

    retry_s: tuple[float, ...] = ()
    busy_s: tuple[float, ...] = BUSY_S

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> "Local":
        return Local(self.path / name)

    def exists(self) -> bool:
        return self.path.exists()

    def is_free(self) -> bool:
        """Return whether a store can be created here: the location must not exist, or be an empty folder."""
        return not self.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def files(self) -> dict[str, int]:
        """Return the size in bytes of every file below this location, by its relative path."""
        sizes = {}
        for file in self.path.rglob("*"):
            with suppress(FileNotFoundError):  # another process may have just renamed the file
                if file.is_file():
                    sizes[file.relative_to(self.path).as_posix()] = file.stat().st_size
        return sizes

    def folders(self) -> list[str]:
        """Return the names of the folders at this location."""
        return [each.name for each in self.path.iterdir() if each.is_dir()] if self.path.is_dir() else []

    def free_bytes(self) -> int | None:
        """Return the free disk space in bytes, or None if it is unknown."""
        return shutil.disk_usage(self.path).free

    def open(self) -> IO[bytes]:
        """Open the file for reading.

        Raise FileNotFoundError if it does not exist, and LCAError if it is a link, a pipe or a device.
        """
        require_plain_file(self.path)
        return self.path.open("rb")

    def write(self, fill: Callable[[IO[bytes]], object], previous: str = "") -> None:
        """Create or replace the file atomically. `fill` is called with a binary file and writes the content.

        On a disk, the replaced file is kept under the name `previous` in the same folder, if one is given.
        """
        with whole_file(self.path, previous) as partial, partial.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file, or the folder with everything in it, if it exists."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def create_folder(self) -> Iterator[Path]:
        """Yield a temporary path for a new store. At the end, move the finished store here in one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left in self.path.parent.glob(f".{glob.escape(self.path.name)}-????????"):  # by a process that was killed
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(left)
        with TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name}-") as folder:
            yield Path(folder) / "new"
            try:
                if self.path.exists():
                    self.path.rmdir()  # it is empty, as is_free has checked
                (Path(folder) / "new").rename(self.path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise UsageError(
                    f"another process has created {self.path} in the meantime", remedy="Choose another path."
                ) from error

    def lock(self, name: str, shared: bool = False) -> AbstractContextManager[object]:
        """Return a lock on the store, based on the file `name` in it."""
        return Lock(self.path / name, self.path, shared)

    def require_plain(self) -> None:
        """Raise LCAError if the store contains links, pipes or devices, except among its chunks."""
        require_plain_folder(self.path)

    def require_plain_below(self, name: str) -> None:
        """Raise LCAError if a file in the store, or any folder on its path, is a link, a pipe or a device."""
        require_plain_below(self.path, name)

    def find_special_files(self) -> dict[str, str]:
        """Return a description of every link, pipe and device below this location, by its relative path."""
        return {path.relative_to(self.path).as_posix(): kind for path, kind in find_special_files(self.path)}

    def zarr_store(self) -> Any:
        """Return the object to pass to zarr as the store."""
        from lca.store.checksums import CheckedStore
        from lca.store.local_store import LocalFiles

        return CheckedStore(LocalFiles(self.path), self)
