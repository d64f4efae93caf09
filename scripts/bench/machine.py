"""The machine and the software of a measurement, and helpers that run it in a new process."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from lca.runtime.host import get_host_memory_bytes
from lca.runtime.workers import count_cores

PACKAGES = ("loss-change-allocation", "torch", "numpy", "zarr", "numcodecs", "h5py")


def describe() -> list[tuple[str, str]]:
    """Return (label, value) pairs that describe the machine, in the form that lca.text.facts expects."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return [
        ("date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("CPU", f"{_cpu()}, {count_cores()} cores, {get_host_memory_bytes() / 1e9:.0f} GB"),
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


def _cpu() -> str:
    file = Path("/proc/cpuinfo")  # only on Linux
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
