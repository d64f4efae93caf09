"""Checkpoints become the iterates of a run, in numeric order, and cannot run code."""

import pickle

import numpy as np
import pytest
import torch
from conftest import small_problem
from features import Features, trained
from torch import nn

import lca
from lca.errors import LCAError, UsageError
from lca.recording.checkpoints import import_checkpoints


@pytest.fixture
def checkpoints(tmp_path, problem):
    """Train for 11 steps and return the folder of the 12 state_dicts, and the parameters of each."""
    given = problem()
    optimizer = torch.optim.SGD(given.model.parameters(), lr=1.0)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    values = []
    for step in range(12):
        torch.save(given.model.state_dict(), folder / f"step-{step}.pt")
        values.append(nn.utils.parameters_to_vector(given.model.parameters()).detach().numpy().copy())
        optimizer.zero_grad()
        given.losses(given.model, given.train).mean().backward()
        optimizer.step()
    return folder, np.array(values)


class Evil:
    def __reduce__(self):
        return open, ("touched", "w")


@pytest.mark.parametrize("frozen", [True, False])
def test_checkpoints_with_other_fixed_tensors_raise(tmp_path, frozen):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    trained(tmp_path / "run.zarr", frozen, folder=folder)
    with pytest.raises(LCAError, match=r"random differs between .*0\.pt and the problem's model.*Load random"):
        import_checkpoints(tmp_path / "new.zarr", [folder], small_problem(model=Features(1, frozen)))
    assert not (tmp_path / "new.zarr").exists()
    # The counter n, which changes during training, is ignored.
    run = import_checkpoints(tmp_path / "new.zarr", [folder], small_problem(model=Features(0, frozen)))
    np.testing.assert_array_equal(run.weights[:], lca.open(tmp_path / "run.zarr").weights[:, :4])


def test_files_in_alphabetical_order_raise(tmp_path, problem, checkpoints):
    folder, values = checkpoints
    files = sorted(folder.iterdir(), key=str)  # 0, 1, 10, 11, 2, …
    with pytest.raises(UsageError, match=r"step-0\.pt, .*step-1\.pt, … are not in numeric order"):
        import_checkpoints(tmp_path / "run.zarr", files, problem())
    run = import_checkpoints(tmp_path / "run.zarr", [folder / f"step-{step}.pt" for step in (2, 9, 11)], problem())
    np.testing.assert_array_equal(run.weights[:].T, values[[2, 9, 11]])


def test_certificate_states_that_the_path_between_checkpoints_is_unknown(tmp_path, problem, checkpoints):
    folder, _ = checkpoints
    files = [folder / f"step-{step}.pt" for step in (2, 9, 11)]
    for n, path in ((2, "one straight line between 2"), (3, "2 straight lines between 3")):
        import_checkpoints(tmp_path / f"{n}.zarr", files[:n], problem())
        summary = lca.allocate(tmp_path / f"{n}.zarr", problem(), audit=0, device="cpu")
        assert summary.remarks[0].startswith(f"the path consists of {path} checkpoints.")


def test_folder_is_read_in_numeric_order(tmp_path, problem, checkpoints):
    folder, values = checkpoints
    run = import_checkpoints(tmp_path / "run.zarr", [folder], problem(seed=5))
    assert run.status == "complete"
    np.testing.assert_array_equal(run.weights[:].T, values)
    assert [name.rsplit("/", 1)[1] for name in run.attributes["imported"][:3]] == [
        "step-0.pt",
        "step-1.pt",
        "step-2.pt",
    ]
    assert "imported from 12 checkpoints (an iteration is the step from one to the next)" in repr(run)


def test_imported_run_is_allocated_within_bounds(tmp_path, problem, checkpoints):
    folder, _ = checkpoints
    files = [folder / f"step-{i}.pt" for i in (0, 11)]
    import_checkpoints(tmp_path / "run.zarr", files, problem())
    config = lca.AllocateConfig(device="cpu", batch_size=20, tolerance=1e-6)
    summary = lca.allocate(tmp_path / "run.zarr", problem(), config)
    assert summary.within_bounds
    assert summary.gradients_per_iteration > 2  # long steps are refined
    loss = lca.open(tmp_path / "run.zarr").allocation("train").loss[:]
    assert summary.allocated == pytest.approx(loss[-1] - loss[0], abs=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"net._orig_mod.{name}": value for name, value in state.items()} | {"other": torch.zeros(2)},
        lambda state: {name: value.to(torch.bfloat16) for name, value in state.items()},
    ],
    ids=["nested", "data-parallel", "compiled", "bfloat16"],
)
def test_nested_prefixed_and_16_bit_checkpoints_are_imported(tmp_path, problem, checkpoints, wrap):
    folder, values = checkpoints
    for i in (0, 1):
        torch.save(wrap(torch.load(folder / f"step-{i}.pt")), tmp_path / f"{i}.pt")
    run = import_checkpoints(tmp_path / "run.zarr", [tmp_path / "0.pt", tmp_path / "1.pt"], problem())
    np.testing.assert_allclose(run.weights[:].T, values[:2], rtol=1e-2)


def test_safetensors_are_imported(tmp_path, problem, checkpoints):
    safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra `safetensors`")
    folder, values = checkpoints
    for i in (0, 1):
        safetensors.save_file(torch.load(folder / f"step-{i}.pt"), tmp_path / f"{i}.safetensors")
    run = import_checkpoints(tmp_path / "run.zarr", [tmp_path / f"{i}.safetensors" for i in (0, 1)], problem())
    np.testing.assert_array_equal(run.weights[:].T, values[:2])


def test_checkpoint_cannot_run_code(tmp_path, problem, checkpoints, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, _ = checkpoints
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "pickled.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "pickled.pt"):
        with pytest.raises(
            LCAError, match=f"{name} (contains objects other than tensors|cannot be read as a checkpoint of tensors)"
        ):
            import_checkpoints(tmp_path / "run.zarr", [tmp_path / name, folder], problem())
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "run.zarr").exists()


def test_checkpoints_that_do_not_match_are_reported(tmp_path, problem, checkpoints):
    folder, _ = checkpoints
    with pytest.raises(
        LCAError, match=r"the shape of 0.weight in .*step-0.pt: expected \(4, 2\), as in the model, found \(8, 2\)"
    ):
        other = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
        import_checkpoints(tmp_path / "run.zarr", [folder], problem(model=other))
    with pytest.raises(LCAError, match=r"lacks 2 of the model's 4 parameters \(first: '0.weight_ih"):
        other = nn.Sequential(nn.RNNCell(2, 8, bias=False), nn.Tanh(), nn.Linear(8, 3))
        import_checkpoints(tmp_path / "run.zarr", [folder], problem(model=other))
    with pytest.raises(UsageError, match="checkpoints: expected at least 2, found 1"):
        import_checkpoints(tmp_path / "run.zarr", [folder / "step-0.pt"], problem())
    with pytest.raises(UsageError, match="step-99.pt does not exist"):
        import_checkpoints(tmp_path / "run.zarr", [folder / "step-99.pt"], problem())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: expected files ending in \.pt, .*, found none"):
        import_checkpoints(tmp_path / "run.zarr", [tmp_path / "empty"], problem())
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(LCAError, match="list.pt: expected a state_dict, found a list"):
        import_checkpoints(tmp_path / "run.zarr", [tmp_path / "list.pt", folder], problem())
    assert not (tmp_path / "run.zarr").exists()


def test_damaged_checkpoint_does_not_replace_an_existing_run(tmp_path, problem, checkpoints):
    folder, values = checkpoints
    import_checkpoints(tmp_path / "run.zarr", [folder], problem())
    for name, content in (("empty.pt", b""), ("cut.pt", (folder / "step-3.pt").read_bytes()[:700])):
        (tmp_path / name).write_bytes(content)
        files = [folder / "step-0.pt", tmp_path / name]
        with pytest.raises(LCAError, match=f"{name} cannot be read as a checkpoint of tensors"):
            import_checkpoints(tmp_path / "run.zarr", files, problem(), overwrite=True)
    np.testing.assert_array_equal(lca.open(tmp_path / "run.zarr").weights[:].T, values)


def test_files_in_unclear_order_raise(tmp_path, problem, checkpoints):
    folder, _ = checkpoints
    torch.save(problem().model.state_dict(), folder / "final.pt")
    with pytest.raises(UsageError, match=r"differ in more than a number \(final.pt, step-#.pt\)"):
        import_checkpoints(tmp_path / "run.zarr", [folder], problem())


def test_damaged_safetensors_and_unusual_keys_are_reported(tmp_path, problem, checkpoints):
    pytest.importorskip("safetensors", reason="needs the extra `safetensors`")
    folder, _ = checkpoints
    (tmp_path / "a.safetensors").write_bytes(b"12345678{")
    torch.save({0: torch.zeros(2)}, tmp_path / "odd.pt")
    for name, message in (
        ("a.safetensors", "cannot be read"),
        ("odd.pt", "It contains no named tensors"),
    ):
        with pytest.raises(LCAError, match=message):
            import_checkpoints(tmp_path / "run.zarr", [folder, tmp_path / name], problem())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x: x + 1j, "a complex tensor"),
        (lambda x: x.to_sparse(), "a sparse tensor"),
        (lambda x: x.to("meta"), r"a tensor without data \(on the meta device\)"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "a quantized tensor"),
        (lambda x: x * float("nan"), "values that are NaN or infinite"),
        (lambda x: x / 0, "values that are NaN or infinite"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_checkpoints_with_unusable_tensors_are_refused(tmp_path, problem, change, found):
    state = problem().model.state_dict()
    name = next(iter(state))
    torch.save(state, tmp_path / "0.pt")
    torch.save({**state, name: change(state[name])}, tmp_path / "1.pt")
    with pytest.raises(LCAError, match=f"{name} in .*1.pt: expected a dense tensor of finite .*, found {found}"):
        lca.import_checkpoints(tmp_path / "run.zarr", [tmp_path / "0.pt", tmp_path / "1.pt"], problem())
    assert not (tmp_path / "run.zarr").exists()
