"""Simulation of a process that dies while it changes a store at a URL."""

import fsspec

from lca.store.remote import Remote


class Died(Exception):
    """The simulated death of the process."""


def flat(arguments):
    """Return the only argument, a path or a list of paths, as a list."""
    (paths,) = arguments
    return [paths] if isinstance(paths, str) else paths


class Dies:
    """A replacement for `Remote.call` that allows n changes to the store and raises Died at every later one."""

    def __init__(self, n):
        self.n, self.call = n, Remote.call

    def __get__(self, location, kind):
        memory = fsspec.filesystem("memory")

        def call(method, *arguments, **options):
            if method in ("pipe_file", "rm"):
                self.n -= 1
                if self.n == -1 and method == "rm":  # an object store deletes objects one by one
                    names = [name for path in flat(arguments) for name in memory.find(path)]
                    for name in names[: len(names) // 2]:
                        memory.rm(name)
                if self.n < 0:
                    raise Died
            return self.call(location, method, *arguments, **options)

        return call


def dies(monkeypatch, n, action):
    """Run an action, and return whether it dies after n changes to the store."""
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "call", Dies(n))
        try:
            action()
        except Died:
            return True
    return False
