"""The problem: a model, its loss for each example, and its data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lca.errors import LCAError, UsageError
from lca.problem.batches import Batch, get_tensors
from lca.problem.losses import Losses, cross_entropy, describe_value, top_1
from lca.problem.streaming import StreamedDataset, read_dataset

NATS = "nats"
ANY_UNIT = "units of the loss"
CUSTOM = "custom"  # name of a problem that cannot be loaded by name


@dataclass(frozen=True)
class Problem:
    """A model, a function that returns one loss per example, and the data.

    Data are tensors whose first dimension indexes the examples, in arbitrarily nested tuples, lists and dicts. A batch
    has the same structure. The data can also be a torch ``Dataset`` or ``DataLoader``. Its examples are read in the
    order of the dataset: into memory if they fit, and otherwise again in every pass. The dataset, ``collate_fn`` and
    workers of a ``DataLoader`` are used, but its batch size and its order are not.

    The loss of a split is the mean of ``losses`` over all its examples. With ``weigh``, it is Σ wℓ / Σ w.

    Attributes:
        model: Module to train. Training changes its parameters in place.
        losses: Function ``losses(model, batch)`` that returns one loss per example, with shape (B,). The default is the
            cross-entropy of batches ``(inputs, labels)``.
        train: Training split.
        val: Validation split, or None.
        test: Test split, or None.
        weigh: Function ``weigh(batch)`` that returns the weight of each example, with shape (B,), or of each part of an
            example, such as a token, with shape (B, S). The losses have the same shape. A mask works as well: losses
            count where it is True.
        groups: Function ``groups(batch)`` that returns an integer label for each example, with shape (B,), or for each
            part of an example, with shape (B, S). The LCA can be computed separately for each label.
        group_names: Names of these labels, such as ``{0: "cat", 1: "dog"}``.
        scale: Function ``scale(batch)`` that is applied to a batch before the other functions, for example to convert
            bytes to floats. It must treat each example independently. With it, data that would not fit into memory as
            floats can be kept as bytes.
        correct: Function ``correct(model, batch)`` that returns whether each prediction is right, for accuracies. The
            default is the top-1 accuracy if ``losses`` is the default, and None otherwise.
        unit: Unit of the losses, such as ``"nats"`` or ``"squared meters"``. The default is ``"nats"`` if ``losses`` is
            the default, and ``"units of the loss"`` otherwise.
        name: Name by which the problem can be loaded again.
        options: Options with which the problem was loaded.

    Example:
        >>> problem = lca.Problem(model, train=(x, y), val=(x_val, y_val))
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
    unit: str = ""
    name: str = CUSTOM
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.correct is None and self.losses is cross_entropy:
            object.__setattr__(self, "correct", top_1)
        if not self.unit:
            object.__setattr__(self, "unit", NATS if self.losses is cross_entropy else ANY_UNIT)
        if isinstance(self.losses, nn.Module):
            raise UsageError(
                "losses",
                expected="a function losses(model, batch) that returns one loss per example",
                found=f"the module {type(self.losses).__name__}",
                remedy='Call it in such a function, with reduction="none".',
            )
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
            raise UsageError("group_names", expected="a different name for each label", found=", ".join(names))
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
                expected = "the same number of examples in every tensor, at least 1"
                raise UsageError(f"the {split} split", expected=expected, found=lengths)

    @property
    def splits(self) -> dict[str, Batch | StreamedDataset]:
        """The splits that exist, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: data for name, data in named.items() if data is not None}

    def split(self, name: str) -> Batch | StreamedDataset:
        """Return the data of a split.

        Args:
            name: Name of the split: ``"train"``, ``"val"`` or ``"test"``.

        Returns:
            The tensors, or the streamed dataset.

        Raises:
            UsageError: If the problem has no such split.
        """
        if name not in self.splits:
            what = "the problem" if self.name == CUSTOM else self.name
            raise UsageError(f"{what} has no split {name!r}", remedy=f"Its splits are {', '.join(self.splits)}.")
        return self.splits[name]


def _read_split(split: str, data: "Dataset[Any] | DataLoader[Any]", in_memory: int) -> Batch | StreamedDataset:
    """Read a dataset into memory, or as a stream if it does not fit. Raise UsageError if it yields no tensors."""
    try:
        return read_dataset(data, in_memory)
    except LCAError:
        raise
    except (TypeError, RuntimeError, KeyError, ValueError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"the examples of the {split} split cannot be collated into tensors ({why})",
            remedy="Pass tensors, a Dataset whose examples are tensors or numbers of equal shapes, or a DataLoader "
            "whose collate_fn returns tensors.",
        ) from error


def _require_tensors(split: str, data: Batch) -> list[Tensor]:
    """Return the tensors of a split. Raise UsageError if it contains anything else."""
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
    """Raise UsageError if the value is not a Problem."""
    if not isinstance(problem, Problem):
        raise UsageError(
            "problem",
            expected="an lca.Problem",
            found=describe_value(problem),
            remedy="See lca.Problem and lca.load.",
        )
