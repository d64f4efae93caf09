"""Locks of files, as on POSIX systems and as on Windows."""

import fcntl
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from windows import make_msvcrt

from lca.errors import LCAError
from lca.store import locks as posix_locks


@pytest.fixture(params=["posix", "windows"])
def locks(request, monkeypatch):
    """The module lca.store.locks, as it is imported on each kind of system."""
    if request.param == "posix":
        return posix_locks
    if not hasattr(fcntl, "F_OFD_SETLK"):
        pytest.skip("this system has no locks like those of Windows")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        patch.setitem(sys.modules, "msvcrt", make_msvcrt())
        spec = spec_from_file_location("windows_locks", posix_locks.__file__)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    assert not hasattr(module, "fcntl")
    return module


@pytest.mark.parametrize(
    ("first", "second", "both"), [(True, True, True), (True, False, False), (False, True, False), (False, False, False)]
)
def test_only_shared_locks_are_held_together(locks, tmp_path, first, second, both):
    lock = lambda shared: locks.Lock(tmp_path / "lock", tmp_path, shared)
    for _ in range(2):  # the second time, all locks of the first are released
        with lock(first):
            if both:
                with lock(second), lock(second):
                    pass
            else:
                with pytest.raises(LCAError, match="is being written by"), lock(second):
                    pass
            with pytest.raises(LCAError, match="is being written by"), lock(False):
                pass


def test_owner_of_an_exclusive_lock_is_named_while_it_is_held(locks, tmp_path):
    with locks.Lock(tmp_path / "lock", tmp_path):
        for shared in (False, True):
            with (
                pytest.raises(LCAError, match=f"is being written by process {os.getpid()} on "),
                locks.Lock(tmp_path / "lock", tmp_path, shared),
            ):
                pass
    assert (tmp_path / "lock").read_bytes() == b""


def test_owner_of_a_part_is_named(locks, tmp_path):
    with (
        locks.Lock(tmp_path / "lock", tmp_path, shared=True),
        locks.Lock(tmp_path / "lock-train", tmp_path),
        pytest.raises(LCAError, match=f"is being written by process {os.getpid()} on "),
        locks.Lock(tmp_path / "lock", tmp_path),
    ):
        pass


def test_a_file_system_without_locks_is_not_reported_as_another_process(tmp_path, monkeypatch):
    def refuse(file, shared):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(posix_locks, "lock_file", refuse)
    with pytest.raises(OSError, match="No locks available"), posix_locks.Lock(tmp_path / "lock", tmp_path):
        pass
