"""Paths and URLs: where a run store is, on a disk or at a URL that fsspec knows (s3://bucket/run.zarr).

All that differs between the two is here. An object store writes an object whole or not at all, which is what a rename
does on a disk. It has no folders to move, so a store is created by writing its contents first and last the file that
makes it a store; and it has no locks, so that nobody is kept out.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from lca.errors import Argument, LCAError, UsageError
from lca.store.locks import Lock

ROOT = "zarr.json"  # what makes a folder, or what is below a URL, a store
METADATA = {"weights/zarr.json", "training/zarr.json"}  # what is written before it, and may be left by a crash
PARTIAL = ".partial"  # in the name of a file that is being written
NOT_THERE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which then replaces `path`; after an exception nothing is left of it."""
    partial = path.with_name(f"{path.stem}{PARTIAL}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Local:
    """A folder or a file of a disk, there or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> "Local":
        return Local(self.path / name)

    def exists(self) -> bool:
        return self.path.exists()

    def is_free(self) -> bool:
        """Whether a store can be made here: nothing is there, or an empty folder."""
        return not self.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def files(self) -> dict[str, int]:
        """The bytes of every file below, by its name from here."""
        there = {}
        for file in self.path.rglob("*"):
            with suppress(FileNotFoundError):  # another process may be writing
                if file.is_file():
                    there[file.relative_to(self.path).as_posix()] = file.stat().st_size
        return there

    def free_bytes(self) -> int | None:
        """What can still be written; None if that is not known."""
        return shutil.disk_usage(self.path).free

    def open(self) -> IO[bytes]:
        """The file, to read; FileNotFoundError if it is not there."""
        return self.path.open("rb")

    def write(self, fill: Callable[[IO[bytes]], object]) -> None:
        """Make or replace the file, so that at any moment one whole file is there. fill: writes its bytes."""
        with whole_file(self.path) as partial, partial.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """The file, or the folder with all that is in it, if it is there."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def create_folder(self) -> Iterator[Path]:
        """The place of a folder to make a store in; afterwards it is here, as a whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name}-") as folder:
            yield Path(folder) / "new"
            if self.path.exists():
                self.path.rmdir()  # empty, or it would not have come so far
            (Path(folder) / "new").rename(self.path)

    def lock(self, name: str) -> AbstractContextManager[object]:
        """The right to write, held by a file below."""
        return Lock(self.path / name, self.path)

    def zarr_store(self) -> Any:
        """What zarr opens."""
        return self.path


class Remote:
    """The same at a URL. Credentials and endpoint are those of the environment, as the protocol has them."""

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
        except NOT_THERE:
            return {}
        return {name[len(self.path) + 1 :]: int(about["size"]) for name, about in found.items()}

    def free_bytes(self) -> int | None:
        return None

    def open(self) -> IO[bytes]:
        return BytesIO(self.call("cat_file", self.path))

    def write(self, fill: Callable[[IO[bytes]], object]) -> None:
        content = BytesIO()
        fill(content)
        self.call("pipe_file", self.path, content.getvalue())

    def remove(self) -> None:
        names = self.files().keys()
        for some in (names - METADATA - {ROOT}, names & {ROOT}, names & METADATA):  # what is left can be gone on with
            if some:
                self.call("rm", [f"{self.path}/{name}" if name else self.path for name in some])

    @contextmanager
    def create_folder(self) -> Iterator[Path]:
        with TemporaryDirectory() as folder:
            made = Path(folder) / "new"
            yield made
            names = Local(made).files().keys()
            for name in (*(names - {ROOT}), *(names & {ROOT})):  # last what makes it a store
                self.call("pipe_file", f"{self.path}/{name}", (made / name).read_bytes())

    def lock(self, name: str) -> AbstractContextManager[object]:
        return nullcontext()

    def zarr_store(self) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore(_Awaited(self), path=self.path)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """A method of the filesystem; what goes wrong becomes an LCAError, but for what is not there to be read."""
        try:
            return getattr(self._filesystem, method)(*arguments, **options)
        except Exception as error:  # every protocol and its libraries have their own kinds
            writing = method == "pipe_file"
            if isinstance(error, NOT_THERE) and not writing:
                raise
            reason = str(error).strip(". ") or type(error).__name__
            raise LCAError(
                f"{self} cannot be {'written' if writing else 'read'}: {reason}",
                remedy=(
                    "The bucket must exist, and the environment must hold credentials and endpoint (for s3:// "
                    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL). What is written is kept. Repeat an "
                    "allocation to continue it; to continue a training, pass ",
                    Argument("resume", True),
                    ".",
                ),
            ) from error


Location = Local | Remote


def half_written(location: Location) -> list[str]:
    """The files below a location that an interrupted process left; nothing reads them."""
    return [name for name in location.files() if PARTIAL in name.rpartition("/")[2]]


def locate(place: Location | Path | str) -> Location:
    """The location that a user means: a string with a protocol is a URL, anything else a path."""
    if isinstance(place, Local | Remote):
        return place
    if isinstance(place, str) and "://" in place:
        protocol, _, path = place.partition("://")
        return Local(Path(path)) if protocol == "file" else Remote(place)
    if isinstance(place, Path) and re.match(r"\w{2,}:[/\\]", str(place)):
        raise UsageError(f"{place} was a URL before it became a Path", remedy="Pass it as a string.")
    return Local(Path(place))


class _Awaited:
    """The filesystem of a location as zarr wants it: its methods as coroutines, for an event loop of any thread.

    fsspec's own asynchronous filesystems belong to one event loop, and the recorder's thread has another than zarr.
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
        return fsspec.filesystem(protocol, use_listings_cache=False)  # others may write there too
    except ImportError as error:
        raise LCAError(
            f"{url} needs a package that is not installed ({error})",
            remedy="For s3:// install it with: pip install 'loss-change-allocation[cloud]'",
        ) from error
    except ValueError as error:
        expected = "a path, or a URL such as s3://bucket/run.zarr"
        raise UsageError(str(error), expected=expected, found=repr(url)) from error
