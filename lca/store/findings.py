"""Defects of a run store that `verify` reports. Reading continues in spite of damage."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lca.errors import DamagedError
from lca.store.checksums import Array
from lca.store.chunks import detect_damage, read_part


@dataclass(frozen=True)
class Finding:
    """A defect in a run store.

    Attributes:
        where: The affected array, block or attribute.
        what: Description of the defect.
        repair: Function that marks the affected part as missing, so that it is computed again, or removes it. None if
            the defect cannot be repaired.
    """

    where: str
    what: str
    repair: Callable[[], None] | None = None


def run_check(where: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check. If damage stops the check, yield this damage as the last finding."""
    try:
        with detect_damage(where):
            yield from check()
    except DamagedError as error:
        yield Finding(where, str(error))


def try_to_read(array: Array, where: Any) -> NDArray[Any] | str:
    """Read a part of an array. If it is damaged, return a description of the damage instead."""
    try:
        return read_part(array, where, "")
    except DamagedError as error:
        return f"damaged: {error.__cause__}"
