"""A store at a URL whose process dies in the middle of its changes."""

import fsspec

from lca.store.paths import Remote


class Died(Exception):
    """As a process does."""


def flat(arguments):
    """The paths of an argument that is one or a list of them."""
    (paths,) = arguments
    return [paths] if isinstance(paths, str) else paths


class Dies:
    """The calls of a location's filesystem, until so many have changed something; from then on none does."""

    def __init__(self, n):
        self.n, self.call = n, Remote.call

    def __get__(self, location, kind):
        memory = fsspec.filesystem("memory")

        def call(method, *arguments, **options):
            if method in ("pipe_file", "rm"):
                self.n -= 1
                if self.n == -1 and method == "rm":  # an object store takes them one by one
                    there = [name for path in flat(arguments) for name in memory.find(path)]
                    for name in there[: len(there) // 2]:
                        memory.rm(name)
                if self.n < 0:
                    raise Died
            return self.call(location, method, *arguments, **options)

        return call


def dies(monkeypatch, n, action):
    """Whether the action dies in the change after n of them."""
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "call", Dies(n))
        try:
            action()
        except Died:
            return True
    return False
