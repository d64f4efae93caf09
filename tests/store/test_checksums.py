"""Files that are intact, but missing, exchanged or of another size."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import zarr
from conftest import small_problem
from handmade import make_run, random_lca

import lca
from lca.errors import DamagedError, LCAError
from lca.store import chunks
from lca.store.allocation_writer import AllocationWriter
from lca.store.attributes import write_attributes
from lca.store.chunks import block_length
from lca.store.paths import locate
from lca.store.remote import Remote
from lca.store.run import open_run
from lca.store.run_writer import SCALARS_CHUNK, RunWriter
from lca.store.verify import verify

OPTIONS = {"device": "cpu", "by_class": True, "gradient_signs": True}


def labelled():
    return replace(small_problem(), groups=lambda batch: batch[1])


@pytest.fixture(scope="module")
def original(tmp_path_factory, trained):
    path = shutil.copytree(trained, tmp_path_factory.mktemp("checksums") / "run.zarr")
    lca.allocate(path, labelled(), **OPTIONS)
    return path


@pytest.fixture
def allocated(tmp_path, original):
    return shutil.copytree(original, tmp_path / "run.zarr")


def exchange(a, b):
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def chunk_files(path):
    return [file for file in sorted(path.rglob("c/**/*")) if file.is_file()]


def read_everything(path):
    run = lca.open(path)
    run.weights[:]
    for array in run.training.values():
        array[:]
    for name in run.allocations:
        for array in run.allocation(name).arrays:
            run.allocation(name).read(array)


def test_the_checksums_are_the_ends_of_the_files(allocated):
    """They are read with zarr alone. A row belongs to a block, and its columns to the files of the arrays."""
    group = zarr.open_group(allocated, mode="r")
    found = {int.from_bytes(file.read_bytes()[-4:], "little") for file in chunk_files(allocated)}
    for name in ("checksums", "lca/train/checksums"):
        assert set(np.unique(group[name][:])) <= found
    ends = [int.from_bytes((allocated / f"weights/c/0/{block}").read_bytes()[-4:], "little") for block in (0, 1)]
    assert group["checksums"][:, 0].tolist() == ends
    attributes = group.attrs["lca"]["training_checksums"]
    assert attributes.keys() == {"loss", "learning_rate", "moved"}
    assert {checksum for values in attributes.values() for checksum in values} <= found


def test_every_missing_file_is_found_by_readers_and_by_verify(allocated):
    files = [file for file in chunk_files(allocated) if "blocks" not in str(file)]
    assert len(files) > 25
    for file in files:
        content = file.read_bytes()
        file.unlink()
        assert not verify(allocated).is_sound, file
        if "checksums" not in str(file):
            with pytest.raises((DamagedError, ValueError)):
                read_everything(allocated)
        file.write_bytes(content)
    read_everything(allocated)
    assert verify(allocated).is_sound


def test_every_exchange_of_two_files_is_found(allocated):
    files = [file for file in chunk_files(allocated) if "blocks" not in str(file)]
    n = 0
    for a, b in pairwise(files):
        if a.read_bytes() != b.read_bytes():
            exchange(a, b)
            assert not verify(allocated).is_sound, (a, b)
            with pytest.raises((DamagedError, ValueError)):
                read_everything(allocated)
            exchange(a, b)
            n += 1
    assert n > 25
    assert verify(allocated).is_sound


def test_exchanged_shards_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("lca.store.run_writer.CHUNK_PARAMETERS", 1)
    monkeypatch.setattr("lca.store.chunks.MAX_CHUNK_FILES", 1)
    monkeypatch.setattr("lca.store.chunks.CHUNKS_PER_FILE", 3)
    weights = np.random.default_rng(0).normal(size=(7, 11))
    make_run(tmp_path / "run.zarr", random_lca(0), weights=weights, gradient_norm=np.ones((11, 4)))
    assert lca.open(tmp_path / "run.zarr").weights.shards == (3, 64)
    assert verify(tmp_path / "run.zarr").findings == []
    exchange(tmp_path / "run.zarr/weights/c/0/0", tmp_path / "run.zarr/weights/c/1/0")
    assert "not the one that was written" in verify(tmp_path / "run.zarr").findings[0].what
    with pytest.raises(DamagedError, match="not the one that was written"):
        lca.open(tmp_path / "run.zarr").iterate(3)


def test_exchanged_blocks_are_repaired(allocated, original):
    exchange(allocated / "lca/train/residual/c/0", allocated / "lca/train/residual/c/1")
    exchange(allocated / "training/loss/c/0", allocated / "training/learning_rate/c/0")
    assert verify(allocated, repair=True).n_repaired == 4
    lca.allocate(allocated, labelled(), **OPTIONS)
    assert verify(allocated).is_sound
    assert np.isnan(lca.open(allocated).training["loss"][:]).all()
    for name in lca.open(original).allocation().arrays:
        a, b = (lca.open(path).allocation().read(name) for path in (original, allocated))
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_checksums_that_cannot_be_read_are_repaired(allocated):
    (allocated / "lca/train/checksums/c/1/0").write_bytes(b"damaged")
    with pytest.raises(DamagedError, match="lca/train/checksums is damaged"):
        lca.open(allocated).allocation().read("status")
    assert verify(allocated, repair=True).n_repaired == 1
    assert verify(allocated).is_sound


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"damaged"), lambda file: file.unlink()])
def test_a_lost_mark_of_a_block_is_restored_without_computing_it_again(allocated, damage):
    damage(allocated / "lca/train/blocks/c/1")
    (finding,) = verify(allocated, repair=True).findings
    assert finding.where == "lca/train/blocks, block 1"
    assert verify(allocated).is_sound
    assert lca.open(allocated).allocation().read("blocks").tolist() == [1, 1]
    assert lca.open(allocated).allocation().complete


def test_a_run_resumed_by_another_process_has_all_checksums(tmp_path, problem):
    path = tmp_path / "run.zarr"
    with pytest.raises(ZeroDivisionError), lca.Recorder(path, problem().model) as recorder:
        for _ in range(SCALARS_CHUNK + 30):
            recorder.record(loss=1.0)
        raise ZeroDivisionError
    assert lca.open(path).n_iterates == SCALARS_CHUNK + 31
    run = open_run(path, "r+")
    assert [len(values) for values in run.attributes["training_checksums"].values()] == [1, 1]
    RunWriter(run).finish()
    checksums = zarr.open_array(path / "checksums", mode="r")[:]
    assert checksums.shape == (17, 1)
    assert (checksums > 0).all()
    assert [len(values) for values in lca.open(path).attributes["training_checksums"].values()] == [2, 2]
    assert verify(path).findings == []


def test_a_scalar_that_is_first_logged_late_has_no_missing_file(tmp_path, problem):
    with lca.Recorder(tmp_path / "run.zarr", problem().model) as recorder:
        for t in range(SCALARS_CHUNK + 100):
            recorder.record(**({"loss": 1.0} if t >= SCALARS_CHUNK else {}))
    loss = lca.open(tmp_path / "run.zarr").training["loss"][:]
    assert np.isnan(loss[:SCALARS_CHUNK]).all()
    assert (loss[SCALARS_CHUNK:] == 1).all()
    assert all((tmp_path / f"run.zarr/training/loss/c/{file}").exists() for file in (0, 1))


def test_another_process_may_change_a_block_while_it_is_read(allocated):
    """The reader has seen the old checksums, and the file changes together with its checksum."""
    reader = lca.open(allocated).allocation()
    before = reader.read("residual")
    AllocationWriter(open_run(allocated, "r+").allocation()).write_iteration(3, {"residual": 0.5})
    after = reader.read("residual")
    assert after[3] == 0.5
    np.testing.assert_array_equal(np.delete(after, 3), np.delete(before, 3))


CHANGES = {
    "lca": (lambda a: a["lca"].__setitem__((5, 70), 0.5), "Σ lca differs from tensor_lca in 1 iteration, first in 70"),
    "tensor_lca": (lambda a: a["tensor_lca"].__setitem__((70, 1), 0.5), "Σ lca differs from tensor_lca"),
    "allocated": (lambda a: a["allocated"].__setitem__(70, 0.5), "Σ tensor_lca differs from allocated"),
    "residual": (lambda a: a["residual"].__setitem__(70, 0.5), "allocated − loss change differs from residual"),
    "loss": (lambda a: a["loss"].__setitem__(70, 0.5), "differs from residual in 2 iterations"),
    "motion_norm": (
        lambda a: a["motion_norm"].__setitem__((70, 0), 9),
        "the motion of weights differs from motion_norm",
    ),
    "status": (lambda a: a["status"].__setitem__(70, 0), "marked as done, but some iterations are not allocated"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_sums_that_the_arrays_do_not_agree_on_are_found(allocated, name):
    """The values are replaced together with their checksums, as by a faulty program."""
    change, expected = CHANGES[name]
    group = zarr.open_group(allocated, path="lca/train", mode="r+")
    change(group)
    open_run(allocated, "r+").allocation().opened.checksums.forget([0, 1])
    findings = verify(allocated).findings
    assert any(expected in finding.what for finding in findings), findings
    assert {finding.where for finding in findings} <= {
        f"lca/train, {block}" for block in ("block 0 (iterations 0 to 63)", "block 1 (iterations 64 to 99)")
    }


def edit(path, change):
    """Change the metadata of a run, together with the digest that protects them."""
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    attributes = {key: value for key, value in group.attrs["lca"].items() if key != "digest"}
    change(attributes)
    write_attributes(group.attrs, attributes)


def test_a_change_of_the_attributes_is_found(allocated):
    for name in ("", "lca/train/"):
        file = allocated / f"{name}zarr.json"
        content = file.read_text()
        metadata = json.loads(content)
        metadata["attributes"]["lca"]["unit" if name else "problem"] = "other"
        file.write_text(json.dumps(metadata))
        with pytest.raises(DamagedError, match="attributes were changed since they were stored"):
            read_everything(allocated)
        file.write_text(content)


HUGE = {
    "iterates": lambda a: a.update(iterates=10**11),
    "too many iterates": lambda a: a.update(iterates=10**12),
    "block": lambda a: a.update(block=10**9, iterates=10**11),
    "shape": lambda a: a["parameters"][0].update(shape=[10**9, 10**9], size=10**18),
    "large tensor": lambda a: a.update(
        parameters=[{**a["parameters"][0], "shape": [10**6, 10**4], "size": 10**10, "offset": 0}]
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_sizes_are_checked_before_memory_is_taken(allocated, name, limited_memory):
    edit(allocated, HUGE[name])
    with limited_memory(), pytest.raises(LCAError):
        read_everything(allocated)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_chunk_that_is_larger_than_its_array_allows_is_not_uncompressed(tmp_path, problem, codec, limited_memory):
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, batch_size=20, iterations=100, codec=codec, device="cpu")
    bomb = zarr.create_array(
        tmp_path / "bomb.zarr",
        shape=(2**28,),
        chunks=(2**28,),
        dtype="float32",
        **chunks.CODECS[codec](),
        config=chunks.WRITE_ALL,
    )
    bomb[:] = 0
    shutil.copy(tmp_path / "bomb.zarr/c/0", path / "weights/c/0/0")
    zarr.open_array(path / "checksums", mode="r+")[:] = 0
    with limited_memory(), pytest.raises(DamagedError, match="has 1,073,741,824 bytes uncompressed instead of 13,056"):
        lca.open(path).iterate(0)


def test_large_metadata_are_not_parsed(allocated):
    content = json.loads((allocated / "zarr.json").read_text())
    content["attributes"]["lca"]["command"] = "x" * 150_000_000
    (allocated / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(LCAError):
        lca.open(allocated)


def test_deeply_nested_metadata_are_refused(allocated):
    (allocated / "lca/train/zarr.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(DamagedError):
        read_everything(allocated)
    (allocated / "zarr.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(LCAError):
        lca.open(allocated)


def test_an_object_that_is_briefly_missing_is_read_again(run, problem, monkeypatch):
    """An object store reports every object as missing when it is first read."""
    memory = locate("memory://transient/run.zarr")
    for name in locate(run).files():
        memory.call("pipe_file", f"{memory.path}/{name}", (run / name).read_bytes())
    seen, call = set(), Remote.call

    def forgetful(self, method, *arguments, **options):
        if method.startswith("cat") and (self.url, arguments) not in seen:
            seen.add((self.url, arguments))
            raise FileNotFoundError(arguments)
        return call(self, method, *arguments, **options)

    monkeypatch.setattr(Remote, "call", forgetful)
    opened = lca.open("memory://transient/run.zarr")
    np.testing.assert_array_equal(opened.weights[:], lca.open(run).weights[:])
    assert opened.training.keys() == {"loss", "learning_rate", "moved"}
    assert len(seen) > 5


@pytest.mark.parametrize(
    ("K", "length"), [(1, 1024), (256, 1024), (257, 512), (4096, 64), (10**6, 64), (1_048_577, 32), (10**8, 1)]
)
def test_blocks_are_longer_for_small_models_and_shorter_for_large_ones(monkeypatch, K, length):
    monkeypatch.setattr(chunks, "LONGEST_BLOCK", 1024)
    assert block_length(K) == length
    assert 4 * K * length <= 2**28 or length == 1
