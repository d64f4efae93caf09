"""The memory of the machine and of this process."""

import sys
from contextlib import suppress
from pathlib import Path

import psutil

# Limits of a container, in bytes: cgroups of version 2 and of version 1.
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
PROCESS_STATUS = Path("/proc/self/status")


def get_host_memory_bytes() -> int:
    """Return the total memory of the machine, or of the container if that has a lower limit."""
    total = int(psutil.virtual_memory().total)
    for file in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            total = min(total, int(file.read_text(encoding="utf-8")))
    return total


def get_peak_memory_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    # On Linux, the value of getrusage includes the peak of the process that started this one.
    with suppress(OSError):
        for line in PROCESS_STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # Windows lacks it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
