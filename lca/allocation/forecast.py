"""What an allocation will cost: passes, disk and memory."""

import resource
import sys
from math import ceil, log2, prod

import numpy as np

from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.allocation.trajectory import BLOCKS_HELD
from lca.store.audit import count_audited
from lca.store.blocks import ceil_div
from lca.store.chunks import bytes_in_flight
from lca.store.run import Run
from lca.store.schema import ARRAYS

OVERHEAD_BYTES = 2**25  # of host memory, for threads that read and write, and what they leave unused


def forecast_passes(config: AllocateConfig, iterations: range) -> int:
    """The passes of a run of which nothing is refined, its audit included."""
    n, T = (2 if config.rule == "simpson" else 1), len(iterations)
    starts = T if iterations.step > 1 else 1  # otherwise it is where the iteration before has ended
    audited = count_audited(T, config.audit) if config.audit else 0
    references = 6 * n  # both ends, and what is between them of 2n and of 4n subintervals
    again = n + 1 if config.keep == "tensors" else 0  # the parts are not stored, so they are integrated once more
    return n * T + starts + audited * (references + again)


def forecast_disk_bytes(run: Run, config: AllocateConfig, iterations: range, n_classes: int) -> int:
    """The bytes of all arrays before compression, which is what they take on disk at most, except for metadata.

    The iterations of a slice with a step have gaps between them, among which they compress worse than next to each
    other; for these it is the measured bytes, rounded up (1.4 times as many at a step of 3, 1.9 at 10, 2.6 at 30).
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
    """The host memory: what it has taken so far, in which passes were made, and what blocks of iterations will add."""
    so_far = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # Blocks of iterates, of which the first has been read, as many of results, and an integral's vectors in float64.
    n_blocks = 2 * BLOCKS_HELD[gradient.device.type] - 1
    blocks = (run.weights.dtype.itemsize * n_blocks * run.blocks.length + 8 * 8) * run.parameters.size
    return so_far + blocks + 2 * bytes_in_flight(run.weights) + OVERHEAD_BYTES  # before and after compression
