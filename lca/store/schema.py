"""The schema of a run store: its arrays, and the values that its attributes and configurations can take.

    RUN.zarr/
      attributes["lca"]   metadata: problem, training options, parameter table, status
      weights             (parameter, iterate)   every iterate θ_t
      training/           (iteration)            values recorded during training, such as the mini-batch loss
      lca/NAME/           one allocation, with the arrays listed in ARRAYS

docs/reference/store.md describes the store for readers who do not use lca.
"""

import hashlib
import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from lca.errors import Argument

SCHEMA = 4
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
        CONVERGED: The residual is within its tolerance or a rounding error, and the part estimate is within its own.
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

# The attributes that every run and every allocation must have, with their types and the values of integers.
Required = Mapping[str, tuple[type, range | None]]
RUN_ATTRIBUTES: Required = {
    "status": (str, None),
    "iterates": (int, range(LARGEST + 1)),
    "block": (int, range(1, MAX_BLOCK + 1)),
    "codec": (str, None),
}
ALLOCATION_ATTRIBUTES: Required = {"status": (str, None)}


def find_time_axis(name: str) -> int:
    """Return the axis of an array of ARRAYS that counts iterations or iterates."""
    dimensions = ARRAYS[name][1]
    return next(i for i, dimension in enumerate(dimensions) if dimension in ("iteration", "iterate"))


def write_attributes(zarr_attributes: Any, attributes: dict[str, Any]) -> None:
    """Store the metadata of a run or an allocation, with a digest that reveals changes by anything but `lca`."""
    zarr_attributes["lca"] = {**attributes, "digest": _digest(attributes)}


def read_attributes(zarr_attributes: Mapping[str, Any], required: Required) -> dict[str, Any]:
    """Return the metadata of a run or an allocation.

    Raises:
        ValueError: They were changed since they were stored, or a required attribute is missing or has a wrong type or
            value.
    """
    attributes = dict(zarr_attributes["lca"])
    digest = attributes.pop("digest", None)
    _require_attributes(attributes, required)
    if digest != _digest(attributes):
        raise ValueError("the attributes were changed since they were stored")
    return attributes


def _digest(attributes: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()[:16]


def _require_attributes(attributes: Mapping[str, Any], required: Required) -> None:
    """Raise ValueError unless all required attributes exist with the right types and values."""
    for name, (kind, values) in required.items():
        value: Any = attributes.get(name)
        if type(value) is not kind or (values is not None and value not in values):
            raise ValueError(f"the attribute {name} has the invalid value {value!r}")
