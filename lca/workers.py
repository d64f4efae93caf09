"""The processes that share an allocation: one, or as many as torchrun has started.

What is shared are blocks of iterations, which are independent. Each process takes the next one by an atomic addition in
the key-value store that torchrun runs anyway; nothing else is exchanged.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

POLL_S = 0.05


class _Store(Protocol):
    def add(self, key: str, amount: int) -> int: ...
    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...


class Workers:
    """rank: of this process, 0 … size − 1. The first opens and finishes what all work on, and speaks to the user."""

    def __init__(self, store: _Store, rank: int = 0, size: int = 1) -> None:
        self._store, self.rank, self.size = store, rank, size

    @property
    def first(self) -> bool:
        return self.rank == 0

    def take(self, what: str, n: int) -> Iterator[int]:
        """The indices 0 … n − 1, each to exactly one process, as it comes for the next."""
        while (i := self._store.add(f"next/{what}", 1) - 1) < n:
            yield i

    def count(self, what: str, n: int = 1) -> int:
        """Add n to what has been counted by all processes; the sum."""
        return self._store.add(f"count/{what}", n)

    def wait(self, what: str, n: int = 1, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Until all processes together have counted to n."""
        while self.count(what, 0) < n:
            meanwhile()
            time.sleep(POLL_S)

    def tell(self, what: str, value: Any) -> None:
        self._store.set(what, json.dumps(value))

    def told(self, what: str) -> Any:
        """What a process has told before."""
        return json.loads(self._store.get(what))


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


def workers() -> Workers:
    """Those that torchrun has started, this process among them; else this process alone."""
    if not under_torchrun():
        return Workers(_Alone())
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, rank, size = next(rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # each begins to count anew
    return Workers(PrefixStore(f"lca/{attempt}", store), rank, size)


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process is the one that speaks to the user."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def is_restart() -> bool:
    """Whether torchrun has started this process in place of one that died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def share_device(device: torch.device) -> torch.device:
    """The device of this process: of the CUDA devices its own, of the CPU its part of the threads."""
    if not under_torchrun():
        return device
    rank, size = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun's own, which leaves the other cores idle
        torch.set_num_threads(max(1, n_cores() // size))
    return device


def n_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
