"""URLs of object stores and other places that fsspec supports, such as s3://bucket/run.zarr.

An object is always either complete or absent. Folders cannot be renamed, so a new store is created by writing its
contents first and its root metadata last. There are no locks, so nothing prevents two processes from writing to the
same URL.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from lca.errors import Argument, LCAError, UsageError
from lca.store.local import Local
from lca.store.schema import ROOT

# Written before ROOT, and possibly left behind by a crash.
METADATA = {"weights/zarr.json", "checksums/zarr.json", "training/zarr.json"}
RETRY_S = (0.3,)  # seconds after which an object that seems to be missing is read again, because it may exist
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


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
