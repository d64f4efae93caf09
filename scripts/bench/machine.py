"""The machine and the software of a measurement, and helpers that run it in a new process."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("loss-change-allocation", "torch", "numpy", "zarr", "numcodecs", "h5py")


def describe() -> list[tuple[str, str]]:
    """Return (label, value) pairs that describe the machine, in the form that lca.text.facts expects."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        ("date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("CPU", f"{_cpu()}, {len(os.sched_getaffinity(0))} cores, {memory / 1e9:.0f} GB"),
        ("threads", str(torch.get_num_threads())),
        ("GPU", gpu),
        (
            "versions",
            ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]),
        ),
    ]


def start_module(module: str, *arguments: str) -> str:
    """Run a module in a new process and return what it printed. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def peak_resident() -> int:
    """Return the peak resident bytes of this process, from /proc. getrusage would include the peak of the parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
