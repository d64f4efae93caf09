"""The schema of a run store: its arrays, and the words that its attributes and configurations use.

    RUN.zarr/
      attributes["lca"]   what was trained and how, the parameter table, the status
      weights             (parameter, iterate)   every θ_t
      training/           (iteration)            what the optimizer saw
      lca/NAME/           one allocation: the arrays below

docs/reference/store.md describes the store for readers without lca.
"""

from enum import IntEnum

from lca.errors import Argument

SCHEMA = 2
NAN = float("nan")

SPLITS = ("train", "val", "test")
RULES = ("simpson", "trapezoid", "first-order")
PRECISIONS = ("fp32", "tf32", "bf16")
KEEP = ("lca", "tensors")
STATE_FILE = "weights/state.pt"  # inside an array's folder, where no reader of zarr groups looks
MANTISSA_BITS = 23  # of a float32


class Status(IntEnum):
    """The outcome of an iteration; the values are those of the array `status`."""

    NOT_ALLOCATED = 0
    CONVERGED = 1
    AT_LIMIT = 2
    NOT_FINITE = 3


# The arrays of an allocation: dtype, dimensions, fill value (NaN where missing must never read as zero).
ARRAYS: dict[str, tuple[str, tuple[str, ...], float]] = {
    "lca": ("float32", ("parameter", "iteration"), NAN),
    "loss": ("float64", ("iterate",), NAN),
    "allocated": ("float64", ("iteration",), NAN),
    "residual": ("float64", ("iteration",), NAN),
    "intervals": ("int16", ("iteration",), 0),
    "status": ("uint8", ("iteration",), 0),
    "tensor_lca": ("float64", ("iteration", "tensor"), NAN),
    "gradient_norm": ("float64", ("iterate", "tensor"), NAN),
    "motion_norm": ("float64", ("iteration", "tensor"), NAN),
    "class_lca": ("float64", ("iteration", "class", "tensor"), NAN),
    "gradient_sign": ("uint8", ("packed", "iterate"), 0),
    "blocks": ("uint8", ("block",), 0),
}

# The arrays that an allocation may lack, and the field of AllocateConfig that asks for each.
OPTIONAL = {
    "lca": Argument("keep", "lca"),
    "class_lca": Argument("by_class", True),
    "gradient_sign": Argument("gradient_signs", True),
}
