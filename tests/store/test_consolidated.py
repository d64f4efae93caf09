"""Consolidated metadata let xarray and zarr read a store without a warning, and are never outdated.

After every change of a store, the consolidated metadata at its root are compared with the metadata that they copy.
"""

import json
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import small_problem
from faults import dies
from handmade import CONVERGED, LCA, add_allocation, make_run

import lca
from lca.store import consolidated
from lca.store.allocation_writer import AllocationWriter
from lca.store.paths import locate
from lca.store.run import open_run
from lca.store.run_writer import RunWriter, create_run
from lca.store.verify import verify

GROUPS = ["", "training", "lca/train", "lca/val"]
VALUES = {"gradient_norm": np.ones((5, 4)), "status": CONVERGED}
ALL = ("lca", "class_lca", "gradient_sign")


@pytest.fixture
def xarray():
    return pytest.importorskip("xarray", reason="needs the extra `xarray`")


@pytest.fixture(scope="module")
def allocated(tmp_path_factory, trained):
    """The path of a run with two allocations. The first one lacks every second iteration."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("consolidated") / "run.zarr")
    given = replace(small_problem(), groups=lambda batch: batch[1])
    options = {"device": "cpu", "by_class": True, "gradient_signs": True}
    lca.allocate(run, given, lca.AllocateConfig(**options, iterations="0:100:2"))
    lca.allocate(run, given, lca.AllocateConfig(**options, split="val"))
    return run


def whole_run(path):
    return make_run(path, LCA, **VALUES)


def create(path, arrays):
    return RunWriter(open_run(path, "r+")).create_allocation("val", {"split": "val"}, arrays)


def is_consolidated(path):
    return "consolidated_metadata" in json.loads((Path(path) / "zarr.json").read_text(encoding="utf-8"))


def plain(path, **options):
    """Return all arrays that zarr finds, by name."""
    members = zarr.open_group(path, mode="r", **options).members(max_depth=None)
    return {name: member for name, member in members if isinstance(member, zarr.Array)}


@pytest.mark.parametrize("group", GROUPS)
def test_xarray_and_zarr_read_the_same_without_warnings(allocated, xarray, group):
    data = xarray.open_zarr(allocated, **({"group": group} if group else {}))
    opened = zarr.open_group(allocated, path=group, mode="r")
    arrays = dict(opened.arrays())
    assert set(data.data_vars) == set(arrays)
    for name, array in arrays.items():
        assert data[name].dims == array.metadata.dimension_names, name
        assert data[name].dtype == array.dtype, name
        np.testing.assert_array_equal(data[name].values, array[...], err_msg=name)
    assert data.attrs == dict(opened.attrs)


def test_missing_values_are_nan_and_iterates_have_a_separate_dimension(allocated, xarray):
    data = xarray.open_zarr(allocated, group="lca/train")
    sizes = {"parameter": 51, "iteration": 100, "iterate": 101, "tensor": 4, "class": 3, "packed": 7, "block": 2}
    assert dict(data.sizes) == {**sizes, "chunk": 2, "file": 13}
    assert data.lca.dims == ("parameter", "iteration")
    assert data.loss.dims == ("iterate",)
    missing = data.status.values == 0
    assert missing.tolist() == [False, True] * 50
    for name in ("lca", "allocated", "residual", "tensor_lca", "class_lca", "motion_norm"):
        other = [d for d in data[name].dims if d != "iteration"]
        np.testing.assert_array_equal(data[name].isnull().all(other), missing, err_msg=name)
        assert not data[name].isel(iteration=~missing).isnull().any(), name


def test_to_xarray_adds_coordinates_and_omits_the_checksums(allocated, xarray):
    data = lca.open(allocated).to_xarray()
    bare = data.drop_vars(list(data.coords))
    stored = xarray.open_zarr(allocated, group="lca/train").drop_vars("checksums")
    xarray.testing.assert_identical(bare.load(), stored.load())


def test_consolidated_metadata_exist_only_while_nothing_changes(tmp_path):
    run = whole_run(tmp_path / "run.zarr")
    path = run.path.path
    assert is_consolidated(path)
    assert verify(path).findings == []

    changing = AllocationWriter(create(path, ALL))
    assert not is_consolidated(path)
    (path / "zarr.json.0.partial").write_text("{")  # as a crash leaves it
    changing.finish()
    assert is_consolidated(path)
    (path / "zarr.json.0.partial").unlink()
    assert set(plain(path)) == set(plain(path, use_consolidated=False)) > {"lca/val/gradient_sign", "weights"}

    changing.undo(0)
    assert not is_consolidated(path)
    changing.finish()
    create(path, ["lca"])
    assert not is_consolidated(path)
    assert "lca/val/class_lca" not in plain(path)
    changing.finish()
    assert is_consolidated(path)

    RunWriter(open_run(path, "r+")).truncate(3)
    assert not is_consolidated(path)
    assert plain(path)["weights"].shape == (7, 3)
    old = open_run(path, "r+")
    RunWriter(old).finish()
    assert is_consolidated(path)
    assert plain(path)["weights"].shape == (7, 3)
    create_run(path, old.parameters, {}, overwrite=True)
    assert not is_consolidated(path)


def test_lca_itself_ignores_consolidated_metadata(tmp_path):
    run = whole_run(tmp_path / "run.zarr")
    path = run.path.path
    stale = (path / "zarr.json").read_bytes()
    add_allocation(run, "val", LCA, attributes={"split": "val"}, **VALUES)
    (path / "zarr.json").write_bytes(stale)
    assert "val" not in zarr.open_group(path, mode="r")["lca"]
    assert lca.open(path).allocations == ["train", "val"]
    assert lca.open(path).allocation("val").complete

    (finding,) = verify(path).findings
    assert finding.where == "zarr.json"
    assert finding.what.startswith("the consolidated metadata, which xarray and zarr use, differ from")
    assert verify(path, repair=True).n_repaired == 1
    assert "val" in zarr.open_group(path, mode="r")["lca"]
    assert verify(path).findings == []


def test_two_allocations_at_once_leave_no_stale_metadata(tmp_path, monkeypatch):
    """The second allocation starts after the first one has read the metadata and before it writes them."""
    run = whole_run(tmp_path / "run.zarr")
    save, others = zarr.AsyncGroup._save_metadata, []

    async def late(group, *arguments, **options):
        if group.metadata.consolidated_metadata is not None and not others:
            others.append(run.path.path / "lca/val")
            folder = run.path.path / "lca"
            (folder / "val").mkdir()
            for file in (folder / "train/zarr.json", folder / "train/loss/zarr.json"):
                copy = folder / "val" / file.relative_to(folder / "train")
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(file.read_bytes())
        return await save(group, *arguments, **options)

    monkeypatch.setattr(zarr.AsyncGroup, "_save_metadata", late)
    AllocationWriter(run.allocation("train")).finish()
    assert others
    assert not is_consolidated(run.path.path)  # the second allocation writes them when it is finished


def test_an_allocation_that_dies_at_any_write_leaves_no_stale_metadata(problem, monkeypatch):
    url = "memory://consolidated/run.zarr"
    lca.train(problem(), url, lca.TrainConfig(batch_size=20, iterations=70, device="cpu"))
    config = lca.AllocateConfig(batch_size=60, device="cpu", audit=0, iterations="62:66")  # in both blocks
    lca.allocate(url, problem(), config)
    store = locate(url)
    for n in count():
        died = dies(monkeypatch, n, lambda: lca.allocate(url, problem(), config, overwrite=True))
        assert consolidated.is_current(store), n
        lca.allocate(url, problem(), config)
        assert consolidated.is_current(store), n
        assert consolidated.read_metadata(store) is not None, n
        if not died:
            break
    assert n > 20  # the loop covered a realistic number of changes
