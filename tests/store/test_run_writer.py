import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lca.errors import UsageError
from lca.model.parameters import build_table
from lca.store.run import open_run
from lca.store.run_writer import RunWriter, create_run


def empty(path, K=5, **options):
    return create_run(path, build_table(nn.Linear(K, 1, bias=False)), {}, **options)


@pytest.mark.parametrize("codec", ["zstd", "lz4", "pcodec"])
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=4), st.integers(0, 2**31))
def test_iterates_are_read_back_bit_for_bit(tmp_path_factory, codec, lengths, seed):
    if codec == "pcodec":
        pytest.importorskip("pcodec", reason="needs the extra pcodec")
    lengths = [64] * (len(lengths) - 1) + lengths[-1:]
    values = np.random.default_rng(seed).integers(0, 2**32, (sum(lengths), 5), np.uint64).astype(np.uint32)
    iterates = values.view(np.float32)  # every bit pattern: NaN with payload, infinities, denormals
    path = tmp_path_factory.mktemp("store") / "run.zarr"
    writer = empty(path, codec=codec)
    for end in np.cumsum(lengths):
        begin = writer.run.n_iterates
        asyncio.run(writer.write_iterates(begin, iterates[begin:end]))
        writer.commit(int(end), {})
    read = open_run(path)
    assert read.n_iterates == len(iterates)
    assert np.array_equal(np.asarray(read.weights[:]).T.copy().view(np.uint32), values)


def test_an_existing_run_is_replaced_only_with_overwrite(tmp_path):
    path = tmp_path / "run.zarr"
    writer = empty(path)
    asyncio.run(writer.write_iterates(0, np.ones((3, 5), np.float32)))
    writer.commit(3, {})
    with pytest.raises(UsageError, match="already exists. Choose another path, or pass overwrite=True to replace it."):
        empty(path)
    assert open_run(path).n_iterates == 3
    assert empty(path, overwrite=True).run.n_iterates == 0


@pytest.mark.parametrize("content", [None, "{}", '{"node_type": "group", "attributes": {}}'])
def test_a_folder_that_is_not_a_run_store_is_never_replaced(tmp_path, content):
    path = tmp_path / "thesis"
    path.mkdir()
    (path / "chapter-1.tex").write_text("mine")
    if content:
        (path / "zarr.json").write_text(content)
    with pytest.raises(UsageError, match="exists and is not a run store, so it is not replaced. Choose another path."):
        empty(path, overwrite=True)
    assert (path / "chapter-1.tex").read_text() == "mine"


def test_a_store_is_created_completely_or_not_at_all(tmp_path, monkeypatch):
    def fails(*arguments):
        raise OSError("no space left")

    with monkeypatch.context() as context:
        context.setattr("lca.store.run_writer.ArrayFormat.create", fails)
        with pytest.raises(OSError, match="no space left"):
            empty(tmp_path / "new" / "run.zarr")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "run.zarr").mkdir()  # an empty folder does not prevent creation
    assert empty(tmp_path / "new" / "run.zarr").run.n_iterates == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run.zarr"]


def test_an_allocation_interrupted_during_its_creation_does_not_exist(run):
    opened = open_run(run, "r+")
    opened.group.create_group("lca/train")
    assert opened.allocations == []
    RunWriter(opened).create_allocation("train", {"split": "train"})
    assert opened.allocations == ["train"]
