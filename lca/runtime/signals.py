"""Handling of SIGINT and SIGTERM, so that a loop can stop cleanly."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Stop:
    """A request to stop. `name` is the name of the last recorded signal, or None if there was none."""

    name: str | None = None


@contextmanager
def catch_stop_signals() -> Iterator[Stop]:
    """Record SIGINT and SIGTERM in the yielded `Stop`, so that a loop can end cleanly.

    A second signal of the same kind has its usual effect. Python can set signal handlers only in the main thread, so
    this has no effect in any other thread.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def record(number: int, frame: object) -> None:
        stop.name = signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, record)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
