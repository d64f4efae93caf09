"""The attributes of a run and of an allocation: their types, which are checked on reading, and their digest."""

import hashlib
import json
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Required,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from lca.store.schema import KEEP, LARGEST, MAX_BLOCK, PRECISIONS, RULES, SPLITS

Count = Annotated[int, range(LARGEST + 1)]
Losses = dict[str, float | None]


class SplitAttributes(TypedDict, total=False):
    """What a run stores about a split of the data."""

    examples: Required[Count]
    sha256: Required[str]


class InitialAttributes(TypedDict, total=False):
    """The iterate of another run from which training started."""

    run: Required[str]
    iterate: Required[Count]


class TrainAttributes(TypedDict, total=False):
    """The training options of a run that other modules look up by name."""

    optimizer: str
    learning_rate: float
    schedule: str
    milestones: list[float]
    gamma: float | None
    iterations: Count | None
    batch_size: Count | None
    seed: int | None
    layers: list[Any]
    freeze: list[str]


class RunAttributes(TypedDict, total=False):
    """The attributes of a run."""

    schema: Required[int]
    status: Required[Literal["training", "complete"]]
    iterates: Required[Count]
    block: Required[Annotated[int, range(1, MAX_BLOCK + 1)]]
    codec: Required[str]
    parameters: Required[list[dict[str, Any]]]
    versions: dict[str, str]
    problem: str
    problem_options: dict[str, Any]
    train: TrainAttributes
    splits: dict[str, SplitAttributes]
    fixed: dict[str, str]
    fixed_at_end: dict[str, str]
    reference: Losses
    batchnorm_in_eval_mode: list[str]
    diverged_at: Count
    initial: InitialAttributes | None
    imported: list[str]
    training_checksums: dict[str, list[Count]]
    command: str | None


class StratumAttributes(TypedDict, total=False):
    """A stratum of the iterations from which the audit was drawn."""

    size: Required[Count]
    estimate: Required[float]
    level: Required[Count]


class AuditAttributes(TypedDict, total=False):
    """The errors that were measured on some iterations."""

    iterations: Required[list[Count]]
    part_error: Required[list[float]]
    half_way: Required[list[float]]
    sign_change: Required[list[float]]
    helping_shift: Required[list[float]]
    estimate: Required[list[float]]
    stratum: Required[list[int]]
    strata: Required[list[StratumAttributes]]


class AllocationAttributes(TypedDict, total=False):
    """The attributes of an allocation."""

    status: Required[Literal["creating", "allocating", "complete"]]
    split: Literal[SPLITS]  # type: ignore[valid-type]
    refining: list[Count]
    unit: str
    dtype: Literal["float32", "float64"]
    rule: Literal[RULES]  # type: ignore[valid-type]
    tolerance: float
    part_tolerance: float | None
    total_tolerance: float
    max_intervals: Count
    iterations: list[Count]
    examples: Count
    examples_in_split: Count
    batch_size: Count
    channels_last: bool
    batchnorm: str
    precision: Literal[PRECISIONS]  # type: ignore[valid-type]
    keep: Literal[KEEP]  # type: ignore[valid-type]
    keep_bits: Count
    gradient_signs: bool
    classes: list[int]
    class_names: list[str]
    reference: Losses
    factors: list[float] | None
    remarks: list[str]
    audit_result: AuditAttributes
    standard_error: dict[str, float]


def write_attributes(zarr_attributes: Any, attributes: dict[str, Any]) -> None:
    """Store the attributes of a run or an allocation, with a digest that reveals any other change."""
    zarr_attributes["lca"] = {**attributes, "digest": _digest(attributes)}


def read_attributes(zarr_attributes: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return the attributes of a run or an allocation.

    Args:
        zarr_attributes: The attributes of the zarr group.
        kind: RunAttributes or AllocationAttributes.

    Raises:
        ValueError: The attributes have changed since they were stored, or one is missing or has an invalid value.
    """
    attributes = dict(zarr_attributes["lca"])
    digest = attributes.pop("digest", None)
    if fault := find_fault(attributes, kind):
        raise ValueError(f"the attribute {fault}")
    if digest != _digest(attributes):
        raise ValueError("the attributes were changed since they were stored")
    return attributes


def require_consistent(attributes: Mapping[str, Any], T: int) -> None:
    """Raise ValueError if valid attributes of an allocation are inconsistent with each other.

    `T` is the number of iterations of the run.
    """
    chosen, classes = attributes.get("iterations", [0, T, 1]), attributes.get("classes", [])
    if len(chosen) != 3 or chosen[2] < 1 or not chosen[0] <= chosen[1] <= T:
        raise ValueError(f"the attribute iterations has the invalid value {chosen}")
    if len(set(classes)) != len(classes) or len(attributes.get("class_names", classes)) != len(classes):
        raise ValueError("the attributes classes and class_names are inconsistent")
    if audit := attributes.get("audit_result"):
        n, strata = len(audit["iterations"]), range(-1, len(audit["strata"]))
        lists = [values for name, values in audit.items() if isinstance(values, list) and name != "strata"]
        fit = all(len(values) == n for values in lists) and all(h in strata for h in audit["stratum"])
        if not fit or any(t >= T for t in audit["iterations"]):
            raise ValueError("the parts of the attribute audit_result are inconsistent")


def find_fault(value: Any, kind: Any, name: str = "") -> str:
    """Describe how a value from JSON differs from a type, such as ``list[int]``. Return "" if it does not.

    An integer is also a valid float, but True is not a valid integer. A dictionary may have more keys than the type
    describes.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    wrong = f"{name} has the invalid value {str(value)[:80]!r}"
    if is_typeddict(kind):
        if not isinstance(value, dict):
            return wrong
        if missing := sorted(kind.__required_keys__ - value.keys()):
            return f"{name}.{missing[0]} is missing".lstrip(".")
        hints = get_type_hints(kind, include_extras=True)
        each = [(f"{name}.{key}".lstrip("."), value[key], hints[key]) for key in hints.keys() & value.keys()]
    elif origin is Required:
        return find_fault(value, arguments[0], name)
    elif origin is Annotated:
        return find_fault(value, arguments[0], name) or ("" if value in arguments[1] else wrong)
    elif origin in (UnionType, Union):
        return "" if any(not find_fault(value, option, name) for option in arguments) else wrong
    elif origin is Literal:
        allowed = arguments[0] if isinstance(arguments[0], tuple) else arguments
        return "" if isinstance(value, str) and value in allowed else wrong
    elif origin in (list, dict):
        if type(value) is not origin:
            return wrong
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        each = [(f"{name}[{key!r}]", item, arguments[-1]) for key, item in pairs]
    else:
        fits = kind is Any or type(value) is kind or (kind is float and type(value) is int)
        return "" if fits or (kind is NoneType and value is None) else wrong
    return next((fault for place, item, hint in each if (fault := find_fault(item, hint, place))), "")


def _digest(attributes: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()[:16]
