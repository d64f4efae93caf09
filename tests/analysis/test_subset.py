"""Agreement of allocations over subsets with the allocation over all examples."""

import numpy as np
import pytest
from handmade import LCA, add_allocation, columns_of, make_run, random_lca
from scipy import stats

import lca
from lca.analysis import Subset, subset
from lca.errors import LCAError, UsageError


def test_agreement_equals_scipy(tmp_path):
    full = random_lca(0, T=130)
    full[2] = 0
    part = (full + random_lca(1, T=130) / 2).astype(np.float32)
    status = np.ones(130)
    status[7] = 3
    run = make_run(tmp_path / "run.zarr", full, attributes={"examples": 1000})
    add_allocation(run, "part", part, attributes={"examples": 100}, status=status)
    add_allocation(run, "val", part, attributes={"examples": 100, "split": "val"})
    add_allocation(run, "sums", part, attributes={"examples": 50}, keep=False)
    result = subset(run)
    assert list(result.agreements) == ["part"]
    found = result.agreements["part"]
    used = status == 1
    a, b = full[:, used].astype(np.float64), part[:, used].astype(np.float64)
    assert found.correlation == pytest.approx(stats.pearsonr(a.ravel(), b.ravel()).statistic)
    assert found.of_parameters == pytest.approx(stats.pearsonr(a.sum(1), b.sum(1)).statistic)
    assert found.same_sign == pytest.approx((np.sign(a) == np.sign(b))[a != 0].mean())
    totals = [np.array([x[:3].sum(), x[3:].sum()]) for x in (a, b)]
    assert found.layer_error == pytest.approx(np.abs(totals[1] - totals[0]).sum() / np.abs(totals[0]).sum())
    helped = [(100 * (x < 0).sum(0) / (x != 0).sum(0)).mean() for x in (a, b)]
    assert found.helping_error == pytest.approx(helped[1] - helped[0])
    columns = columns_of(Subset.tabulate([result]))
    assert columns["examples"]["part"]["mean"] == 100
    assert columns["same sign %"]["part"]["mean"] == pytest.approx(100 * found.same_sign)


def test_subsets_are_sorted_by_size(tmp_path):
    run = make_run(tmp_path / "run.zarr", random_lca(0), attributes={"examples": 1000})
    for n in (500, 20, 100):
        add_allocation(run, f"of-{n}", random_lca(0), attributes={"examples": n})
    result = subset(run)
    assert list(result.agreements) == ["of-20", "of-100", "of-500"]
    assert all(agreement.correlation == pytest.approx(1) for agreement in result.agreements.values())
    assert list(subset(run, against=["of-100"]).agreements) == ["of-100"]


def test_subset_of_a_different_split_is_rejected(tmp_path):
    run = make_run(tmp_path / "run.zarr", random_lca(0))
    add_allocation(run, "val", random_lca(0), attributes={"split": "val"})
    with pytest.raises(
        UsageError, match="allocation 'val': expected the train split, like 'train', found the val split"
    ):
        subset(run, against=["val"])


def test_missing_subset_is_reported_with_the_call_that_creates_it(tmp_path):
    run = make_run(tmp_path / "run.zarr", random_lca(0))
    with pytest.raises(LCAError, match=r"problem, split='train', examples=1000, name='subset-1000'\)"):
        subset(run)


def test_an_allocation_is_not_compared_with_itself(tmp_path):
    make_run(tmp_path / "run.zarr", LCA)
    with pytest.raises(UsageError, match="'train' would be compared with itself. Pass other allocations as against"):
        lca.analysis.subset(tmp_path / "run.zarr", against=["train"])
