"""Biases before BatchNorm count as 0, and small LCA of other parameters does not."""

import numpy as np
import pytest
import torch
from handmade import columns_of, make_run, random_lca
from torch import nn

import lca
from lca.analysis import everything, helping, neurons, oscillation, tails
from lca.analysis.cancellation import find_cancelled, iterate_lca
from lca.problem.losses import cross_entropy


@pytest.fixture(scope="module")
def allocated(tmp_path_factory):
    """A run of a model in which BatchNorm follows the dense layers 0 and 3, with and without scale and shift."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(600, 5, generator=generator), torch.randint(3, (600,), generator=generator)
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(7, affine=False)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 7), norm, nn.ReLU(), nn.Linear(7, 3)
    )
    problem = lca.Problem(model, cross_entropy, train=(x, y), name="batchnorm")
    path = tmp_path_factory.mktemp("cancellation") / "run.zarr"
    lca.train(problem, path, lca.TrainConfig(iterations=20, batch_size=100, device="cpu"))
    lca.allocate(path, problem, lca.AllocateConfig(device="cpu", audit=0))
    return lca.open(path)


def test_biases_before_batchnorm_are_found(allocated):
    assert [parameter.name for parameter in find_cancelled(allocated.allocation("train"))] == ["0.bias", "3.bias"]
    stored = np.concatenate(
        [allocated.allocation("train").lca[allocated.parameters.rows(n)] for n in ("0.bias", "3.bias")]
    )
    assert 0 < np.abs(stored).max() < 1e-9  # rounding errors


def test_biases_before_batchnorm_count_as_zero(allocated):
    result = helping(allocated)
    at = [result.tensors.index(name) for name in ("0.bias", "3.bias")]
    assert (result.zero[:, at] == [8, 7]).all()
    assert (result.helped[:, at] + result.hurt[:, at] == 0).all()
    assert np.isnan(result.percentage_by_tensor[at]).all()
    assert result.n_without_effect == 15
    stored = allocated.allocation("train").lca[:]
    others = np.delete(stored, np.r_[tuple(allocated.parameters.rows(name) for name in ("0.bias", "3.bias"))], axis=0)
    assert tails(allocated).n_zero == 20 * 15 + (others == 0).sum()
    assert oscillation(allocated, crossings=False).of_lca.counts[at].tolist() == [0, 0]
    # The neurons of layer 3 have no scale and shift, so their LCA is that of the kernel.
    kernel = (
        allocated.allocation("train").lca[allocated.parameters.rows("3.weight")].astype(np.float64).reshape(7, 8, 20)
    )
    names = neurons(allocated).units.names
    np.testing.assert_array_equal(neurons(allocated).total[names.index("3[0]") :][:7], kernel.sum(axis=1).sum(axis=1))
    for result in (helping(allocated), tails(allocated), neurons(allocated)):
        assert result.cancelled == ["0.bias", "3.bias"]
        assert "Counted as 0, because BatchNorm cancels them except for rounding errors: 0.bias, 3.bias." in str(result)
    assert everything(allocated).answers["helping"].n_without_effect == 15


def test_all_other_values_remain(allocated):
    allocation = allocated.allocation("train")
    found, stored = np.empty((allocated.parameters.size, 20), np.float32), allocation.lca[:]
    for tile in iterate_lca(allocated, allocation, np.ones(20, bool)):
        found[tile.rows, tile.columns] = tile.values
    cancelled = np.zeros(len(stored), bool)
    for name in ("0.bias", "3.bias"):
        cancelled[allocated.parameters.rows(name)] = True
    np.testing.assert_array_equal(found[~cancelled], stored[~cancelled])
    assert (found[cancelled] == 0).all()


def norms_of(sizes, T=10):
    return np.tile(np.asarray(sizes, float), (T + 1, 1))


@pytest.mark.parametrize(
    ("sizes", "batchnorm", "cancelled"),
    [
        ((1, 1e-6, 1, 0.1), "batch statistics", ["0.bias"]),
        ((1, 1e-6, 1, 0.1), "none", []),  # for example with large inputs
        ((1e-9, 1e-10, 1, 0.1), "batch statistics", []),  # the gradient of the whole layer vanishes
        ((1e-6, 1, 1, 0.1), "batch statistics", []),  # only biases cancel
        ((1, 1e-3, 1, 0.1), "batch statistics", []),
    ],
)
def test_only_biases_that_are_small_in_their_layer_count_as_zero(tmp_path, sizes, batchnorm, cancelled):
    norms = norms_of(sizes)
    norms[3] = np.nan  # not allocated
    attributes = {"batchnorm": batchnorm}
    run = make_run(tmp_path / "run.zarr", 1e-20 * random_lca(0), gradient_norm=norms, attributes=attributes)
    assert [parameter.name for parameter in find_cancelled(run.allocation("train"))] == cancelled
    assert tails(run).n_zero == (10 if cancelled else 0)


def test_bias_that_strips_divide_counts_as_zero(tmp_path, monkeypatch):
    monkeypatch.setattr("lca.analysis.tiles.STRIP_ROWS", 1)
    attributes = {"batchnorm": "batch statistics"}
    run = make_run(tmp_path / "run.zarr", random_lca(0), gradient_norm=norms_of((1, 1, 1, 1e-6)), attributes=attributes)
    assert helping(run).zero.sum(axis=0).tolist() == [0, 0, 0, 20]


def test_note_shortens_a_long_list_of_names(tmp_path):
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(5)))
    attributes = {"batchnorm": "batch statistics"}
    lca_values = np.ones((10, 4))
    norms = norms_of([1, 1e-6] * 5, 4)
    run = make_run(tmp_path / "run.zarr", lca_values, model=model, gradient_norm=norms, attributes=attributes)
    assert "rounding errors: 0.bias, 1.bias, 2.bias and 2 more." in str(helping(run))
    assert columns_of(helping(run), "by tensor")["helping %"]["4.bias"]["mean"] is None
