"""The processes that share the work of an allocation: a single one, or all that torchrun has started.

The work is divided into blocks of iterations, which are independent. Each process takes the next block by an atomic
addition in the key-value store that torchrun already runs. Through the same store, the processes exchange counters,
heartbeats and small values, such as the results of the audit.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import count
from math import ceil
from typing import Any, Protocol, Self
from uuid import uuid4

import torch

from lca.errors import Argument, LCAError

POLL_S = 0.05
BEAT_S = 5.0  # interval between heartbeats of a process
SILENCE_S = 120.0  # time without a heartbeat after which a process is considered dead

_starts = count(1)  # counts how often this process has joined the workers as process 0


class Phase(StrEnum):
    """Names of shared counters. Most of them let processes wait until a step is done."""

    OPENED = "opened"  # the allocation is open
    DATA = "data"  # the first process has published the digest of its data
    CHECKED = "checked"  # the preflight has passed
    ITERATIONS = "iterations"  # number of allocated iterations, for the progress bar
    REFINEMENTS = "refinements"  # number of those that needed more gradients than usual
    BLOCKS = "blocks"  # number of blocks that are done
    REFINED = "refined"  # the refinement for the cumulative residual has ended
    AUDITED = "audited"  # number of audited iterations
    FINISHED = "finished"  # the allocation is complete


class Store(Protocol):
    """The methods of torch.distributed.Store that are used here."""

    def add(self, key: str, amount: int) -> int: ...
    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...


class Workers:
    """The group of processes that share an allocation, as seen by one of them.

    `rank` is the number of this process, 0 … `size` − 1. The process with rank 0 opens and finishes the allocation, and
    is the only one that prints. In this process, `restarted` is true if torchrun has restarted the processes, because
    one has died or joined. Inside the `with` block, the process sends heartbeats to the others.
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
        """Whether this is the process with rank 0."""
        return self.rank == 0

    def take(self, phase: Phase, n: int) -> Iterator[int]:
        """Iterate over the indices 0 … n − 1. Each index goes to exactly one process, the next that asks for one."""
        while (i := self._store.add(f"next/{phase}", 1) - 1) < n:
            yield i

    def add(self, phase: str, n: int = 1) -> int:
        """Add n to a counter that all processes share, and return its new value."""
        return self._store.add(f"count/{phase}", n)

    def wait(self, phase: str, n: int = 1, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until a shared counter reaches n, calling `meanwhile` at every poll.

        Raise LCAError if another process stops sending heartbeats.
        """
        began = time.monotonic()
        while self.add(phase, 0) < n:
            meanwhile()
            self._require_alive(began)
            time.sleep(POLL_S)

    def publish(self, key: str, value: Any) -> None:
        """Make a JSON-serializable value available to all processes."""
        self._store.set(key, json.dumps(value))

    def read(self, key: str) -> Any:
        """Wait until a value is published, and return it."""
        return json.loads(self._store.get(key))

    def _beat(self) -> None:
        while not self._leaving.wait(BEAT_S):
            self._store.add(f"beats/{self.rank}", 1)

    def _require_alive(self, waiting_since: float) -> None:
        """Raise LCAError if another process has stopped sending heartbeats.

        This is needed because torchrun stops the processes of a node if one of them dies, but not those of other nodes.
        """
        now = time.monotonic()
        for other, (beats, when) in self._seen.items():
            if now - when > BEAT_S and (heard := self._store.add(f"beats/{other}", 0)) != beats:
                self._seen[other] = heard, now
            elif now - max(when, waiting_since) > SILENCE_S:
                raise LCAError(
                    f"process {other} of {self.size} has not responded for {SILENCE_S:.0f} s. Finished blocks are kept",
                    remedy=("To continue, start all processes again without ", Argument("overwrite"), "."),
                )


class _Alone:
    """A key-value store in memory, for a single process without torchrun."""

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
    """Join the processes that torchrun has started. Without torchrun, return a group with only this process."""
    if not is_under_torchrun():
        return Workers(_Alone())
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, rank, size = next(rendezvous("env://"))
    restarted = rank == 0 and store.add("lca/starts", 1) > next(_starts)
    session = agree_on_session(PrefixStore("lca", store), rank, size)
    return Workers(PrefixStore(f"lca/{session}", store), rank, size, restarted=restarted)


def agree_on_session(store: Store, rank: int, size: int) -> str:
    """Agree on a random name for this start of the processes, which distinguishes it from earlier starts.

    The name is needed because torchrun's store outlives the processes, and every node counts its restarts separately.
    Every other process sends a request with a new random key. Process 0 answers under these keys until all processes
    know the name.
    """
    if rank > 0:
        key = uuid4().hex
        store.set(f"asking/{rank}", key)
        while not store.check([f"answer/{key}"]):
            time.sleep(POLL_S)
        session = store.get(f"answer/{key}").decode()
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
    """Return whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Return whether this process is the one that prints."""
    return not is_under_torchrun() or os.environ["RANK"] == "0"


def share_device(device: torch.device) -> torch.device:
    """Return the device of this process under torchrun: its own accelerator, or the CPU with a share of the threads."""
    if not is_under_torchrun():
        return device
    rank, size = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if device.type != "cpu":
        device = torch.device(device.type, rank % torch.accelerator.device_count())
        torch.accelerator.set_device_index(device)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun's default, which would leave cores idle
        torch.set_num_threads(max(1, count_cores() // size))
    return device


def count_sharing(device: torch.device) -> int:
    """Return how many processes on this machine share the memory of a device."""
    n = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if is_under_torchrun() else 1
    return n if device.type == "cpu" else ceil(n / torch.accelerator.device_count())


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
