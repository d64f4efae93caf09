"""Stopping in good order when asked to."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Stop:
    """name: of the signal that came, or None."""

    name: str | None = None


@contextmanager
def catch_stop_signals() -> Iterator[Stop]:
    """Inside, a first SIGINT or SIGTERM is only noted, for the loop to see; a second one acts as it always does.

    Signals reach the main thread alone; in any other nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        stop.name = signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
