"""Digests of the data and of fixed tensors, by which changes since a run was recorded are detected."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lca.errors import LCAError
from lca.model.parameters import get_fixed_tensors, get_named_parameters
from lca.problem.batches import Batch, get_named_tensors, length
from lca.problem.problem import Problem
from lca.problem.streaming import StreamedDataset, count_examples, iterate_pieces
from lca.store.run import Run


def compute_digest(data: "Batch | StreamedDataset", split: str) -> str:
    """Return the SHA-256 digest of a split. Its name is used only in error messages.

    The digest covers the number of examples and the path, dtype, example shape and bytes of each tensor. It does not
    depend on whether the data are in memory or streamed.

    Raises:
        LCAError: A value is NaN or infinite.
    """
    of_tensor: dict[str, Any] = {}
    n = 0
    for batch in iterate_pieces(data):
        for name, tensor in get_named_tensors(batch):
            _require_finite(tensor, f"the tensor {name.lstrip('/')} of the {split} split", n)
            if name not in of_tensor:
                of_tensor[name] = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape[1:])}".encode())
            of_tensor[name].update(_get_bytes(tensor))
        n += length(batch)
    content = [count_examples(data), *((name, found.hexdigest()) for name, found in sorted(of_tensor.items()))]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _require_finite(tensor: Tensor, name: str, first: int) -> None:
    """Raise LCAError if a tensor contains NaN or infinity. `first` is the number of its first example in the split."""
    if tensor.is_floating_point() and not tensor.detach().to_dense().isfinite().all():
        bad = (~tensor.detach().to_dense().isfinite()).reshape(len(tensor), -1).any(dim=1)
        raise LCAError(
            f"{name} contains values that are NaN or infinite, first in example {first + int(bad.nonzero()[0])}",
            remedy="Remove these examples or replace the values, for example by 0 and a mask.",
        )


def _get_bytes(tensor: Tensor) -> Any:
    """Return the raw bytes of a tensor's values. This works for dtypes that NumPy lacks."""
    dense = tensor.detach().cpu().to_dense() if tensor.layout != torch.strided else tensor.detach().cpu()
    return dense.contiguous().reshape(-1).view(torch.uint8).numpy().data


def describe_fixed(model: nn.Module) -> dict[str, str]:
    """Return a truncated SHA-256 digest of each frozen parameter and buffer, by name.

    Runs do not store these tensors, but L depends on them. Running statistics, on which L does not depend, are omitted.
    """
    found = {}
    for name, x in get_fixed_tensors(model).items():
        of_tensor = hashlib.sha256(f"{x.dtype}{tuple(x.shape)}".encode())
        of_tensor.update(_get_bytes(x))
        found[name] = of_tensor.hexdigest()[:16]
    return found


def require_same_frozen(run: Run, model: nn.Module) -> None:
    """Raise LCAError if the model's frozen parameters have changed since recording began."""
    recorded = run.attributes.get("fixed", {})
    found = describe_fixed(model) if recorded else {}
    frozen = {name for name, tensor in get_named_parameters(model).items() if not tensor.requires_grad}
    wrong = [name for name, digest in recorded.items() if name in frozen and found.get(name) not in (None, digest)]
    if wrong:
        raise LCAError(
            f"the frozen parameter {wrong[0]} has changed since {run.path} was recorded ({len(wrong)} of {len(frozen)} "
            "frozen parameters differ). Runs do not store them, so the allocation would use a different loss",
            remedy="Pass the model with its original frozen parameters, for example from the same seed or file.",
        )


@dataclass(frozen=True)
class ChangedBuffers:
    """The buffers of a model that differ from those at the start of a run.

    Attributes:
        during: Buffers that changed while the run was recorded.
        since: Buffers that did not change while the run was recorded, but have changed since.
        are_final: Whether the buffers in `during` have the values that they had when recording ended. False if there
            are none.
        are_first: Whether the buffers in `during` have the values that they had when recording began.
    """

    during: list[str]
    since: list[str]
    are_final: bool
    are_first: bool

    @classmethod
    def find(cls, run: Run, model: nn.Module) -> "ChangedBuffers":
        """Compare the model's buffers with the digests that the run stores."""
        start: dict[str, str] = run.attributes.get("fixed", {})
        end: dict[str, str] = run.attributes.get("fixed_at_end", {})
        found = describe_fixed(model) if start else {}
        during = [name for name in end if name in found]
        since = [name for name, digest in start.items() if found.get(name, digest) != digest and name not in end]
        return cls(
            during,
            since,
            are_final=bool(during) and all(found[name] == end[name] for name in during),
            are_first=all(found[name] == start[name] for name in during),
        )

    def describe_during(self) -> str:
        """Return a remark on the buffers that changed while the run was recorded."""
        values = "the final values" if self.are_final else "values that are neither the initial nor the final ones"
        values = "the initial values" if self.are_first else values
        return f"training changed {list_buffers(self.during)}. The allocated loss is computed with {values}."

    def describe_since(self) -> list[str]:
        """Return a remark on the buffers in `since`, if there are any."""
        if not self.since:
            return []
        return [
            f"{list_buffers(self.since)} changed since recording began. The allocated loss is computed with the "
            "current values."
        ]


def list_buffers(names: list[str]) -> str:
    """Return the names as "the buffer a" or "the buffers a, b, c and 4 more"."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"the buffer{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"


def describe_changes(start: Mapping[str, str], model: nn.Module) -> dict[str, str]:
    """Return the digests of the frozen parameters and buffers that differ from those in `start`."""
    return {name: digest for name, digest in describe_fixed(model).items() if start.get(name) != digest}


def describe_problem(problem: Problem) -> dict[str, Any]:
    """Return the attributes of a run that name its problem and identify its data."""
    return {
        "problem": problem.name,
        "problem_options": dict(problem.options),
        "splits": describe_splits(problem),
    }


def describe_splits(problem: Problem) -> dict[str, dict[str, Any]]:
    """Return the number of examples and the SHA-256 digest of every split."""
    return {
        name: {"examples": count_examples(data), "sha256": compute_digest(data, name)}
        for name, data in problem.splits.items()
    }


def require_same_data(run: Run, problem: Problem, split: str) -> None:
    """Raise LCAError if the problem's split is not the one that the run was recorded with."""
    data = problem.split(split)
    recorded = run.attributes.get("splits", {}).get(split)
    if recorded is None:
        return
    found: dict[str, Any] = {"examples": count_examples(data), "sha256": compute_digest(data, split)}
    if found != recorded:
        raise LCAError(
            f"the {split} split of {problem.name} differs from the one that {run.path} was recorded with",
            expected=f"{recorded['examples']:,} examples with SHA-256 {recorded['sha256'][:12]}…",
            found=f"{found['examples']:,} examples with SHA-256 {found['sha256'][:12]}…",
            remedy="Pass the data that the run was recorded with.",
        )
