"""Names that become part of a path in a store, such as those of allocations and of training scalars."""

import re

from lca.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def require_name(what: str, name: str) -> None:
    """Raise UsageError unless the name can be used in a path. `what` describes it in the error message."""
    if not NAME.fullmatch(name):
        raise UsageError(
            what,
            expected='1 to 64 letters, digits, ".", "_" or "-", beginning with a letter or digit',
            found=repr(name),
        )
