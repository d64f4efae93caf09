"""The page of scripts/bench/gpu.py, run on the CPU: a part that fails, or has no time left, does not end the page."""

import time

import pytest

from bench import gpu


@pytest.fixture
def small(monkeypatch):
    """Let the page consist of small parts that the CPU can run."""
    for names in ("NETWORKS", "COMPARED", "RECORDED"):
        monkeypatch.setattr(gpu, names, ("digits-fc",))
    monkeypatch.setattr(gpu, "run_tests", lambda: "3 passed")
    monkeypatch.setattr(gpu, "MODES", {"eager": {}, "tf32": {"precision": "tf32"}})
    monkeypatch.setattr(gpu, "measure_peak_gflops", lambda device: 100.0)


@pytest.mark.usefixtures("small")
def test_the_page_reports_what_fails_and_goes_on(tmp_path, capsys):
    page = gpu.Page(tmp_path / "page.txt", time.monotonic() + 600)
    gpu.run_parts(page, None, "cpu")
    text = (tmp_path / "page.txt").read_text()
    assert capsys.readouterr().out == text
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("digits-fc")]
    compared, eager, tf32, in_float32, in_tf32, in_bf16, recording = rows
    assert (float(compared[1]), float(compared[2]), compared[-1]) == (0, 0, "yes")  # the CPU against itself
    assert compared[3] == compared[4]
    assert eager[1] == "eager"
    assert 0 < float(eager[5]) < 10
    assert tf32[1] == "tf32"
    assert "needs CUDA" in " ".join(tf32)
    assert (in_float32[1], 0 < float(in_float32[2]) < 2) == ("fp32", True)
    assert in_tf32[1] == "tf32"
    assert "needs CUDA" in " ".join(in_tf32)
    assert float(in_bf16[2]) > float(in_float32[2])
    assert float(recording[2]) > 0.5
    assert "memory, digits-fc" in text
    assert "failed: " in text.partition("memory, digits-fc")[2]  # the CPU has no such statistics


@pytest.mark.usefixtures("small")
def test_no_part_begins_after_the_deadline(tmp_path):
    page = gpu.Page(tmp_path / "page.txt", time.monotonic() - 1)
    gpu.run_parts(page, None, "cpu")
    lines = (tmp_path / "page.txt").read_text().splitlines()
    parts = [line.partition(":")[0] for line in lines if line.endswith("not run, because the time is up")]
    assert [part.partition(",")[0] for part in parts] == [
        "tests",
        "correctness",
        "passes",
        "audit",
        "recording",
        "memory",
    ]
