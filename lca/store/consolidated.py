"""The metadata of a whole run, repeated in the zarr.json at its root: xarray asks for them there, and warns without.

They are there while nothing changes: a run or an allocation that is finished writes them, and whoever changes metadata
below the root drops them before, so that a crash leaves none that are out of date, and again after, in case another
process finished meanwhile. lca itself never reads them.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import zarr

from lca.errors import LCAError
from lca.store.paths import Location

_STRANGERS = "Object at .* is not recognized"  # of files that are not zarr's, such as what a crash leaves half-written


def write(path: Location) -> None:
    """Write them, unless another process changes the run meanwhile: it will write them when it is done."""
    with _without("Consolidated metadata is currently not part in the Zarr format 3", _STRANGERS):
        zarr.consolidate_metadata(path.zarr_store())  # marked there as what readers who do not know it may skip
    if not is_current(path):
        drop(path)


@contextmanager
def drop_for_changes(path: Location) -> Iterator[None]:
    """For changes to metadata below the root."""
    drop(path)
    yield
    drop(path)


def ensure(path: Location) -> None:
    """Write them where a crash kept them from being written, if that can be done: only other readers miss them."""
    with suppress(OSError, LCAError):
        if read_metadata(path) is None:
            write(path)


def drop(path: Location) -> None:
    """Remove them from the root, if they are there."""
    if read_metadata(path) is not None:
        open_root(path, "r+").update_attributes({})  # which writes the root as it was opened: without


def open_root(path: Location, mode: str) -> zarr.Group:
    """The run as it is, whatever the consolidated metadata say."""
    return zarr.open_group(path.zarr_store(), mode=mode, use_consolidated=False)  # type: ignore[arg-type]


def is_current(path: Location) -> bool:
    """Whether they say what the metadata below the root say; so it is where there are none."""
    repeated = read_metadata(path)
    if repeated is None:
        return True
    with _without(_STRANGERS):
        there = open_root(path, "r").members(max_depth=None, use_consolidated_for_children=False)
    return {name: _own(each) for name, each in repeated.flattened_metadata.items()} == {
        name: _own(each.metadata) for name, each in there
    }


def read_metadata(path: Location) -> Any:
    """The consolidated metadata of the run; None where there are none."""
    return zarr.open_group(path.zarr_store(), mode="r").metadata.consolidated_metadata


@contextmanager
def _without(*messages: str) -> Iterator[None]:
    """Without these warnings of zarr."""
    with warnings.catch_warnings():
        for message in messages:
            warnings.filterwarnings("ignore", message=message)
        yield


def _own(metadata: Any) -> dict[str, Any]:
    """What an array or group says of itself."""
    return {key: value for key, value in metadata.to_dict().items() if key != "consolidated_metadata"}
