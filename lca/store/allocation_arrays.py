"""Open the arrays of an allocation, whose files are compared with their checksums."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import zarr

from lca.errors import DamagedError, Remedy
from lca.store.blocks import ceil_div
from lca.store.checksums import Array, FileTable, StoredLedger, checked_store
from lca.store.chunks import CHECKSUMS, ArrayFormat, detect_damage, open_array
from lca.store.schema import ARRAYS, find_time_axis


class AllocationArrays:
    """The arrays of an allocation, opened when they are first used.

    Args:
        group: The group of the allocation.
        where: Location of the allocation, for error messages.
        attributes: Metadata of the allocation.
        sizes: The length of each dimension.
        block_length: Number of iterations in a block.
        remedy: What error messages about damaged arrays suggest.
    """

    def __init__(
        self,
        group: zarr.Group,
        where: str,
        attributes: Mapping[str, Any],
        sizes: Mapping[str, int],
        block_length: int,
        remedy: Remedy,
    ) -> None:
        self.group, self.where, self.attributes = group, where, attributes
        self.sizes, self.block_length, self.remedy = sizes, block_length, remedy

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays, in the order of the schema."""
        with detect_damage(self.where, self.remedy):
            found = set(self.group.array_keys())
        if missing := [name for name in ARRAYS if name not in found and self._is_required(name)]:
            raise DamagedError(f"{self.where}/{missing[0]} is damaged: its metadata are missing", remedy=self.remedy)
        return tuple(name for name in ARRAYS if name in found)

    @cached_property
    def checked(self) -> dict[str, Array]:
        """The arrays by name. Every file that is read from them is compared with its checksum."""
        checked_store(self.group).state.ledgers[self.group.path] = self.checksums
        return self._opened

    @cached_property
    def checksums(self) -> StoredLedger:
        """The checksums of `files`."""
        n_rows = ceil_div(self.sizes["iterate"], self.block_length)
        with detect_damage(f"{self.where}/checksums", self.remedy):
            return StoredLedger(self.stored_checksums, self.files, n_rows)

    @cached_property
    def stored_checksums(self) -> Array:
        """The array `checksums`."""
        return self._open("checksums", CHECKSUMS)

    @property
    def blocks(self) -> Array:
        """The array `blocks`, whose files have no checksums elsewhere."""
        return self._opened["blocks"]

    @property
    def files(self) -> FileTable:
        """The files of all arrays except `blocks`."""
        return FileTable((self._opened[name], find_time_axis(name)) for name in self.names if name != "blocks")

    @cached_property
    def _opened(self) -> dict[str, Array]:
        return {name: self._open(name, ArrayFormat(*ARRAYS[name])) for name in self.names}

    def _open(self, name: str, form: ArrayFormat) -> Array:
        where = f"{self.where}/{name}"
        array = open_array(self.group, name, where, self.remedy, form, self.block_length)
        if name in ARRAYS:
            expected = tuple(self.sizes[dimension] for dimension in form.dimensions)
            if array.shape != expected:
                raise DamagedError(
                    f"{where} is damaged: expected shape {expected}, found {array.shape}", remedy=self.remedy
                )
        return array

    def _is_required(self, name: str) -> bool:
        """Return whether the allocation was created with this array, according to its attributes."""
        a = self.attributes
        optional = {"lca": a.get("keep") == "lca", "class_lca": a.get("classes")}
        optional |= {"gradient_sign": a.get("gradient_signs")}
        return bool(optional.get(name, True))
