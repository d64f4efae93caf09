"""Run stores made by hand: what an allocation holds is given, not computed."""

import asyncio

import numpy as np
from torch import nn

from lca.store.parameters import ParameterTable
from lca.store.run_writer import create_run

NAN = np.nan


def small_net():
    """Tensors of 2, 1, 2, 2 parameters, in the layers 0 and 1."""
    return nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2))


def make_run(path, lca, *, model=None, weights=None, block=None, training=None, **allocation):
    """A complete run with the allocation `train`; lca: (K, T). weights: (K, T+1), zeros unless given."""
    lca = np.asarray(lca, np.float32)
    K, T = lca.shape
    run = create_run(path, ParameterTable.of(model or small_net()), {"train": training} if training else {})
    assert run.parameters.size == K
    if block:
        run._set(block=block)
    weights = np.zeros((K, T + 1)) if weights is None else np.asarray(weights)
    for begin in range(0, T + 1, 64):
        asyncio.run(run.write_iterates(begin, np.ascontiguousarray(weights[:, begin : begin + 64].T, np.float32)))
    run.commit(T + 1, {})
    run.finish()
    add_allocation(run, "train", lca, **allocation)
    return run


def add_allocation(
    run, name, lca, *, status=None, attributes=None, class_lca=None, gradient_positive=None, keep=True, **arrays
):
    """An allocation with lca (K, T), whose other arrays are what follows from it, or are given by name.

    status: (T,), all converged unless given. class_lca: (T, class, tensor). gradient_positive: (K, T+1) bool.
    """
    lca = np.asarray(lca, np.float32)
    T = lca.shape[1]
    spans = [parameter.span for parameter in run.parameters]
    values = {
        "lca": lca.T,
        "tensor_lca": np.stack([lca[span].sum(0, dtype=np.float64) for span in spans], axis=1),
        "loss": np.ones(T + 1),
        "residual": np.zeros(T),
        "allocated": lca.sum(0, dtype=np.float64),
        "intervals": np.full(T, 2),
        "status": np.ones(T, np.uint8) if status is None else np.array(status, np.uint8),
        **{key: np.asarray(value) for key, value in arrays.items()},
    }
    optional = ["lca"] if keep else []
    attributes = {"split": "train", "rule": "simpson", "examples": 10, "examples_in_split": 10, **(attributes or {})}
    attributes = {"tolerance": 1e-3, "total_tolerance": 1e-2, "batch_size": 10, **attributes}
    if class_lca is not None:
        values["class_lca"] = np.asarray(class_lca)
        attributes["classes"] = list(range(values["class_lca"].shape[1]))
        optional.append("class_lca")
    if gradient_positive is not None:
        values["gradient_sign"] = np.packbits(gradient_positive, axis=0).T
        optional.append("gradient_sign")
    if not keep:
        del values["lca"]
    allocation = run.create_allocation(name, attributes, optional)
    for i, span in enumerate(allocation.iteration_blocks):
        last = span.stop == T
        rows = {key: value[span.start : span.stop + (last and len(value) == T + 1)] for key, value in values.items()}
        allocation.write_block(i, rows)
    allocation.finish()
    return allocation


def columns_of(report, title=""):
    """The columns of the table of this title, as they are written for programs."""
    (found,) = (table["columns"] for table in report.to_json()["tables"] if table["title"] == title)
    return found


LCA = [
    #  t=0   1    2    3
    [-1.0, 2.0, 0.0, NAN],  # 0.weight
    [-3.0, -1.0, 0.0, NAN],
    [0.0, 0.0, 0.0, NAN],  # 0.bias
    [1.0, -1.0, 4.0, NAN],  # 1.weight
    [-2.0, -1.0, 0.0, NAN],
    [0.5, -0.5, 0.0, NAN],  # 1.bias
    [0.0, -2.0, 0.0, NAN],
]
CONVERGED = [1, 1, 1, 3]
