import asyncio
import json

import numpy as np
import pytest
import zarr
from handmade import make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lca
from lca.errors import LCAError, UsageError
from lca.store.chunks import block_length
from lca.store.parameters import ParameterTable
from lca.store.run import open_run
from lca.store.run_writer import create_run
from lca.store.schema import ARRAYS


def empty(path, K=5, **options):
    return create_run(path, ParameterTable.of(nn.Linear(K, 1, bias=False)), {}, **options)


@pytest.mark.parametrize("codec", ["zstd", "lz4", "pcodec"])
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=4), st.integers(0, 2**31))
def test_what_is_written_is_read_back_bit_for_bit(tmp_path_factory, codec, lengths, seed):
    if codec == "pcodec":
        pytest.importorskip("pcodec", reason="needs the extra pcodec")
    lengths = [64] * (len(lengths) - 1) + lengths[-1:]
    values = np.random.default_rng(seed).integers(0, 2**32, (sum(lengths), 5), np.uint64).astype(np.uint32)
    iterates = values.view(np.float32)  # every bit pattern: NaN with payload, infinities, denormals
    path = tmp_path_factory.mktemp("store") / "run.zarr"
    run = empty(path, codec=codec)
    for end in np.cumsum(lengths):
        asyncio.run(run.write_iterates(run.n_iterates, iterates[run.n_iterates : end]))
        run.commit(int(end), {})
    read = open_run(path)
    assert read.n_iterates == len(iterates)
    assert np.array_equal(np.asarray(read.weights[:]).T.copy().view(np.uint32), values)


def test_a_block_stays_under_its_bytes():
    assert block_length(84_060) == 64
    assert block_length(808_970) == 64
    assert block_length(1_371_658) == 32
    assert block_length(10**10) == 1
    for K in (2_000_000, 7_654_321, 50_000_000):
        assert 4 * K * block_length(K) <= 256 * 2**20 < 8 * K * block_length(K)


def test_the_schema_is_that_of_the_design(run):
    open_run(run, "r+").create_allocation("train", {"classes": [3, 5]}, ["lca", "class_lca", "gradient_sign"])
    group = zarr.open_group(run, mode="r")
    attributes = group.attrs["lca"]
    assert {"schema", "versions", "status", "problem", "problem_options", "train", "splits", "parameters"} <= set(
        attributes
    )
    assert attributes["splits"]["train"]["examples"] == 60
    assert len(attributes["splits"]["train"]["sha256"]) == 64
    assert set(attributes["parameters"][0]) == {"name", "shape", "offset", "size", "layer", "kind"}
    weights = group["weights"]
    assert (weights.shape, weights.dtype, weights.metadata.dimension_names) == (
        (51, 101),
        "float32",
        ("parameter", "iterate"),
    )
    assert weights.chunks == (51, 64)
    assert np.isnan(weights.fill_value)
    assert group["training/loss"].shape == group["training/learning_rate"].shape == (100,)
    assert set(group["lca/train"].array_keys()) == set(ARRAYS)
    for name, (dtype, dimensions, _) in ARRAYS.items():
        array = group["lca/train"][name]
        sizes = {"parameter": 51, "iteration": 100, "iterate": 101, "tensor": 4, "block": 2, "class": 2, "packed": 7}
        assert array.shape == tuple(sizes[d] for d in dimensions)
        assert (array.dtype, array.metadata.dimension_names) == (dtype, dimensions)
        missing = array[:]
        assert np.isnan(missing).all() if array.dtype.kind == "f" else (missing == 0).all(), name


def test_names_that_are_not_in_the_schema_are_refused(run):
    allocation = open_run(run, "r+").create_allocation("train", {})
    with pytest.raises(AttributeError, match="no array 'lcaa'"):
        _ = allocation.lcaa


def test_an_existing_run_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "run.zarr"
    run = empty(path)
    asyncio.run(run.write_iterates(0, np.ones((3, 5), np.float32)))
    run.commit(3, {})
    with pytest.raises(UsageError, match="--overwrite"):
        empty(path)
    assert open_run(path).n_iterates == 3
    assert empty(path, overwrite=True).n_iterates == 0


@pytest.mark.parametrize("content", [None, "{}", '{"node_type": "group", "attributes": {}}'])
def test_what_is_no_run_store_is_never_removed(tmp_path, content):
    path = tmp_path / "thesis"
    path.mkdir()
    (path / "chapter-1.tex").write_text("mine")
    if content:
        (path / "zarr.json").write_text(content)
    with pytest.raises(UsageError, match="no run store; it is left alone"):
        empty(path, overwrite=True)
    assert (path / "chapter-1.tex").read_text() == "mine"


def test_opening_what_is_not_a_run_says_so(tmp_path):
    with pytest.raises(UsageError, match="does not exist; make a run with"):
        lca.open(tmp_path / "nothing.zarr")
    with pytest.raises(UsageError, match="is no run store"):
        lca.open(tmp_path)


def test_another_schema_is_named(run):
    metadata = json.loads((run / "zarr.json").read_text())
    metadata["attributes"]["lca"]["schema"] = 99
    (run / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(LCAError, match="has schema 99; this version of lca reads schema 1"):
        lca.open(run)


def test_a_missing_allocation_names_the_command(run):
    with pytest.raises(LCAError, match="has no allocation 'val'; it has none yet. Make it with `lca allocate"):
        lca.open(run).allocation("val")


@pytest.mark.parametrize("codec", ["zstd", "lz4", "pcodec"])
@pytest.mark.parametrize("K", [16_384, 50_000, 300_000])
def test_chunks_and_shards_of_a_real_size_bit_for_bit(tmp_path, codec, K, monkeypatch):
    monkeypatch.setattr("lca.layout.MAX_CHUNK_FILES", 10)
    if codec == "pcodec":
        pytest.importorskip("pcodec", reason="needs the extra pcodec")
    random = np.random.default_rng(K)
    iterates = random.normal(size=(70, K)).cumsum(0).astype(np.float32)  # each parameter's path is smooth
    run = empty(tmp_path / "run.zarr", K, codec=codec)
    for begin in (0, 64):
        asyncio.run(run.write_iterates(begin, iterates[begin : begin + 64]))
    run.commit(70, {})
    files = [path for path in (tmp_path / "run.zarr/weights/c").rglob("*") if path.is_file()]
    assert len(files) == 2 * {16_384: 1, 50_000: 4, 300_000: 2}[K]  # the last has 19 chunks, 16 to a file
    plain = zarr.open_array(tmp_path / "run.zarr/weights", mode="r")
    assert np.array_equal(plain[:].T, iterates)
    assert np.array_equal(run.iterates(1).T, iterates[64:])


def test_the_default_codec_is_of_the_specification(tmp_path):
    empty(tmp_path / "run.zarr")
    codecs = json.loads((tmp_path / "run.zarr/weights/zarr.json").read_text())["codecs"]
    assert [codec["name"] for codec in codecs] == ["bytes", "blosc", "crc32c"]
    assert codecs[1]["configuration"]["cname"] == "zstd"
    assert codecs[1]["configuration"]["shuffle"] == "bitshuffle"


def test_codecs_that_cannot_be_used_are_named(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="unknown codec 'gzip'; the known ones are zstd, lz4, pcodec"):
        empty(tmp_path / "run.zarr", codec="gzip")
    monkeypatch.setattr("lca.layout.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install loss-change-allocation\[pcodec\]"):
        empty(tmp_path / "run.zarr", codec="pcodec")
    assert not (tmp_path / "run.zarr").exists()


def test_a_store_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    def fails(*arguments):
        raise OSError("no space left")

    with monkeypatch.context() as context:
        context.setattr("lca.store.create_array", fails)
        with pytest.raises(OSError, match="no space left"):
            empty(tmp_path / "new" / "run.zarr")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "run.zarr").mkdir()  # an empty folder is as good as none
    assert empty(tmp_path / "new" / "run.zarr").n_iterates == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run.zarr"]


def test_an_allocation_cut_short_before_it_began_is_not_there(run):
    opened = open_run(run, "r+")
    opened.group.create_group("lca/train")
    assert opened.allocations == []
    opened.create_allocation("train", {"split": "train"})
    assert opened.allocations == ["train"]


def test_an_allocation_as_xarray(tmp_path):
    pytest.importorskip("xarray", reason="needs the extra `xarray`")
    lca = np.arange(70.0).reshape(7, 10)
    run = make_run(tmp_path / "run.zarr", lca, class_lca=np.ones((10, 3, 4)))
    data = run.to_xarray()
    assert data.lca.dims == ("parameter", "iteration")
    assert float(data.lca.sel(iteration=4).sum()) == lca[:, 4].sum()
    by_layer = data.tensor_lca.groupby("layer").sum()
    np.testing.assert_allclose(by_layer.sel(layer="1").sum(), lca[3:].sum())
    assert data.tensor_lca.sel(tensor="0.bias").values.tolist() == lca[2].tolist()
    assert data.class_lca.sel({"class": 2}).shape == (10, 4)
    assert data.loss.sizes == {"iterate": 11}
    with pytest.raises(LCAError, match="has no allocation 'val'"):
        run.to_xarray("val")


def test_rows_are_found_by_name(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.arange(70.0).reshape(7, 10))
    A = run.allocation("train").lca
    assert A[run.parameters.rows("1"), 2:4].tolist() == np.arange(70.0).reshape(7, 10)[3:, 2:4].tolist()
    assert run.parameters.rows("0.bias") == slice(2, 3)
    with pytest.raises(UsageError, match="there is no layer or tensor 'fc'; there are 0, 1, 0.weight, 0.bias"):
        run.parameters.rows("fc")
    first, *rest = run.parameters.to_json()
    apart = ParameterTable.from_json([first, *rest[:-1], {**rest[-1], "layer": "0"}])
    assert apart.rows("0").tolist() == [0, 1, 2, 5, 6]
