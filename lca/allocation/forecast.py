"""Forecasts of the cost of an allocation: number of passes, disk space and memory."""

from math import ceil, log2, prod

import numpy as np

from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.allocation.trajectory import BLOCKS_HELD
from lca.runtime.host import get_peak_memory_bytes
from lca.store.audit import count_audited
from lca.store.blocks import ceil_div
from lca.store.chunks import bytes_in_flight
from lca.store.run import Run
from lca.store.schema import ARRAYS

OVERHEAD_BYTES = 2**25  # host memory of the reading and writing threads, and fragmentation

# Subintervals per iteration if none has to be refined. The value for the adaptive rule was measured on digits-fc.
UNREFINED = {"simpson": 2.0, "trapezoid": 1.0, "adaptive": 1.27, "first-order": 1.0}


def forecast_passes(config: AllocateConfig, iterations: range, intervals: float) -> int:
    """Return the number of passes over the split, including the audit.

    `intervals` is the expected number of subintervals per iteration.
    """
    T = len(iterations)
    starts = T if iterations.step > 1 else 1  # consecutive iterations share a gradient
    return ceil(intervals * T + starts + forecast_audit_passes(config, iterations, intervals))


def forecast_audit_passes(config: AllocateConfig, iterations: range, intervals: float) -> float:
    """Return the number of passes that the audit takes."""
    reference = 4 * intervals + 1  # both ends, plus the inner nodes of 4n subintervals
    again = intervals + 1 if config.keep == "tensors" else 0  # the parts are not stored, so the audit recomputes them
    return count_audited(len(iterations), config.audit) * (reference + again)


def forecast_disk_bytes(run: Run, config: AllocateConfig, iterations: range, n_classes: int) -> int:
    """Return an upper bound on the disk space of all arrays, without metadata.

    It is their size before compression, multiplied by a factor for slices A:B:STEP with STEP > 1. In these, fill values
    lie between the iterations, and the measured size grew by factors of 1.4, 1.9 and 2.6 for steps of 3, 10 and 30.
    """
    kept = {"lca": config.keep == "lca", "class_lca": config.by_class, "gradient_sign": config.gradient_signs}
    T, K = len(iterations), run.parameters.size
    sizes = {
        "parameter": K,
        "packed": ceil_div(K, 8),
        "iteration": T,
        "iterate": T + 1,
        "tensor": len(run.parameters),
        "class": n_classes,
        "block": len(run.blocks),
    }
    n_bytes = sum(
        np.dtype(dtype).itemsize * prod(sizes[d] for d in dimensions)
        for name, (dtype, dimensions, _) in ARRAYS.items()
        if kept.get(name, True)
    )
    return ceil(n_bytes * min(iterations.step, 1 + log2(iterations.step) / 2))


def forecast_memory_bytes(run: Run, gradient: FullGradient) -> int:
    """Return a forecast of the peak host memory: the peak so far, after some passes, plus the blocks of iterations."""
    # Blocks of iterates (the first is already in memory), as many blocks of results, and eight float64 vectors.
    n_blocks = 2 * BLOCKS_HELD[gradient.device.type] - 1
    blocks = (run.weights.dtype.itemsize * n_blocks * run.blocks.length + 8 * 8) * run.parameters.size
    in_flight = 2 * bytes_in_flight(run.weights)  # compressed and uncompressed
    return get_peak_memory_bytes() + blocks + in_flight + OVERHEAD_BYTES
