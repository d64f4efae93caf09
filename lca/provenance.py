"""What a store says of the data it was made from, and whether the data at hand are the same."""

import hashlib
from typing import Any

from lca.batch import Batch, length, tensors
from lca.errors import LCAError
from lca.problem import Problem
from lca.store import Run


def digest(data: Batch) -> str:
    """SHA-256 of the tensors of a split: dtype, shape and bytes of each."""
    result = hashlib.sha256()
    for tensor in tensors(data):
        array = tensor.detach().cpu().contiguous().numpy()
        result.update(f"{array.dtype.str}{array.shape}".encode())
        result.update(array.data)
    return result.hexdigest()


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
