import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.errors import LCAError
from lca.store.verify import verify

CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}


def allocate(run, problem, name, **options):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(name=name, **{**CONFIG, **options}))
    return lca.open(run).allocation(name), summary


def test_gradient_signs_agree_with_autograd(run, problem):
    allocation, _ = allocate(run, problem, "signs", gradient_signs=True)
    opened = lca.open(run)
    model, (x, y) = problem().model, problem().train
    packed = allocation.gradient_sign[:]
    assert packed.shape == (-(-51 // 8), 101)
    bits = np.unpackbits(packed, axis=0, count=51)
    for t in (0, 63, 64, 100):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(opened.weights[:, t]), model.parameters())
        loss = nn.functional.cross_entropy(model(x), y)
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))])
        is_clear = gradient.abs() > 1e-6  # the sign of a smaller gradient may be a rounding error
        assert int(is_clear.sum()) > 40
        np.testing.assert_array_equal(bits[:, t][is_clear], (gradient > 0).numpy()[is_clear])


def test_zero_gradient_is_stored_as_not_positive(tmp_path, problem):
    """The gradients of all weights into and out of a ReLU unit that no example activates are exactly zero."""

    def make_problem_with_dead_unit():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        nn.init.constant_(model[0].bias[:1], -100)
        return problem(model=model)

    model = make_problem_with_dead_unit().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder, torch.no_grad():
        model[2].bias += 0.01
        recorder.record()
    allocation, _ = allocate(tmp_path / "run.zarr", make_problem_with_dead_unit, "signs", gradient_signs=True)
    bits = torch.from_numpy(np.unpackbits(allocation.gradient_sign[:], axis=0, count=51)[:, 0])
    first, first_bias, last, last_bias = torch.split(bits, [16, 8, 24, 3])
    assert not first.view(8, 2)[0].any()
    assert not first_bias[0]
    assert not last.view(3, 8)[:, 0].any()
    assert last.view(3, 8)[:, 1:].any()
    assert last_bias.any()


def test_keep_tensors_stores_only_the_sums_over_tensors(run, problem):
    whole, with_audit = allocate(run, problem, "whole", audit=0.1)
    sums, summary = allocate(run, problem, "tensors", keep="tensors", audit=0.1)
    assert "lca" not in sums.arrays
    assert not (run / "lca/tensors/lca").exists()
    np.testing.assert_array_equal(whole.tensor_lca[:], sums.tensor_lca[:])
    np.testing.assert_allclose(summary.audit.part_error, with_audit.audit.part_error, atol=1e-7)
    with pytest.raises(
        LCAError,
        match=r"has no lca. Replace it with lca.allocate\(.*, problem, name='tensors', keep='lca', overwrite=True\)",
    ):
        _ = sums.lca
    with pytest.raises(
        LCAError, match=r"has no class_lca. Replace it with lca.allocate\(.*, by_class=True, overwrite=True\)"
    ):
        _ = sums.class_lca
    assert not verify(run).findings
