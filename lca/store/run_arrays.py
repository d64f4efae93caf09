"""Open the arrays of a run, whose files are compared with their checksums."""

import numpy as np
import zarr

from lca.store.checksums import Array, FileTable, Ledger, StoredLedger, checked_store
from lca.store.chunks import CHECKSUMS, SCALARS, ArrayFormat, detect_damage, open_array, verify_remedy
from lca.store.paths import Location
from lca.store.schema import NAN, ROOT


def open_weights(group: zarr.Group, path: Location, codec: str, block: int) -> Array:
    """Return the array `weights`. Every file that is read from it is compared with its checksum."""
    remedy = verify_remedy(path)
    with detect_damage(f"{path}/weights", remedy):
        node = group["weights"]
        dtype = "float64" if isinstance(node, zarr.Array) and node.dtype == np.float64 else "float32"
    form = ArrayFormat(dtype, ("parameter", "iterate"), NAN, codec)
    weights = open_array(group, "weights", f"{path}/weights", remedy, form, block)
    where = f"{path}/checksums"
    stored = open_array(group, "checksums", where, remedy, CHECKSUMS)
    with detect_damage(where, remedy):
        ledger = StoredLedger(stored, FileTable([(weights, 1)]))
    checked_store(group).state.ledgers["weights"] = ledger
    return weights


def weights_checksums(weights: Array) -> StoredLedger:
    """Return the checksums of the files of `weights`."""
    ledger = checked_store(weights).state.ledgers["weights"]
    assert isinstance(ledger, StoredLedger)
    return ledger


def open_training(group: zarr.Group, path: Location, checksums: dict[str, list[int]]) -> dict[str, Array]:
    """Return the arrays with one value per iteration of the training, by name.

    `checksums` contains those of the finished files of each array, which are compared when the files are read.
    """
    where, remedy = f"{path}/training", verify_remedy(path)
    with detect_damage(where, remedy):
        child = subgroup(group, "training")
        names = sorted(child.array_keys())
    arrays = {name: open_array(child, name, f"{where}/{name}", remedy, SCALARS) for name in names}
    with detect_damage(f"{path}/{ROOT}"):
        values = np.zeros((max(map(len, checksums.values()), default=0), len(names)), np.uint32)
        for column, name in enumerate(names):
            values[: len(checksums.get(name, [])), column] = checksums.get(name, [])
    files = FileTable((array, 0) for array in arrays.values())
    checked_store(group).state.ledgers["training"] = Ledger(files, values)
    return arrays


def subgroup(group: zarr.Group, name: str) -> zarr.Group:
    """Return a group in a group. Raise ValueError if it is an array."""
    child = group[name]
    if not isinstance(child, zarr.Group):
        raise ValueError(f"expected {name} to be a group, found an array")
    return child
