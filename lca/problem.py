"""What is trained: a model, its loss per example and its data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lca.batch import Batch, length, tensors
from lca.errors import LCAError, UsageError
from lca.stream import Stream, read

Losses = Callable[[nn.Module, Batch], Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """(images, labels) -> (B,) the cross-entropy of each example, in nats."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels, reduction="none")


def top_1(model: nn.Module, batch: Batch) -> Tensor:
    """(images, labels) -> (B,) whether the largest output is that of the label."""
    images, labels = batch
    outputs: Tensor = model(images)
    return torch.eq(outputs.argmax(dim=1), labels)


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
        for name, value, kind, wanted in (
            ("model", self.model, nn.Module, "a torch module, such as Net(),"),
            ("losses", self.losses, Callable, "a function losses(model, batch)"),
            ("group_names", self.group_names or {}, Mapping, 'a dict, such as {0: "cat", 1: "dog"},'),
        ):
            if not isinstance(value, kind):  # type: ignore[arg-type]
                what = f"the class {value.__name__}" if isinstance(value, type) else _describe(value)
                raise UsageError(f"{name} is {what}; {wanted} was wanted.")
        names = list((self.group_names or {}).values())
        if len(set(names)) < len(names):
            raise UsageError(f"group_names has the same name for two labels: {', '.join(names)}.")
        in_memory = 0
        for split, data in self.splits.items():
            if isinstance(data, Dataset | DataLoader):
                data = _read(split, data, in_memory)
                object.__setattr__(self, split, data)
                in_memory += 0 if isinstance(data, Stream) else sum(x.nbytes for x in tensors(data))
            if isinstance(data, Stream):
                continue
            found = _tensors(split, data)
            if len({len(x) for x in found}) > 1 or len(found[0]) == 0:
                raise UsageError(
                    f"the tensors of {split} hold {' and '.join(f'{len(x):,}' for x in found)} examples; "
                    "the first dimension has to be equal and not 0."
                )

    @property
    def splits(self) -> "dict[str, Batch | Stream]":
        """The splits that there are, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: data for name, data in named.items() if data is not None}

    def split(self, name: str) -> "Batch | Stream":
        if name not in self.splits:
            raise UsageError(f"{self.name} has no split {name!r}; it has {', '.join(self.splits)}.")
        return self.splits[name]


def per_example(problem_losses: Losses, model: nn.Module, batch: Batch, weights: Tensor | None = None) -> Tensor:
    """The losses (B,) of a batch, or an error that says what the problem's function gave instead.

    weights: (B,) or (B, S), which the losses are multiplied by; their shape is that of the losses.
    """
    losses = problem_losses(model, batch)
    n = length(batch)
    wanted = (n,) if weights is None else tuple(weights.shape)
    if not isinstance(losses, Tensor) or losses.shape != wanted:
        what = "one loss per example" if weights is None else "one loss for each weight that weigh(batch) gave"
        raise LCAError(
            f"losses(model, batch) gave {_describe(losses)} for a batch of {n} examples; {what}, shape {wanted}, was "
            f"wanted. {_remedy(losses, n, weights is not None)}"
        )
    if torch.is_grad_enabled() and not losses.requires_grad:
        raise LCAError(
            "losses(model, batch) gave losses without a gradient: they were detached, made under no_grad, or do not "
            "use the model that they were given."
        )
    # What weighs nothing may be anything, also not finite.
    return losses if weights is None else torch.where(weights > 0, losses, 0) * weights


def _remedy(losses: object, n: int, weighed: bool) -> str:
    """What to do about losses of a wrong shape."""
    shape = tuple(losses.shape) if isinstance(losses, Tensor) else None
    if shape == (n, 1):
        return "Take losses.squeeze(-1)."
    if shape == (n, n) and n > 1:
        return "Does a prediction of shape (B, 1) meet a target of shape (B,)? Take prediction.squeeze(-1)."
    if weighed:
        return "Give weights of the shape of the losses."
    if shape and len(shape) > 1 and shape[0] == n:
        return "For a loss per token give Problem(…, weigh=…) too; else take their mean over each example."
    return 'With torch\'s loss functions use reduction="none".'


def weights_of(weigh: Callable[[Batch], Tensor] | None, batch: Batch) -> Tensor | None:
    """The weights of a batch as weigh gives them, a mask as ones and zeros; an error where they are none."""
    if weigh is None:
        return None
    weights, n = weigh(batch), length(batch)
    if not isinstance(weights, Tensor) or weights.ndim == 0 or len(weights) != n:
        raise LCAError(
            f"weigh(batch) gave {_describe(weights)} for a batch of {n} examples; a weight for each of them, shape "
            f"({n},), or for each of their parts, shape ({n}, …), was wanted."
        )
    return weights if weights.is_floating_point() else weights.float()


def labels_of(groups: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """The labels of a batch as groups gives them; an error where they are none."""
    labels, n = groups(batch), length(batch)
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and not labels.is_complex()
    if not whole or labels.ndim == 0 or len(labels) != n:
        found = f"{_describe(labels)} of {labels.dtype}" if isinstance(labels, Tensor) else _describe(labels)
        raise LCAError(
            f"groups(batch) gave {found} for a batch of {n} examples; a tensor of whole numbers was wanted, a label "
            f"for each example, shape ({n},), or for each of its parts, shape ({n}, …)."
        )
    return labels


def load(
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    seed: int = 0,
) -> Problem:
    """A problem with its model initialised from the seed; the caller's random state is left as it was.

    name: built in, added by a plug-in, or where a function is that returns it: "package.module:factory" or
    "path/file.py:factory".
    options: what differs from its defaults, such as {"layers": 4}; `lca problems` lists them.
    """
    from lca import factory
    from lca.zoo import presets

    if name not in presets.PRESETS and factory.is_factory(name):
        return factory.make(name, options or {}, seed)
    preset = presets.find(name)
    resolved = preset.resolve(options or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = preset.network(**resolved)
    data = preset.data.load(data_dir, download)
    return Problem(
        model,
        preset.data.losses,
        data.train,
        data.val,
        data.test,
        weigh=preset.data.weigh,
        groups=preset.data.groups,
        group_names=preset.data.group_names,
        scale=data.scale,
        correct=preset.data.correct,
        name=name,
        options=resolved,
    )


def _read(split: str, data: "Dataset[Any] | DataLoader[Any]", in_memory: int) -> "Batch | Stream":
    """A data set as tensors, or as a stream of them, or an error that says why it cannot be."""
    try:
        return read(data, in_memory)
    except LCAError:
        raise
    except (TypeError, RuntimeError, KeyError, ValueError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"the examples of {split} cannot be put together to tensors ({why}). Give tensors "
            "themselves, a Dataset of tensors and numbers of equal shapes, or a DataLoader whose collate_fn makes "
            "tensors."
        ) from error


def _tensors(split: str, data: Batch) -> list[Tensor]:
    """Those of a split, or an error that says what it is instead."""
    try:
        found = tensors(data)
    except TypeError as error:
        found, data = [], error
    if not found or not all(x.ndim for x in found):
        told = f"holds {data}" if isinstance(data, TypeError) else f"is {_describe(data)}"
        raise UsageError(
            f'{split} {told}; tensors, such as (x, y) or {{"x": x, "y": y}}, a torch Dataset or a DataLoader '
            "were wanted."
        )
    return found


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "nothing" if value is None or (isinstance(value, tuple) and not value) else f"a {type(value).__name__}"
