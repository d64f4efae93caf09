"""A problem: a model, its loss per example and its data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lca.errors import LCAError, UsageError
from lca.problem.batches import Batch, get_tensors
from lca.problem.losses import Losses, cross_entropy, describe_value, top_1
from lca.problem.streaming import StreamedDataset, read_dataset


@dataclass(frozen=True)
class Problem:
    """A model, `losses(model, batch) -> (B,)` with one loss per example, and the splits of its data.

    train, val, test: tensors whose first dimension is the example, in tuples, lists and dicts, nested at will; or a
    torch Dataset, or a DataLoader, of which the data set, collate_fn and workers are used. These are read into memory,
    in their order, or where they do not fit there anew at every pass. A batch is the same, cut or picked along the
    first dimension. The loss of a split is the mean over all its examples.
    weigh: `weigh(batch) -> (B,)`, what each example weighs in that mean; or (B, S), what each part of an example does,
    such as a token: losses then are (B, S), and L = Σ wℓ / Σ w over all of them. A mask, True for what counts, will do.
    groups: `groups(batch) -> (B,)`, an integer label per example, or (B, S), for the LCA of each class. group_names:
    what these labels are called.
    scale: `scale(batch) -> batch`, what is done to a batch before it is given to these functions, such as bytes to
    floats: a function of each example by itself. Data may so be kept as they are stored, where floats would not fit.
    correct: `correct(model, batch) -> (B,)`, which examples are right, for accuracies; top_1 with cross_entropy.
    name, options: how to make it again; a built-in problem is found by its name.
    """

    model: nn.Module
    losses: Losses = cross_entropy
    train: Batch = ()
    val: Batch | None = None
    test: Batch | None = None
    weigh: Callable[[Batch], Tensor] | None = None
    groups: Callable[[Batch], Tensor] | None = None
    group_names: Mapping[int, str] | None = None
    scale: Callable[[Batch], Batch] | None = None
    correct: Losses | None = None
    name: str = "custom"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.correct is None and self.losses is cross_entropy:
            object.__setattr__(self, "correct", top_1)
        for name, value, kind, expected in (
            ("model", self.model, nn.Module, "a torch module, such as Net()"),
            ("losses", self.losses, Callable, "a function losses(model, batch)"),
            ("group_names", self.group_names or {}, Mapping, 'a dict, such as {0: "cat", 1: "dog"}'),
        ):
            if not isinstance(value, kind):  # type: ignore[arg-type]
                found = f"the class {value.__name__}" if isinstance(value, type) else describe_value(value)
                raise UsageError(name, expected=expected, found=found)
        names = list((self.group_names or {}).values())
        if len(set(names)) < len(names):
            raise UsageError(f"group_names has the same name for two labels: {', '.join(names)}.")
        in_memory = 0
        for split, data in self.splits.items():
            if isinstance(data, Dataset | DataLoader):
                data = _read_split(split, data, in_memory)
                object.__setattr__(self, split, data)
                in_memory += 0 if isinstance(data, StreamedDataset) else sum(x.nbytes for x in get_tensors(data))
            if isinstance(data, StreamedDataset):
                continue
            held = _require_tensors(split, data)
            if len({len(x) for x in held}) > 1 or len(held[0]) == 0:
                lengths = " and ".join(f"{len(x):,}" for x in held)
                expected = "tensors with the same first dimension, at least 1"
                raise UsageError(f"the {split} split", expected=expected, found=f"{lengths} examples")

    @property
    def splits(self) -> dict[str, Batch | StreamedDataset]:
        """The existing splits, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: data for name, data in named.items() if data is not None}

    def split(self, name: str) -> Batch | StreamedDataset:
        """The data of a split; UsageError if the problem has none of this name."""
        if name not in self.splits:
            raise UsageError(f"{self.name} has no split {name!r}", remedy=f"Its splits are {', '.join(self.splits)}.")
        return self.splits[name]


def _read_split(split: str, data: "Dataset[Any] | DataLoader[Any]", in_memory: int) -> Batch | StreamedDataset:
    """A data set as tensors, or as a stream of them, or an error that says why it cannot be."""
    try:
        return read_dataset(data, in_memory)
    except LCAError:
        raise
    except (TypeError, RuntimeError, KeyError, ValueError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"the examples of {split} cannot be collated into tensors ({why})",
            remedy="Pass the tensors themselves, a Dataset of tensors and numbers of equal shapes, or a DataLoader "
            "whose collate_fn makes tensors.",
        ) from error


def _require_tensors(split: str, data: Batch) -> list[Tensor]:
    """Those of a split, or an error that says what it is instead."""
    try:
        found = get_tensors(data)
    except TypeError as error:
        found, data = [], error
    if not found or not all(x.ndim for x in found):
        expected = 'tensors, such as (x, y) or {"x": x, "y": y}, a torch Dataset or a DataLoader'
        what = str(data) if isinstance(data, TypeError) else describe_value(data)
        raise UsageError(f"the {split} split", expected=expected, found=what)
    return found


def require_problem(problem: object) -> None:
    """Raise UsageError unless this is a Problem."""
    if not isinstance(problem, Problem):
        raise UsageError(
            "problem",
            expected="an lca.Problem",
            found=describe_value(problem) if problem is not None else "None",
            remedy="See lca.Problem and lca.load.",
        )
