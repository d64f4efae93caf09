"""Files with a checksum, for content that is not part of a zarr array.

A file consists of MAGIC, the SHA-256 digest of the content, and the content.
"""

import hashlib
from collections.abc import Callable
from typing import IO, Any

from lca.errors import DamagedError
from lca.store.paths import Location

MAGIC = b"lca checked file 1\n"
DIGEST_SIZE = hashlib.sha256().digest_size


class _HashingFile:
    """A binary file that computes the digest of what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def write_checked(path: Location, fill: Callable[[Any], object], previous: str = "") -> None:
    """Create or replace a file atomically. `fill` is called with a binary file and writes the content.

    If `previous` is a name, the replaced file is kept under this name in the same folder. Object stores do not keep it.
    """

    def write(file: IO[bytes]) -> None:
        file.write(MAGIC + bytes(DIGEST_SIZE))
        hashing = _HashingFile(file)
        fill(hashing)
        file.seek(len(MAGIC))
        file.write(hashing.digest.digest())

    path.write(write, previous)


def read_checked(path: Location) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: The content does not match its checksum.
    """
    with path.open() as file:
        head = file.read(len(MAGIC) + DIGEST_SIZE)
        content = file.read()
    if not head.startswith(MAGIC):
        raise DamagedError(f"{path} is damaged: it does not begin with the expected header")
    if hashlib.sha256(content).digest() != head[len(MAGIC) :]:
        raise DamagedError(f"{path} is damaged: its content does not match its checksum")
    return content
