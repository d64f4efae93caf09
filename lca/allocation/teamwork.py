"""What this process and the others of an allocation tell each other, and the user."""

import time
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from lca.errors import Argument, Interrupted, Remedy
from lca.runtime.signals import Stop
from lca.runtime.workers import Phase, Workers

REPORT_S = 1.0  # how often a process says how far it is
CONTINUE: Remedy = ("To continue, repeat the call without ", Argument("overwrite"), ".")


@dataclass
class Teamwork:
    """workers: who shares the work. progress: of all of them together. stop: whether to end early."""

    workers: Workers
    progress: "tqdm[Any]"
    stop: Stop
    _unreported: int = field(default=0, init=False)
    _reported_at: float = field(default=0.0, init=False)

    @property
    def leads(self) -> bool:
        """Whether this is the process that opens and finishes the allocation."""
        return self.workers.first

    def advance(self, n: int, now: bool = False) -> None:
        """Report, now and then, that n more iterations are done, and show how far all processes are."""
        self._unreported += n
        if now or time.monotonic() - self._reported_at > REPORT_S or self.workers.size == 1:
            total = self.workers.add(Phase.ITERATIONS, self._unreported)
            self._unreported, self._reported_at = 0, time.monotonic()
            self.progress.update(total - self.progress.n)

    def wait(self, phase: Phase, n: int = 1) -> None:
        """Wait until all processes together have counted to n; meanwhile their progress is shown."""

        def show_progress() -> None:
            self.raise_if_stopped()
            self.advance(0)

        self.workers.wait(phase, n, show_progress)

    def raise_if_stopped(self) -> None:
        """Raise Interrupted after a signal."""
        if self.stop.name:
            raise Interrupted(f"stopped by {self.stop.name}; what is allocated is kept", remedy=CONTINUE)

    def say(self, words: str) -> None:
        """Show a few words behind the progress bar."""
        self.progress.set_postfix_str(words, refresh=False)
        self.progress.update(0)
