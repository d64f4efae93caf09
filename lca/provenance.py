"""What a store says of the data it was made from, and whether the data at hand are the same."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lca.batch import Batch, length
from lca.errors import LCAError
from lca.problem import Problem
from lca.store import Run


def digest(data: Batch) -> str:
    """SHA-256 of the tensors of a split: dtype, shape and bytes of each."""
    result = hashlib.sha256()
    _add(result, data)
    return result.hexdigest()


def _add(result: Any, data: Batch) -> None:
    """Dicts by their names, in order of these."""
    if isinstance(data, Mapping):
        for name in sorted(data, key=str):
            result.update(f"{name}:".encode())
            _add(result, data[name])
    elif isinstance(data, Tensor):
        tensor = data.detach().cpu().contiguous()
        if tensor.dtype == torch.bfloat16:  # which numpy has not
            result.update(b"bfloat16")
            tensor = tensor.view(torch.int16)
        array = tensor.numpy()
        result.update(f"{array.dtype.str}{array.shape}".encode())
        result.update(array.data)
    else:
        for part in data:
            _add(result, part)


def describe_splits(problem: Problem) -> dict[str, dict[str, Any]]:
    """Examples and SHA-256 of every split."""
    return {name: {"examples": length(data), "sha256": digest(data)} for name, data in problem.splits.items()}


def require_same_data(run: Run, problem: Problem, split: str) -> None:
    """Raise if the problem's split is not the one that the run was trained with."""
    data: Batch = problem.split(split)
    recorded = run.attributes.get("splits", {}).get(split)
    if recorded is None:
        return
    found: dict[str, Any] = {"examples": length(data), "sha256": digest(data)}
    if found != recorded:
        raise LCAError(
            f"the {split} split of {problem.name} differs from the one that {run.path} was recorded with: "
            f"{found['examples']:,} examples with SHA-256 {found['sha256'][:12]}…, "
            f"{recorded['examples']:,} with {recorded['sha256'][:12]}… were wanted. Give the data it was trained on."
        )
