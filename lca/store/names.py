"""Names that become part of a path in a store, such as those of allocations and of training scalars."""

import re
from collections.abc import Iterable

from lca.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # devices, not files, on Windows


def require_name(what: str, name: str, existing: Iterable[str] = ()) -> None:
    """Raise UsageError unless the name can be used in a path on any system.

    `what` describes it in the error message. The name may be one of the existing names, but must not differ from one
    only in upper and lower case, because both would be the same file on macOS and Windows.
    """
    if not NAME.fullmatch(name):
        expected = '1 to 64 letters, digits, ".", "_" or "-", beginning with a letter or digit and not ending with "."'
        raise UsageError(what, expected=expected, found=repr(name))
    if RESERVED.fullmatch(name):
        raise UsageError(what, expected="a name that Windows does not reserve for devices", found=repr(name))
    for other in existing:
        if name != other and name.lower() == other.lower():
            expected = f"a name that differs from {other!r} in more than upper and lower case"
            raise UsageError(what, expected=expected, found=repr(name))
