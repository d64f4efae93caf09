"""Locations of run stores: paths on a disk, and URLs that fsspec supports, such as s3://bucket/run.zarr.

This module contains everything that differs between the two. On a disk, a file is written under another name and then
renamed, so that it is either complete or absent. An object store guarantees this for every object. It cannot rename
folders, so a new store is created by writing its contents first and its root metadata last. It also has no locks, so
nothing prevents two processes from writing to the same URL.
"""

import asyncio
import errno
import glob
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from inspect import signature
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from lca.errors import Argument, LCAError, UsageError
from lca.store.locks import Lock
from lca.store.plain_files import find_special_files, require_plain_below, require_plain_file, require_plain_folder

ROOT = "zarr.json"  # its presence makes a folder or a URL a store
# Written before ROOT, and possibly left behind by a crash.
METADATA = {"weights/zarr.json", "checksums/zarr.json", "training/zarr.json"}
RETRY_S = (0.3,)  # seconds after which an object that seems to be missing is read again, because it may exist
ABANDONED_S = 60.0  # age above which a temporary folder is no longer in use by another process
PARTIAL = ".partial"  # marks the name of a file that is being written
# Seconds until another attempt to replace a file. Windows does not replace a file while another process reads it.
BUSY_S = (0.01, 0.1, 1.0) if sys.platform == "win32" else ()
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


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
        """Raise LCAError if a file in the store, or a folder on the way to it, is a link, a pipe or a device."""
        require_plain_below(self.path, name)

    def find_special_files(self) -> dict[str, str]:
        """Return a description of every link, pipe and device below this location, by its relative path."""
        return {path.relative_to(self.path).as_posix(): kind for path, kind in find_special_files(self.path)}

    def zarr_store(self) -> Any:
        """Return the object to pass to zarr as the store."""
        from lca.store.checksums import CheckedStore
        from lca.store.local_store import LocalFiles

        return CheckedStore(LocalFiles(self.path), self)


class Remote:
    """The location of an object, or of all objects with a common prefix, at a URL.

    Credentials and endpoint come from the environment, as described by the fsspec package for the protocol.
    """

    retry_s = RETRY_S
    busy_s = ()

    def __init__(self, url: str, filesystem: Any = None) -> None:
        self.url = url.rstrip("/")
        self._filesystem = filesystem or _filesystem(self.url)
        self.path = str(self._filesystem._strip_protocol(self.url))

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.url}/{name}", self._filesystem)

    def exists(self) -> bool:
        return bool(self.files())

    def is_free(self) -> bool:
        return not self.files().keys() - METADATA

    def files(self) -> dict[str, int]:
        try:
            found = self.call("find", self.path, detail=True)
        except MISSING:
            return {}
        return {name[len(self.path) + 1 :]: int(about["size"]) for name, about in found.items()}

    def folders(self) -> list[str]:
        try:
            found = self.call("ls", self.path, detail=True)
        except MISSING:
            return []
        return [each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory"]

    def free_bytes(self) -> int | None:
        return None

    def open(self) -> IO[bytes]:
        for delay in self.retry_s:
            try:
                return BytesIO(self.call("cat_file", self.path))
            except MISSING:
                time.sleep(delay)
        return BytesIO(self.call("cat_file", self.path))

    def write(self, fill: Callable[[IO[bytes]], object], previous: str = "") -> None:
        content = BytesIO()
        fill(content)
        self.call("pipe_file", self.path, content.getvalue())

    def remove(self) -> None:
        names = self.files().keys()
        # In this order, an interrupted removal leaves a store that can still be opened or replaced.
        for group in (names - METADATA - {ROOT}, names & {ROOT}, names & METADATA):
            if group:
                self.call("rm", [f"{self.path}/{name}" if name else self.path for name in group])

    @contextmanager
    def create_folder(self) -> Iterator[Path]:
        with TemporaryDirectory() as folder:
            made = Path(folder) / "new"
            yield made
            names = Local(made).files().keys()
            for name in (*(names - {ROOT}), *(names & {ROOT})):  # ROOT last, because it makes this a store
                self.call("pipe_file", f"{self.path}/{name}", (made / name).read_bytes())

    def lock(self, name: str, shared: bool = False) -> AbstractContextManager[object]:
        return nullcontext()

    def require_plain(self) -> None:
        """Do nothing: an object store has no links."""

    def require_plain_below(self, name: str) -> None:
        """Do nothing: an object store has no links."""

    def find_special_files(self) -> dict[str, str]:
        return {}

    def zarr_store(self) -> Any:
        from zarr.storage import FsspecStore

        from lca.store.checksums import CheckedStore

        return CheckedStore(FsspecStore(_AsyncFilesystem(self), path=self.path), self)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the filesystem, and turn its exceptions into LCAErrors.

        Reading or deleting a missing file raises the original exception instead, one of MISSING.
        """
        try:
            return getattr(self._filesystem, method)(*arguments, **options)
        except Exception as error:  # every protocol has its own types of exceptions
            action = {"pipe_file": "written", "rm": "deleted"}.get(method, "read")
            if isinstance(error, MISSING) and action != "written":
                raise
            reason = str(error).strip(". ") or type(error).__name__
            raise LCAError(
                f"{self} cannot be {action}: {reason}",
                remedy=(
                    "Check that the bucket exists, and that the environment contains the credentials and the endpoint "
                    "(for s3://, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL). Everything written so "
                    "far is kept. To continue an allocation, repeat it. To continue a training run, pass ",
                    Argument("resume", True),
                    ".",
                ),
            ) from error


Location = Local | Remote


def find_half_written(location: Location) -> list[str]:
    """Return the relative paths of half-written files below a location, left behind by an interrupted process."""
    return [name for name in location.files() if PARTIAL in name.rpartition("/")[2]]


def remove_half_written(location: Location) -> None:
    """Delete the half-written files below a location. No other process may be writing there."""
    for name in find_half_written(location):
        (location / name).remove()


def locate(place: Location | Path | str) -> Location:
    """Return the location for a path or URL. A string with a protocol is a URL, and anything else is a path.

    As in any URL, the path in a file:// URL can contain escapes, such as %20 for a space.
    """
    if isinstance(place, Local | Remote):
        return place
    if isinstance(place, str) and is_url(place):
        if not place.startswith("file://"):
            return Remote(place)
        from urllib.request import url2pathname  # takes long to import

        return Local(Path(url2pathname(place.removeprefix("file://").removeprefix("localhost"))))
    if isinstance(place, Path) and re.match(r"\w{2,}:[/\\]", str(place)):
        raise UsageError(f"{place} is a URL that was turned into a Path", remedy="Pass the URL as a string.")
    if not isinstance(place, str | os.PathLike):
        found = f"a {type(place).__name__}"
        raise UsageError("path", expected="a path or URL", found=found, remedy="Check the order of the arguments.")
    return Local(Path(place))


def is_url(place: str) -> bool:
    """Return whether a string begins with a protocol. A single letter is the drive of a path, as in C://runs."""
    return re.match(r"(?![A-Za-z]:)[^/\\]*://", place) is not None


class _AsyncFilesystem:
    """The filesystem of a remote location, with asynchronous methods that can be awaited in any event loop.

    fsspec's own asynchronous filesystems are bound to a single event loop, but the recorder's thread and zarr use
    different ones.
    """

    async_impl = asynchronous = True

    def __init__(self, location: Remote) -> None:
        self.location = location

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **options: asyncio.to_thread(
            self.location.call, name.removeprefix("_"), *arguments, **options
        )


def _filesystem(url: str) -> Any:
    import fsspec

    protocol = url.partition("://")[0]
    try:
        kind = fsspec.get_filesystem_class(protocol)
        parameters = list(signature(kind.__init__).parameters.values())[1:]
        if any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
            raise ValueError(f"{protocol}:// is not supported, because it needs more than a URL")
        return fsspec.filesystem(protocol, use_listings_cache=False)  # other processes may write
    except ImportError as error:
        raise LCAError(
            f"{url} needs a package that is not installed ({error})",
            remedy="For s3://, install it with: pip install 'loss-change-allocation[cloud]'",
        ) from error
    except ValueError as error:
        expected = "a path, or a URL such as s3://bucket/run.zarr"
        raise UsageError(str(error), expected=expected, found=repr(url)) from error
