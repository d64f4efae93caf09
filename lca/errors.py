"""What can go wrong in a way that a user can mend."""


class LCAError(Exception):
    """An expected failure of a run: the message says what was found, what was wanted and what to do."""


class UsageError(LCAError, ValueError):
    """A bad argument."""
