"""The processes that share an allocation: one, or as many as torchrun has started.

What is shared are blocks of iterations, which are independent. Each process takes the next one by an atomic addition in
the key-value store that torchrun runs anyway; nothing else is exchanged.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import count
from typing import Any, Protocol, Self
from uuid import uuid4

import torch

from lca.errors import Argument, LCAError

POLL_S = 0.05
BEAT_S = 5.0  # how often a process shows that it lives
SILENCE_S = 120.0  # after which it is taken for dead

_starts = count(1)  # of this process, to tell those of others before it


class Phase(StrEnum):
    """What the processes count, and wait for each other to reach."""

    OPENED = "opened"  # the allocation is open
    DATA = "data"  # the digest of the first process's data is published
    CHECKED = "checked"  # the preflight has passed
    ITERATIONS = "iterations"  # allocated iterations, for the progress bar
    BLOCKS = "blocks"
    REFINED = "refined"  # the total is within its bound
    AUDITED = "audited"  # audited iterations
    FINISHED = "finished"


class Store(Protocol):
    """What is used of torch.distributed.Store."""

    def add(self, key: str, amount: int) -> int: ...
    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...


class Workers:
    """rank: of this process, 0 … size − 1; a context manager, inside which it shows the others that it lives.

    The first opens and finishes what all work on, and speaks to the user. restarted: whether torchrun has started the
    processes in place of others, one of which has died or come.
    """

    def __init__(self, store: Store, rank: int = 0, size: int = 1, *, restarted: bool = False) -> None:
        self._store, self.rank, self.size, self.restarted = store, rank, size, restarted
        self._leaving = threading.Event()
        self._seen = {other: (0, time.monotonic()) for other in range(size) if other != rank}

    def __enter__(self) -> Self:
        if self.size > 1:
            threading.Thread(target=self._beat, name="lca-pulse", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._leaving.set()

    @property
    def first(self) -> bool:
        return self.rank == 0

    def take(self, phase: Phase, n: int) -> Iterator[int]:
        """The indices 0 … n − 1, each to exactly one process, as it comes for the next."""
        while (i := self._store.add(f"next/{phase}", 1) - 1) < n:
            yield i

    def add(self, phase: str, n: int = 1) -> int:
        """Add n to the count of all processes; returns the sum."""
        return self._store.add(f"count/{phase}", n)

    def wait(self, phase: str, n: int = 1, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Until all processes together have counted to n; LCAError if one of the others shows no sign of life."""
        began = time.monotonic()
        while self.add(phase, 0) < n:
            meanwhile()
            self._require_alive(began)
            time.sleep(POLL_S)

    def publish(self, key: str, value: Any) -> None:
        """Make a value known to all processes; values of JSON."""
        self._store.set(key, json.dumps(value))

    def read(self, key: str) -> Any:
        """A value that a process has published; waits for it."""
        return json.loads(self._store.get(key))

    def _beat(self) -> None:
        while not self._leaving.wait(BEAT_S):
            self._store.add(f"beats/{self.rank}", 1)

    def _require_alive(self, waiting_since: float) -> None:
        """torchrun ends the others of a node where one dies, but not those of other nodes."""
        now = time.monotonic()
        for other, (beats, when) in self._seen.items():
            if now - when > BEAT_S and (heard := self._store.add(f"beats/{other}", 0)) != beats:
                self._seen[other] = heard, now
            elif now - max(when, waiting_since) > SILENCE_S:
                raise LCAError(
                    f"process {other} of {self.size} has shown no sign of life for {SILENCE_S:.0f} s. What is done is "
                    "kept",
                    remedy=("Start all of them again without ", Argument("overwrite"), "."),
                )


class _Alone:
    """The same store for a single process."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.values: dict[str, str] = {}

    def add(self, key: str, amount: int) -> int:
        self.numbers[key] = self.numbers.get(key, 0) + amount
        return self.numbers[key]

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes:
        return self.values[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)


def join_workers() -> Workers:
    """Those that torchrun has started, this process among them; else this process alone."""
    if not is_under_torchrun():
        return Workers(_Alone())
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, rank, size = next(rendezvous("env://"))
    restarted = rank == 0 and store.add("lca/starts", 1) > next(_starts)
    session = agree_on_session(PrefixStore("lca", store), rank, size)
    return Workers(PrefixStore(f"lca/{session}", store), rank, size, restarted=restarted)


def agree_on_session(store: Store, rank: int, size: int) -> str:
    """A name that the processes of this start have in common, and those of no other.

    torchrun's store outlives the processes, and the nodes count their restarts apart. So each asks by a name drawn
    anew, and the first answers whoever asks until all of this start know the name.
    """
    if rank > 0:
        me = uuid4().hex
        store.set(f"asking/{rank}", me)
        while not store.check([f"answer/{me}"]):
            time.sleep(POLL_S)
        session = store.get(f"answer/{me}").decode()
        store.add(f"met/{session}", 1)
        return session
    session = uuid4().hex
    while store.add(f"met/{session}", 0) < size - 1:
        for other in range(1, size):
            if store.check([f"asking/{other}"]):
                store.set(f"answer/{store.get(f'asking/{other}').decode()}", session)
        time.sleep(POLL_S)
    return session


def is_under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process is the one that speaks to the user."""
    return not is_under_torchrun() or os.environ["RANK"] == "0"


def share_device(device: torch.device) -> torch.device:
    """The device of this process: of the CUDA devices its own, of the CPU its part of the threads."""
    if not is_under_torchrun():
        return device
    rank, size = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun's own, which leaves the other cores idle
        torch.set_num_threads(max(1, count_cores() // size))
    return device


def count_sharing(device: torch.device) -> int:
    """Processes that share the memory of a device: those of this machine for the CPU, on CUDA each its own."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if device.type == "cpu" and is_under_torchrun() else 1


def count_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
