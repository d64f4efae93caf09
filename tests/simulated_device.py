"""A torch device that exists only here, for tests of accelerator code on a machine without an accelerator.

Its tensors are Python objects around tensors of the CPU, so all operators and autograd work. The device refuses an
operation that mixes tensors on the device and on the host, as a real one does. It counts operators, copies in each
direction and reads by the host (`counts`). It can refuse float64, as MPS does, and it can capture operators and replay
them, as a CUDA graph does. It can also copy asynchronously: a copy to the host, or one in a stream of its own, is then
made as late as its stream and events allow.
"""

from collections import Counter
from contextlib import contextmanager, nullcontext
from threading import RLock
from unittest import mock

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

from lca.problem import prefetching
from lca.runtime import streams

NAME = "sim"
READS = ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::_unique2", "aten::masked_select")
counts = Counter()
state = {"available": False, "float64": True, "captured": None, "random": torch.zeros(0, dtype=torch.uint8)}


class SimulatedTensor(torch.Tensor):
    """A tensor on the device. `raw` is the tensor of the CPU that holds its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            dtype=raw.dtype,
            device=f"{NAME}:0",
            storage_offset=raw.storage_offset(),
        )
        tensor.raw = raw
        return tensor

    def __init__(self, raw): ...

    def tolist(self):
        """A read by the host, which torch refuses for subclasses."""
        _count_read("tolist")
        return self.raw.tolist()

    @property
    def data(self):
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, other):
        torch.Tensor.data.__set__(self, other)
        self.raw = _raw(other)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class Stream:
    """A queue of copies. Each copy is made only when something waits for it. Until then, its target holds other values.

    Operators are executed at once, in the order of the host. In the default stream, a copy therefore reads its source
    at once. In another stream, it reads the source when it is made, so a test notices if the source was overwritten.
    """

    default, current, lock = None, [], RLock()

    def __init__(self, device=None):
        self.pending, self.n_done = [], 0

    def __enter__(self):
        Stream.current.append(self)

    def __exit__(self, *exception):
        Stream.current.pop()

    def copy(self, target, source):
        source = source.clone() if self is Stream.default else source
        target.fill_(-99)
        with Stream.lock:
            self.pending.append(lambda: target.copy_(source))

    def finish(self, n=None):
        """Make the first n of all copies that were ever queued, or all of them."""
        with Stream.lock:
            while self.pending and (n is None or self.n_done < n):
                self.pending.pop(0)()
                self.n_done += 1

    @staticmethod
    def get_current(device):
        return Stream.current[-1]

    @staticmethod
    def synchronize(device):
        Stream.default.finish()

    def wait_stream(self, other):
        other.finish()

    def wait_event(self, event):
        event.synchronize()

    def record_event(self):
        event = Event()
        event.record(self)
        return event


class Event:
    """A point in a stream."""

    def __init__(self, device=None):
        self.stream, self.n = None, 0

    def record(self, stream):
        self.stream, self.n = stream, stream.n_done + len(stream.pending)

    def synchronize(self):
        if self.stream:
            self.stream.finish(self.n)


class Hook(_DummyPrivateUse1Hook):
    def is_available(self):
        return state["available"]


class Backend(_DummyBackendModule):
    """The functions that torch, and the code under test, expect in the module of a device."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]

    def is_available(self):
        return state["available"]

    def get_rng_state_all(self):
        return []

    def get_rng_state(self, device):
        return state["random"]

    def set_rng_state(self, new, device):
        state["random"] = new


@contextmanager
def simulated_device(*, float64=True, asynchronous=False):
    """Within the context, make the device available and let "auto" select it."""
    originals = {name: getattr(torch, name) for name in ("tensor", "as_tensor")}
    for name, make in originals.items():  # both fail inside torch for a backend in Python
        setattr(torch, name, _by_way_of_host(make))
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # so that Module.to keeps tied parameters tied
    state.update(available=True, float64=float64)
    counts.clear()
    try:
        with _simulated_streams() if asynchronous else nullcontext():
            yield torch.device(NAME, 0)
    finally:
        state.update(available=False, float64=True)
        torch.__future__.set_swap_module_params_on_conversion(swapped)
        for name, make in originals.items():
            setattr(torch, name, make)


@contextmanager
def _simulated_streams():
    Stream.default = Stream()
    Stream.current[:] = [Stream.default]
    empty = torch.empty
    with (
        mock.patch.object(streams, "ASYNCHRONOUS", {NAME}),
        mock.patch.object(torch, "Stream", Stream),
        mock.patch.object(torch, "Event", Event),
        mock.patch.object(torch.accelerator, "current_stream", Stream.get_current),
        mock.patch.object(torch.accelerator, "synchronize", Stream.synchronize),
        mock.patch.object(torch, "empty", lambda *shape, pin_memory=False, **options: empty(*shape, **options)),
        mock.patch.object(torch.Tensor, "pin_memory", lambda x: x),
    ):
        prefetching._copy_stream.cache_clear()
        yield
    prefetching._copy_stream.cache_clear()
    Stream.default = None


@contextmanager
def capturing(operators):
    """Append the operators that run in the context to the list. Reads and copies across devices are refused."""
    state["captured"] = operators
    try:
        yield
    finally:
        state["captured"] = None


def replay(operators):
    """Run captured operators again, on the same memory."""
    for func, args, kwargs, out in operators:
        again = func(*args, **kwargs)
        for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
            if isinstance(old, torch.Tensor) and old.untyped_storage()._cdata != new.untyped_storage()._cdata:
                old.copy_(new)


def _by_way_of_host(make):
    def made(data, *, device=None, **options):
        if device is None or torch.device(device).type != NAME:
            return make(data, device=device, **options)
        return data if isinstance(data, SimulatedTensor) and not options else make(data, **options).to(device)

    return made


def _count_read(name):
    if state["captured"] is not None:
        raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
    counts["reads"] += 1


def _run(func, args, kwargs):
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    ours = [x for x in tensors if isinstance(x, SimulatedTensor)]
    name, on_device = func.name(), bool(ours)
    counts["operators"] += 1
    if name.split(".")[0] in READS:
        _count_read(name)
    mixed = bool(ours) and any(not isinstance(x, SimulatedTensor) and x.dim() for x in tensors)
    if mixed and name != "aten::copy_":
        raise RuntimeError(f"{name}: tensors on the host and on {NAME} in one operation")
    if mixed:
        to_device = isinstance(args[0], SimulatedTensor)
        _count_copy(to_device)
        if Stream.default and args[2:] == (True,) and (not to_device or Stream.current[-1] is not Stream.default):
            Stream.current[-1].copy(_raw(args[0]), _raw(args[1]))
            return args[0]
    if (device := kwargs.get("device")) is not None:
        on_device = torch.device(device).type == NAME
        if tensors and on_device != bool(ours):
            _count_copy(on_device)
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(_raw, args), tree_map(_raw, kwargs)
    out = func(*args, **kwargs)
    if Stream.default and kwargs.get("non_blocking") and Stream.current[-1] is not Stream.default:
        Stream.current[-1].copy(out, args[0])
    if state["captured"] is not None:
        state["captured"].append((func, args, kwargs, out))
    if func._schema.is_mutable and tensors and out is args[0]:
        return tensors[0]
    return tree_map(_wrap, out) if on_device else out


def _count_copy(to_device):
    if state["captured"] is not None:
        raise RuntimeError("a copy across devices: operation not permitted when stream is capturing")
    counts["to the device" if to_device else "to the host"] += 1


def _raw(x):
    return x.raw if isinstance(x, SimulatedTensor) else x


def _wrap(x):
    if not isinstance(x, torch.Tensor):
        return x
    if x.dtype == torch.float64 and not state["float64"]:
        raise TypeError(f"{NAME} has no float64")
    return SimulatedTensor(x)


# Registered when this module is imported, because autograd starts a thread for each device in its first backward pass
# and none for devices that are registered later.
_setup_privateuseone_for_python_backend(NAME, backend_module=Backend(), hook=Hook())
_library = torch.library.Library("_", "IMPL")
_library.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
