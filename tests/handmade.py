"""Run stores with hand-made contents: the values of an allocation are chosen, not computed."""

import asyncio
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
from torch import nn

from lca.model.parameters import build_table
from lca.store.allocation_writer import AllocationWriter
from lca.store.audit import Audit, Stratum
from lca.store.run_writer import RunWriter, create_run

NAN = np.nan


def make_audit(iterations, part_error, half_way, sign_change, helping_shift):
    """Return an audit whose iterations are drawn from a million equal ones."""
    n = len(iterations)
    figures = (part_error, half_way, sign_change, helping_shift)
    return Audit(iterations, *figures, estimate=[1.0] * n, stratum=[0] * n, strata=[Stratum(10**6, 1e6, 2)])


def small_net():
    """Return a model with layers 0 and 1, whose tensors have 2, 1, 2 and 2 parameters."""
    return nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2))


def make_run(path, lca, *, model=None, weights=None, block=None, training=None, **allocation):
    """Create a complete run with an allocation `train`.

    `lca` has shape (K, T). `weights` has shape (K, T + 1) and is zero by default.
    """
    lca = np.asarray(lca, np.float32)
    K, T = lca.shape
    with patch("lca.store.run_writer.block_length", lambda *_: block) if block else nullcontext():
        writer = create_run(path, build_table(model or small_net()), {"train": training} if training else {})
    run = writer.run
    assert run.parameters.size == K
    weights = np.zeros((K, T + 1)) if weights is None else np.asarray(weights)
    n = run.blocks.length
    for begin in range(0, T + 1, n):
        asyncio.run(writer.write_iterates(begin, np.ascontiguousarray(weights[:, begin : begin + n].T, np.float32)))
    writer.commit(T + 1, {})
    writer.finish()
    add_allocation(run, "train", lca, **allocation)
    return run


def add_allocation(
    run, name, lca, *, status=None, attributes=None, class_lca=None, gradient_positive=None, keep=True, **arrays
):
    """Add an allocation whose `lca` has shape (K, T). Other arrays are derived from it, unless they are passed by name.

    `status` has shape (T,) and is "converged" by default. `class_lca` has shape (T, class, tensor), and the boolean
    array `gradient_positive` has shape (K, T + 1).
    """
    lca = np.asarray(lca, np.float32)
    T = lca.shape[1]
    spans = [parameter.span for parameter in run.parameters]
    steps = np.diff(run.weights[:, :], axis=1)
    values = {
        "lca": lca.T,
        "motion_norm": np.stack([np.linalg.norm(steps[span], axis=0) for span in spans], axis=1),
        "tensor_lca": np.stack([lca[span].sum(0, dtype=np.float64) for span in spans], axis=1),
        "loss": 1 + np.append(0, np.cumsum(np.nan_to_num(lca.sum(0, dtype=np.float64)))),
        "residual": np.zeros(T),
        "allocated": lca.sum(0, dtype=np.float64),
        "intervals": np.full(T, 2),
        "part_estimate": np.full(T, 0.01),
        "curvature_share": np.full(T, 0.4),
        "status": np.ones(T, np.uint8) if status is None else np.array(status, np.uint8),
        **{key: np.asarray(value) for key, value in arrays.items()},
    }
    optional = ["lca"] if keep else []
    attributes = {"split": "train", "rule": "simpson", "examples": 10, "examples_in_split": 10, **(attributes or {})}
    attributes = {"tolerance": 1e-3, "total_tolerance": 1e-2, "batch_size": 10, **attributes}
    attributes = {"unit": "nats", "dtype": "float32", **attributes}
    if class_lca is not None:
        values["class_lca"] = np.asarray(class_lca)
        attributes["classes"] = list(range(values["class_lca"].shape[1]))
        optional.append("class_lca")
    if gradient_positive is not None:
        values["gradient_sign"] = np.packbits(gradient_positive, axis=0).T
        optional.append("gradient_sign")
    if not keep:
        del values["lca"]
    allocation = RunWriter(run).create_allocation(name, attributes, optional)
    writer = AllocationWriter(allocation)
    for i, span in enumerate(allocation.blocks_of_run):
        last = span.stop == T
        rows = {key: value[span.start : span.stop + (last and len(value) == T + 1)] for key, value in values.items()}
        writer.write_block(i, rows)
    writer.finish()
    return allocation


def random_lca(seed, T=10, shift=0.0):
    """Return LCA of small_net with shape (7, T), normally distributed with mean `shift`."""
    return np.random.default_rng(seed).normal(shift, 1, (7, T)).astype(np.float32)


def conv_net():
    """Return a convolution, a norm and a dense layer with 54 + 3 + 6 + 60 + 5 = CONV_SIZE parameters."""
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5))


CONV_SIZE = 128


def random_run(path, T=300, block=None, chunk=16_384, monkeypatch=None, zeros=0.3):
    """Create a run of conv_net with random LCA, weights and gradient signs, and iterations of every status.

    Returns the run and a dictionary of the values that it contains.
    """
    rng = np.random.default_rng(1)
    lca = rng.normal(size=(CONV_SIZE, T)) * 10.0 ** rng.integers(-9, 0, (CONV_SIZE, T))
    lca[rng.random((CONV_SIZE, T)) < zeros] = 0
    status = rng.choice([0, 1, 1, 1, 1, 2, 3], T)
    lca[:, (status == 0) | (status == 3)] = np.nan
    weights = rng.normal(size=(CONV_SIZE, T + 1)).round(1)
    positive = rng.random((CONV_SIZE, T + 1)) < 0.5
    loss = np.where(rng.random(T + 1) < 0.1, np.nan, 1.0)
    if monkeypatch:
        monkeypatch.setattr("lca.store.run_writer.CHUNK_PARAMETERS", chunk)
    arrays = {"weights": weights, "status": status, "gradient_positive": positive, "loss": loss}
    run = make_run(path, lca, model=conv_net(), block=block, **arrays)
    return run, {"lca": lca, "status": status, "weights": weights, "positive": positive, "loss": loss}


def columns_of(found, title=""):
    """Return the JSON columns of the table with this title. `found` is an Answer or a result."""
    answer = found.to_answer() if hasattr(found, "to_answer") else found
    (columns,) = (table["columns"] for table in answer.to_json()["tables"] if table["title"] == title)
    return columns


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
