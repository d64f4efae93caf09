import asyncio
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import small_problem
from torch import nn

import lca
from lca.cli.main import main
from lca.store.run import open_run
from lca.store.run_arrays import weights_checksums
from lca.store.run_writer import RunWriter
from lca.store.verify import verify


def flip(path, at=0.5):
    """Flip one bit of a file, at a fraction of its length."""
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def original(tmp_path_factory, trained):
    path = shutil.copytree(trained, tmp_path_factory.mktemp("verify") / "run.zarr")
    lca.allocate(path, small_problem(), lca.AllocateConfig(device="cpu"))
    return path


@pytest.fixture
def allocated(tmp_path, original):
    return shutil.copytree(original, tmp_path / "run.zarr")


def arrays(path):
    opened = lca.open(path)
    allocation = opened.allocation("train")
    return [np.asarray(array[:]) for array in (opened.weights, allocation.lca, allocation.loss, allocation.status)]


def test_a_sound_store_has_no_findings(allocated):
    verdict = verify(allocated)
    assert (verdict.findings, verdict.remarks) == ([], [])
    result = CliRunner().invoke(main, ["verify", str(allocated)])
    assert result.exit_code == 0
    assert "is sound" in result.stdout


@pytest.mark.parametrize("at", [0, 0.01, 0.3, 0.7, 0.999])
def test_a_flipped_bit_in_the_iterates_is_found_and_resuming_repairs_it(run, problem, at):
    before = lca.open(run).weights[:]
    flip(run / "weights" / "c" / "0" / "1", at)
    (finding,) = verify(run).findings
    assert finding.where == "weights, block 1 (iterates 64 to 100)"
    with pytest.raises(lca.LCAError, match="block 1 of .*weights is damaged.*use lca.verify\\("):
        lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    assert lca.open(run).status == "complete"
    assert verify(run, repair=True).n_repaired == 1
    assert lca.open(run).status == "training"
    config = lca.TrainConfig(batch_size=20, iterations=100, learning_rate=0.1, device="cpu")
    lca.train(problem(), run, config, resume=True)
    assert verify(run).findings == []
    assert np.array_equal(lca.open(run).weights[:], before)


@pytest.mark.parametrize("name", ["lca/c/0/1", "loss/c/1", "residual/c/1", "tensor_lca/c/1/0", "status/c/1"])
@pytest.mark.parametrize("damage", [flip, lambda path: path.unlink()])
def test_damage_to_an_allocation_is_found_and_allocating_repairs_it(allocated, problem, name, damage):
    before = arrays(allocated)
    damage(allocated / "lca" / "train" / name)
    result = CliRunner().invoke(main, ["verify", str(allocated)])
    assert result.exit_code == 1
    assert f"lca/train/{name.split('/')[0]}, block 1 (iterations 64 to 99)" in result.stdout
    assert "--repair" in result.stdout
    result = CliRunner().invoke(main, ["verify", str(allocated), "--repair"])
    assert "marked 1 damaged part as missing" in result.stdout
    assert open_run(allocated).allocation("train").blocks[:].tolist() == [1, 0]
    lca.allocate(allocated, problem(), lca.AllocateConfig(device="cpu"))
    assert verify(allocated).findings == []
    for array, expected in zip(arrays(allocated), before, strict=True):
        assert np.array_equal(array, expected)


def test_a_missing_file_of_the_iterates_is_found(run):
    (run / "weights" / "c" / "0" / "0").unlink()
    (finding,) = verify(run).findings
    assert (finding.where, finding.what) == ("weights, block 0 (iterates 0 to 63)", "a file is missing")


def test_the_first_iterate_that_is_not_finite_is_named(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(1, 90):
            with torch.no_grad():
                model[0].weight += 1
                if t == 70:
                    model[1].bias += float("inf")
            recorder.record()
    (finding,) = verify(tmp_path / "run.zarr").findings
    assert finding.what == "iterate 70 is the first with a value that is not finite, in 1.bias"


def test_iterations_that_change_no_parameter_are_a_remark(tmp_path):
    model = nn.Linear(2, 1)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(80):
            with torch.no_grad():
                model.bias += t not in (5, 63, 64)
            recorder.record()
    verdict = verify(tmp_path / "run.zarr")
    assert verdict.findings == []
    assert verdict.remarks == ["3 iterations changed no parameter (the first is iteration 5)"]


def test_equal_iterates_that_differed_during_recording_are_found(run):
    opened = open_run(run, "r+")
    rows = np.array(opened.weights[:, :64]).T
    rows[11] = rows[10]
    asyncio.run(RunWriter(opened).write_iterates(0, rows))
    opened.weights.resize((51, 101))
    weights_checksums(opened.weights).truncate(0)  # otherwise the file is not the one that was written
    findings = verify(run).findings
    assert any(f.what == "iterates 10 and 11 are equal, but differed when they were recorded" for f in findings)


def test_shapes_and_the_table_are_checked(run):
    opened = open_run(run, "r+")
    opened.training["loss"].resize((90,))
    assert [finding.where for finding in verify(run).findings] == ["training/loss", "zarr.json"]
    opened.attributes["parameters"][1]["offset"] += 1
    RunWriter(opened).set_attributes()
    with pytest.raises(lca.LCAError, match="0.bias has offset 17 and size 8 instead of offset 16 and size 8"):
        verify(run)


def test_half_written_files_are_a_remark(run):
    (run / "weights" / "c" / "0" / "2.abc.partial").touch()
    verdict = verify(run)
    assert verdict.findings == []
    assert "1 half-written file left by an interrupted process" in verdict.remarks[0]


@pytest.mark.parametrize("name", ["loss/c/2", "gradient_norm/c/2/0"])
@pytest.mark.parametrize("damage", [flip, lambda path: path.unlink()])
def test_the_file_that_contains_only_the_last_iterate_is_checked(tmp_path, problem, name, damage):
    """128 iterations are two whole blocks, so θ_128 is alone in a third file."""
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=128, device="cpu"))
    lca.allocate(path, problem(), lca.AllocateConfig(device="cpu"))
    assert verify(path).findings == []
    damage(path / "lca" / "train" / name)
    (finding,) = verify(path, repair=True).findings
    assert finding.where == f"lca/train/{name.split('/')[0]}, block 1 (iterations 64 to 127)"
    lca.allocate(path, problem(), lca.AllocateConfig(device="cpu"))
    assert verify(path).findings == []


def test_a_store_that_is_being_written_is_not_repaired(run):
    with RunWriter(open_run(run)).lock(), pytest.raises(lca.LCAError, match="is being written by process"):
        verify(run, repair=True)
