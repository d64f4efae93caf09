"""The schema of a run store: its arrays, and the values that its attributes and configurations can take.

    RUN.zarr/
      attributes["lca"]   metadata: problem, training options, parameter table, status
      weights             (parameter, iterate)   every iterate θ_t
      training/           (iteration)            values recorded during training, such as the mini-batch loss
      lca/NAME/           one allocation, with the arrays listed in ARRAYS

docs/reference/store.md describes the store for readers who do not use lca.
"""

from enum import IntEnum

from lca.errors import Argument

SCHEMA = 4
ROOT = "zarr.json"  # its presence makes a folder or a URL a store
PARTIAL = ".partial"  # marks the name of a file that is being written
NAN = float("nan")
LARGEST = 10**11  # largest number of iterates in a run
MAX_BLOCK = 1024  # largest number of iterations in a block

SPLITS = ("train", "val", "test")
RULES = ("simpson", "trapezoid", "adaptive", "first-order")
PRECISIONS = ("fp32", "tf32", "bf16")
KEEP = ("lca", "tensors")
STATE_FILE = "weights/state.pt"  # in the folder of an array, which readers of zarr groups do not list
PREVIOUS_STATE = "state-before.pt"  # in the same folder
MANTISSA_BITS = 23  # the mantissa of a float32


class Status(IntEnum):
    """The outcome of an iteration, as stored in the array `status` of an allocation.

    Attributes:
        NOT_ALLOCATED: The iteration was not requested, or has not been allocated yet.
        CONVERGED: The residual is within its tolerance or only a rounding error, and the part estimate is within its
            tolerance.
        AT_LIMIT: The residual or the part estimate exceeds its tolerance, and refinement reached its limit or did not
            help.
        NOT_FINITE: The loss, a gradient or an iterate is not finite.
    """

    NOT_ALLOCATED = 0
    CONVERGED = 1
    AT_LIMIT = 2
    NOT_FINITE = 3


# The arrays of an allocation, with dtype, dimensions and fill value. Float arrays are filled with NaN, so that a
# missing value never reads as zero.
ARRAYS: dict[str, tuple[str, tuple[str, ...], float]] = {
    "lca": ("float32", ("parameter", "iteration"), NAN),
    "loss": ("float64", ("iterate",), NAN),
    "allocated": ("float64", ("iteration",), NAN),
    "residual": ("float64", ("iteration",), NAN),
    "intervals": ("int16", ("iteration",), 0),
    "part_estimate": ("float64", ("iteration",), NAN),
    "curvature_share": ("float64", ("iteration",), NAN),
    "status": ("uint8", ("iteration",), 0),
    "tensor_lca": ("float64", ("iteration", "tensor"), NAN),
    "gradient_norm": ("float64", ("iterate", "tensor"), NAN),
    "motion_norm": ("float64", ("iteration", "tensor"), NAN),
    "class_lca": ("float64", ("iteration", "class", "tensor"), NAN),
    "gradient_sign": ("uint8", ("packed", "iterate"), 0),
    "blocks": ("uint8", ("block",), 0),
}

# The optional arrays of an allocation, with the option of AllocateConfig that stores each.
OPTIONAL = {
    "lca": Argument("keep", "lca"),
    "class_lca": Argument("by_class", True),
    "gradient_sign": Argument("gradient_signs", True),
}


def find_time_axis(name: str) -> int:
    """Return the axis of an array of ARRAYS that counts iterations or iterates."""
    dimensions = ARRAYS[name][1]
    return next(i for i, dimension in enumerate(dimensions) if dimension in ("iteration", "iterate"))
