"""The reference page of the store describes every array and attribute of a run, and its code works."""

import re
from pathlib import Path

import numpy as np
import pytest
import zarr

import lca
from lca.store.schema import ARRAYS, SCHEMA, Status

GUIDE = (Path(__file__).parents[2] / "docs/reference/store.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", GUIDE, re.M | re.S))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with run.zarr: one allocation with all optional arrays, and one that uses a sample of the examples."""
    folder = tmp_path_factory.mktemp("guide")
    problem = lca.load("digits-fc")
    training = {"iterations": 70, "device": "cpu"}
    lca.train(problem, folder / "other.zarr", lca.TrainConfig(iterations=2, device="cpu"))
    config = lca.TrainConfig(**training, init_from=f"{folder / 'other.zarr'}")
    lca.train(problem, folder / "run.zarr", config, command="lca train digits-fc")
    for name, options in {"train": {"by_class": True, "gradient_signs": True}, "part": {"examples": 100}}.items():
        lca.allocate(folder / "run.zarr", problem, lca.AllocateConfig(name=name, device="cpu", **options))
    return folder


def code(section):
    (block,) = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.S)
    return block


def rows_of(section):
    """Return the cells of all table rows in a section that begin with a name in backticks."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in SECTIONS[section].splitlines()
        if line[:3] == "| `"
    ]


def test_the_twenty_lines_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    text = code("Twenty lines")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "import"))]
    assert len(lines) <= 20
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.M)) == {"numpy", "zarr"}
    names = {}
    exec(text, names)
    run = lca.open("run.zarr")
    allocation = run.allocation("train")
    np.testing.assert_array_equal(names["rows"], np.arange(2080))
    assert names["t"].tolist() == np.flatnonzero(allocation.status[:] == Status.CONVERGED).tolist() != []
    np.testing.assert_array_equal(names["kernel"], run.weights[:2048, -1].reshape(32, 64))
    assert abs(names["change"].sum()) > 0.5  # so that the assertions in the text compare something
    np.testing.assert_allclose(names["layer_total"].sum(), lca.analysis.layers(run).total[0], rtol=1e-5)


def test_the_lines_for_xarray_run(folder, monkeypatch):
    pytest.importorskip("xarray", reason="needs the extra `xarray`")
    monkeypatch.chdir(folder)
    names = {}
    exec(code("With xarray"), names)
    assert set(names["data"].data_vars) == {*ARRAYS, "checksums"}


def test_every_array_is_described_with_its_dtype_dimensions_and_fill_value(folder):
    described = {name.strip("`"): rest for name, *rest in rows_of("Arrays") if len(rest) == 4}
    assert ARRAYS.keys() <= described.keys()
    for name, (dtype, dimensions, fill) in ARRAYS.items():
        assert described[name][:3] == [dtype, ", ".join(dimensions), "NaN" if np.isnan(fill) else "0"], name
    members = dict(zarr.open_group(folder / "run.zarr", mode="r").members(max_depth=None))
    arrays = {name: array for name, array in members.items() if isinstance(array, zarr.Array)}
    assert {name.split("/")[-1] for name in arrays if name.startswith("lca/train/")} == {*ARRAYS, "checksums"}
    for name, array in arrays.items():
        name = re.sub("^lca/.*/", "", name)
        assert name in described, name
        dtype, dimensions, _, _ = described[name]
        assert (str(array.dtype), ", ".join(array.metadata.dimension_names)) == (dtype, dimensions), name
        for dimension in array.metadata.dimension_names:
            assert re.search(rf"^\| (\w+, )*{dimension}(, \w+)* \|", SECTIONS["Dimensions"], re.M), dimension


def test_every_attribute_is_described(folder):
    run = zarr.open_group(folder / "run.zarr", mode="r")
    attributes = run.attrs["lca"]
    parts = SECTIONS["Attributes"].partition("### Attributes of an allocation")
    of_run, of_allocation = (set(re.findall(r"`(\w+)`", part)) for part in (parts[0], parts[2]))
    kinds = {entry["kind"] for entry in attributes["parameters"]}
    assert (
        attributes.keys() | attributes["parameters"][0].keys() | attributes["splits"]["train"].keys() | kinds <= of_run
    )
    for name in ("train", "part"):
        assert run[f"lca/{name}"].attrs["lca"].keys() <= of_allocation
    assert run["lca/part"].attrs["lca"]["standard_error"].keys() <= of_allocation
    assert "initial" in attributes
    assert attributes["schema"] == SCHEMA


def test_every_status_is_described():
    assert [int(line[2]) for line in SECTIONS["Arrays"].splitlines() if re.match(r"\| \d \|", line)] == list(Status)


def test_classes_sum_to_the_layers(folder):
    allocation = lca.open(folder / "run.zarr").allocation("train")
    np.testing.assert_allclose(allocation.class_lca[:].sum(axis=1), allocation.tensor_lca[:], rtol=0, atol=1e-6)


def test_the_readme_links_to_the_page():
    assert "(docs/reference/store.md)" in (Path(__file__).parents[2] / "README.md").read_text()
