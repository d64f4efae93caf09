"""Locations of run stores: paths on a disk and URLs."""

import os
import re
from pathlib import Path

from lca.errors import UsageError
from lca.store.local import Local
from lca.store.remote import Remote
from lca.store.schema import PARTIAL

Location = Local | Remote


def find_half_written(location: Location) -> list[str]:
    """Return the relative paths of half-written files below a location, left behind by an interrupted process."""
    return [name for name in location.files() if PARTIAL in name.rpartition("/")[2]]


def remove_half_written(location: Location) -> None:
    """Delete the half-written files below a location. No other process may be writing there."""
    for name in find_half_written(location):
        (location / name).remove()


def locate(place: Location | Path | str) -> Location:
    """Return the location for a path or URL. A string with a protocol is a URL, and anything else is a path.

    As in any URL, the path in a file:// URL can contain escapes, such as %20 for a space.
    """
    if isinstance(place, Local | Remote):
        return place
    if isinstance(place, str) and is_url(place):
        if not place.startswith("file://"):
            return Remote(place)
        from urllib.request import url2pathname  # takes long to import

        return Local(Path(url2pathname(place.removeprefix("file://").removeprefix("localhost"))))
    if isinstance(place, Path) and re.match(r"\w{2,}:[/\\]", str(place)):
        raise UsageError(f"{place} is a URL that was turned into a Path", remedy="Pass the URL as a string.")
    if not isinstance(place, str | os.PathLike):
        found = f"a {type(place).__name__}"
        raise UsageError("path", expected="a path or URL", found=found, remedy="Check the order of the arguments.")
    return Local(Path(place))


def is_url(place: str) -> bool:
    """Return whether a string begins with a protocol. A single letter is the drive of a path, as in C://runs."""
    return re.match(r"(?![A-Za-z]:)[^/\\]*://", place) is not None
