"""Files are read as by zarr's own store."""

import asyncio

import pytest
from zarr.abc.store import RangeByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from lca.store.local_store import LocalFiles


@pytest.mark.parametrize(
    "key", ["zarr.json", "a/zarr.json", "a/c/0", "none/zarr.json", "a/c/0/zarr.json", "folder/zarr.json"]
)
@pytest.mark.parametrize("byte_range", [None, RangeByteRequest(2, 5)])
def test_files_are_read_as_by_zarr(tmp_path, key, byte_range):
    for name in ("zarr.json", "a/zarr.json", "a/c/0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"content of {name}")
    (tmp_path / "folder/zarr.json").mkdir(parents=True)

    def read(store):
        found = asyncio.run(store.get(key, default_buffer_prototype(), byte_range))
        return found and found.to_bytes()

    assert read(LocalFiles(tmp_path)) == read(LocalStore(tmp_path))
    assert (read(LocalFiles(tmp_path)) is not None) == (tmp_path / key).is_file()
