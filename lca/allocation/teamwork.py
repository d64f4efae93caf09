"""Coordination of the processes that share an allocation, and the progress shown to the user."""

import time
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from lca.errors import Argument, Interrupted, Remedy
from lca.runtime.signals import Stop
from lca.runtime.workers import Phase, Workers

MANY = 10  # number of refined iterations from which a hint is shown, if they are the majority
REPORT_S = 1.0  # interval between the progress reports of a process
CONTINUE: Remedy = ("To continue, repeat the call without ", Argument("overwrite"), ".")


@dataclass
class Teamwork:
    """The processes of an allocation, their common progress bar, and the signal that stops them early."""

    workers: Workers
    progress: "tqdm[Any]"
    stop: Stop
    _unreported: int = field(default=0, init=False)
    _refined: int = field(default=0, init=False)
    _reported_at: float = field(default=0.0, init=False)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that opens and finishes the allocation."""
        return self.workers.first

    def advance(self, n: int, refined: int = 0, now: bool = False) -> None:
        """Count n more iterations as done, `refined` of them with more gradients than usual.

        Reports them and updates the progress bar at most once per REPORT_S, unless `now` is set or there is only one
        process.
        """
        self._unreported += n
        self._refined += refined
        if now or time.monotonic() - self._reported_at > REPORT_S or self.workers.size == 1:
            total = self.workers.add(Phase.ITERATIONS, self._unreported)
            refined = self.workers.add(Phase.REFINEMENTS, self._refined)
            self._unreported, self._refined, self._reported_at = 0, 0, time.monotonic()
            if refined:
                most = refined >= MANY and 2 * refined > total
                hint = f", a larger {Argument('tolerance')} is faster" if most else ""
                self.progress.set_postfix_str(f"{refined:,} refined{hint}", refresh=False)
            self.progress.update(total - self.progress.n)

    def wait(self, phase: Phase, n: int = 1) -> None:
        """Wait until the shared counter of a phase reaches n, and show the progress meanwhile."""

        def show_progress() -> None:
            self.raise_if_stopped()
            self.advance(0)

        self.workers.wait(phase, n, show_progress)

    def raise_if_stopped(self) -> None:
        """Raise Interrupted if a stop signal was received."""
        if self.stop.name:
            raise Interrupted(f"stopped by {self.stop.name}. Everything allocated so far is kept", remedy=CONTINUE)

    def show(self, text: str) -> None:
        """Show a short message after the progress bar."""
        self.progress.set_postfix_str(text, refresh=False)
        self.progress.update(0)
