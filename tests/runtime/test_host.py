"""The memory of the machine and of this process."""

import os

import numpy as np
import psutil
import pytest

from lca.runtime import host


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """Two files for the limits of a container, which do not exist yet."""
    files = tmp_path / "new", tmp_path / "old"
    monkeypatch.setattr(host, "CONTAINER_LIMITS", files)
    return files


@pytest.mark.skipif("SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()), reason="compares with sysconf")
def test_memory_is_that_of_the_machine(limits):
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert host.get_host_memory_bytes() == pytest.approx(total, rel=1e-3)
    for text in ("max\n", f"{2**63 - 4096}\n"):  # no limit, in cgroups of both versions
        limits[0].write_text(text)
        assert host.get_host_memory_bytes() == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("which", [0, 1])
def test_memory_is_limited_by_the_container(limits, which):
    limits[which].write_text("123456789\n")
    assert host.get_host_memory_bytes() == 123456789


@pytest.mark.parametrize("has_proc", [True, False])
def test_peak_memory_includes_memory_that_was_returned(monkeypatch, tmp_path, has_proc):
    if not has_proc:
        monkeypatch.setattr(host, "PROCESS_STATUS", tmp_path / "missing")
    before = host.get_peak_memory_bytes()
    current = psutil.Process().memory_info().rss
    np.ones(before - current + 200 * 2**20, np.uint8)
    assert before + 100 * 2**20 < host.get_peak_memory_bytes() < before + 300 * 2**20
