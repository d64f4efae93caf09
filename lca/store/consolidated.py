"""Consolidated metadata: a copy of all metadata of a run in the zarr.json at its root.

xarray looks for this copy and warns if it is missing, but lca itself never uses it. The copy is written when a run or
an allocation is finished. Before any metadata below the root are changed, the copy is removed, so that a crash cannot
leave an outdated one behind. It is removed again after the change, in case another process has written it in the
meantime.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import zarr

from lca.errors import Call, DamagedError, LCAError
from lca.store.chunks import detect_damage
from lca.store.paths import Location
from lca.store.schema import ROOT

UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)  # what zarr raises for damaged metadata


def write(path: Location) -> None:
    """Write the consolidated metadata.

    They are removed again if another process changes the run at the same time. That process writes them when it
    finishes.
    """
    with warnings.catch_warnings():  # readers that do not know it may ignore it
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part in the Zarr format 3")
        try:
            zarr.consolidate_metadata(path.zarr_store())
        except UNREADABLE as error:
            raise DamagedError(
                f"the metadata below {path} are damaged: {error}",
                remedy=("To find the damaged file, use ", Call("verify", path), "."),
            ) from error
    if not is_current(path):
        drop(path)


@contextmanager
def drop_for_changes(path: Location) -> Iterator[None]:
    """Remove the consolidated metadata before and after a change to metadata below the root."""
    drop(path)
    yield
    drop(path)


def ensure(path: Location) -> None:
    """Write the consolidated metadata if they are missing. Ignore failures, because lca itself does not use them."""
    with suppress(OSError, LCAError):
        if read_metadata(path) is None:
            write(path)


def drop(path: Location) -> None:
    """Remove the consolidated metadata from the root, if they exist, even if they are damaged."""
    try:
        exist = read_metadata(path) is not None
    except DamagedError:
        exist = True
    if exist:
        with detect_damage(f"{path}/{ROOT}"):
            root = open_root(path, "r+")
        root.update_attributes({})  # rewrites the root's metadata without the copy


def open_root(path: Location, mode: str) -> zarr.Group:
    """Open the root group of a run without using the consolidated metadata."""
    return zarr.open_group(path.zarr_store(), mode=mode, use_consolidated=False)  # type: ignore[arg-type]


def is_current(path: Location) -> bool:
    """Return whether the consolidated metadata are missing or equal to the metadata of all arrays and groups."""
    try:
        copied = read_metadata(path)
    except DamagedError:
        return False
    if copied is None:
        return True
    members = open_root(path, "r").members(max_depth=None, use_consolidated_for_children=False)
    return {name: _get_own(metadata) for name, metadata in copied.flattened_metadata.items()} == {
        name: _get_own(member.metadata) for name, member in members
    }


def read_metadata(path: Location) -> Any:
    """Return the consolidated metadata of the run, or None if missing. Raise DamagedError if they are damaged."""
    try:
        return zarr.open_group(path.zarr_store(), mode="r").metadata.consolidated_metadata
    except UNREADABLE as error:
        raise DamagedError(f"{path}/{ROOT} is damaged: {error}") from error


def _get_own(metadata: Any) -> dict[str, Any]:
    """Return the metadata of an array or group without the consolidated metadata of its members."""
    return {key: value for key, value in metadata.to_dict().items() if key != "consolidated_metadata"}
