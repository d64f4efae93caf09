"""A zarr store on a disk that reads metadata at once.

zarr reads every file in a separate thread. Opening a run and its allocations reads the metadata of dozens of arrays,
and for files as small as these, waiting for a thread takes longer than reading.
"""

from typing import Any

from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore


class LocalFiles(LocalStore):
    """The files below a folder."""

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Buffer | None:
        if key.rpartition("/")[2] != "zarr.json" or byte_range is not None:
            return await super().get(key, prototype, byte_range)
        try:
            content = (self.root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(content)
