"""Small allocations made by hand, with the answers worked out here."""

import asyncio

import numpy as np
import pytest
from torch import nn

from lca.analysis import helping, layers
from lca.analysis.report import mean_and_deviation
from lca.parameters import ParameterTable
from lca.store import create_run

NAN = np.nan


def allocated(path, lca, status=None, block=None):
    """A run store of a net with tensors of 2, 1, 2, 2 parameters in the layers 0 and 1, holding this LCA (7, T)."""
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2))
    lca = np.asarray(lca, np.float32)
    T = lca.shape[1]
    run = create_run(path, ParameterTable.of(model), {})
    if block:
        run._set(block=block)
    for begin in range(0, T + 1, 64):
        asyncio.run(run.write_iterates(begin, np.zeros((min(64, T + 1 - begin), 7), np.float32)))
    run.commit(T + 1, {})
    run.finish()
    allocation = run.create_allocation("train", {})
    status = np.ones(T, np.uint8) if status is None else np.array(status, np.uint8)
    spans = [slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 7)]
    layer_lca = np.stack([lca[span].sum(0, dtype=np.float64) for span in spans], axis=1)
    for i, span in enumerate(allocation.iteration_blocks):
        allocation.write_block(
            i,
            {
                "lca": lca[:, span].T,
                "status": status[span],
                "layer_lca": layer_lca[span],
                "loss": np.ones(span.stop - span.start + (span.stop == T)),
            },
        )
    return run


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
STATUS = [1, 2, 1, 3]


def test_helping(tmp_path):
    result = helping(allocated(tmp_path / "run.zarr", LCA, STATUS))
    assert result.helped.tolist() == [[2, 0, 1, 0], [1, 0, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert result.hurt.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert result.zero.tolist() == [[0, 1, 0, 1], [0, 1, 0, 0], [2, 1, 1, 2], [0, 0, 0, 0]]
    # of those with non-zero LCA: 3 of 5, 5 of 6, 0 of 1
    assert result.percentage == pytest.approx(100 * (3 / 5 + 5 / 6 + 0) / 3)
    # 0.weight: 2/2, 1/2; 0.bias never; 1.weight: 1/2, 2/2, 0/1; 1.bias: 0/1, 2/2
    np.testing.assert_allclose(result.percentage_by_tensor, [75, NAN, 50, 50])
    assert result.iterations.tolist() == [True, True, True, False]
    assert result.n_left_out == 1
    assert result.tensors == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_shares_are_of_all_parameters_and_nan_where_left_out(tmp_path):
    helped, hurt, zero = helping(allocated(tmp_path / "run.zarr", LCA, STATUS)).shares()
    np.testing.assert_allclose(helped, [300 / 7, 500 / 7, 0, NAN])
    np.testing.assert_allclose(hurt, [200 / 7, 100 / 7, 100 / 7, NAN])
    np.testing.assert_allclose(zero, [200 / 7, 100 / 7, 600 / 7, NAN])


def test_streaming_over_blocks_equals_one_block(tmp_path):
    lca = np.random.default_rng(0).normal(size=(7, 50)).round()
    whole, parts = (helping(allocated(tmp_path / f"{block}.zarr", lca, block=block)) for block in (64, 8))
    for name in ("helped", "hurt", "zero"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
        sign = {"helped": -1, "hurt": 1, "zero": 0}[name]
        assert np.array_equal(getattr(whole, name).sum(1), (np.sign(lca) == sign).sum(0))


def test_layers_join_the_bias_to_its_kernel(tmp_path):
    lca = [*LCA[:2], [8.0, 0.0, -2.0, NAN], *LCA[3:]]
    result = layers(allocated(tmp_path / "run.zarr", lca, STATUS))
    assert result.layers == ["0", "1"]
    np.testing.assert_allclose(result.lca, [[4, -0.5], [1, -4.5], [-2, 4], [NAN, NAN]])
    np.testing.assert_allclose(result.total, [3, -1])
    assert result.n_left_out == 1


def test_mean_and_sample_deviation():
    mean, deviation = mean_and_deviation([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]])
    np.testing.assert_allclose(mean, [3, 10])
    np.testing.assert_allclose(deviation, [7**0.5, 0])
    mean, deviation = mean_and_deviation([5.0])
    assert (float(mean), np.isnan(deviation)) == (5.0, True)
