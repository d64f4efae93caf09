"""Losses that are not in nats: the same model with its loss multiplied by a constant."""

import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import small_problem
from torch import nn

import lca
from lca.analysis import layers


def scaled_problem(scale, unit=""):
    def losses(model, batch):
        x, y = batch
        return scale * nn.functional.cross_entropy(model(x), y, reduction="none")

    return replace(small_problem(), losses=losses, unit=unit, correct=None)


def allocate(path, scale, **options):
    """Train with a learning rate that gives the same iterates at every scale, and allocate."""
    training = lca.TrainConfig(batch_size=20, iterations=40, learning_rate=0.1 / scale, device="cpu")
    lca.train(scaled_problem(scale), path, training)
    return lca.allocate(path, scaled_problem(scale), device="cpu", batch_size=20, **options)


@pytest.mark.parametrize("scale", [1e-8, 1e6])
def test_a_loss_of_any_scale_has_the_same_allocation(tmp_path, scale):
    one, scaled = allocate(tmp_path / "one.zarr", 1.0), allocate(tmp_path / "scaled.zarr", scale)
    for summary in (one, scaled):
        assert summary.within_bounds
        assert summary.gradients_per_iteration == 2
        assert summary.tolerance == pytest.approx(4e-4 * summary.loss_start, rel=1e-6)
    expected, found = (lca.open(tmp_path / f"{name}.zarr").allocation("train") for name in ("one", "scaled"))
    np.testing.assert_allclose(found.read("tensor_lca") / scale, expected.read("tensor_lca"), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1e6])
def test_numbers_of_any_scale_are_printed_with_their_digits(tmp_path, scale):
    summary = allocate(tmp_path / "run.zarr", scale)
    printed = float(re.search(r"(\S+) → ", str(summary)).group(1))
    assert printed == pytest.approx(summary.loss_start, rel=1e-6)
    result = layers(tmp_path / "run.zarr")
    row = next(line for line in str(result).splitlines() if line.startswith("sum"))
    assert float(row.split()[1]) == pytest.approx(result.total.sum(), rel=1e-3)
    assert "LCA (units of the loss)" in str(result)


def test_the_unit_of_the_problem_is_stored_and_used(tmp_path):
    problem = scaled_problem(1.0, unit="euros")
    lca.train(problem, tmp_path / "run.zarr", batch_size=20, iterations=10, device="cpu")
    summary = lca.allocate(tmp_path / "run.zarr", problem, device="cpu")
    assert lca.open(tmp_path / "run.zarr").allocation("train").attributes["unit"] == "euros"
    assert "euros" in str(summary)
    assert "nats" not in str(summary) + str(layers(tmp_path / "run.zarr"))


def test_the_default_loss_is_in_nats_with_the_tolerance_of_the_paper(run, problem):
    summary = lca.allocate(run, problem(), device="cpu")
    assert (summary.unit, summary.tolerance) == ("nats", 1e-3)


def test_a_run_that_does_not_move_is_within_its_bounds(tmp_path, problem):
    """The loss changes by nothing, so a relative residual means nothing."""
    lca.train(problem(), tmp_path / "run.zarr", batch_size=20, iterations=10, learning_rate=1e-12, device="cpu")
    summary = lca.allocate(tmp_path / "run.zarr", problem(), device="cpu")
    assert summary.within_bounds
    assert "nan" not in str(summary)
    assert "the loss change is only a rounding error" in str(summary)
