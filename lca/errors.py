"""What can go wrong in a way that a user can mend."""


class LCAError(Exception):
    """An expected failure of a run: the message says what was found, what was wanted and what to do."""


class UsageError(LCAError, ValueError):
    """A bad argument."""


class Interrupted(LCAError):
    """Stopped from outside, between two iterations; what is done is kept and can be gone on with."""
