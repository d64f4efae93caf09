import errno
import os
import threading

import numpy as np
import pytest
import torch
from torch import nn
from zarr.storage import LocalStore

import lca
from lca.errors import LCAError, UsageError
from lca.model.parameters import flatten
from lca.recording.block_writer import N_BUFFERS, BlockWriter
from lca.store.verify import verify

NAN = np.nan


def train(model, n, prepare):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    prepare(optimizer)
    for _ in range(n):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("n", [0, 1, 62, 63, 64, 65, 150])
def test_iterates_are_recorded_bit_for_bit(tmp_path, n):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    seen = [flatten(model)]
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:

        def prepare(optimizer):
            recorder.attach(optimizer)
            optimizer.register_step_post_hook(lambda *_: seen.append(flatten(model)))

        train(model, n, prepare)
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates, run.n_iterations) == ("complete", n + 1, n)
    assert torch.equal(torch.from_numpy(run.weights[:]).T, torch.stack(seen))


def test_scalars_belong_to_the_iteration_before_the_iterate(tmp_path):
    model = nn.Linear(2, 1)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(130):
            recorder.record(loss=torch.tensor(float(t)), temperature=2.0 * t)
    training = lca.open(tmp_path / "run.zarr").training
    assert training["loss"][:].tolist() == list(range(130))
    assert training["temperature"][:].tolist() == [2 * t for t in range(130)]


def test_exception_leaves_readable_iterates_and_an_unfinished_run(tmp_path):
    model = nn.Linear(2, 1)
    with pytest.raises(KeyboardInterrupt), lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for _ in range(70):
            recorder.record(loss=0.0)
        raise KeyboardInterrupt
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates) == ("training", 71)
    assert torch.equal(torch.from_numpy(run.weights[:, 70]), flatten(model))


def test_attaching_an_optimizer_twice_raises(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(optimizer)
        with pytest.raises(UsageError, match="already attached"):
            recorder.attach(optimizer)


def record(path, model, n=3, **options):
    with lca.Recorder(path, model, **options) as recorder:
        for _ in range(n):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.5
            recorder.record()
    return lca.open(path)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.body = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.body(self.embed(x)))


def names(run):
    return [parameter.name for parameter in run.parameters]


def test_tied_parameters_are_recorded_once_and_frozen_ones_never(tmp_path):
    model = Net()
    model.body.bias.requires_grad_(False)
    run = record(tmp_path / "run.zarr", model)
    assert names(run) == ["embed.weight", "body.weight"]
    assert run.weights.shape == (15 + 9, 4)


def test_parameter_unfrozen_during_recording_raises(tmp_path):
    model = Net()
    model.body.bias.requires_grad_(False)
    with (
        pytest.raises(LCAError, match=r"body.bias was frozen when recording began and now requires a gradient"),
        lca.Recorder(tmp_path / "run.zarr", model) as recorder,
    ):
        recorder.record()
        model.body.bias.requires_grad_(True)
    assert lca.open(tmp_path / "run.zarr").status == "training"


def test_only_matching_parameters_are_recorded(tmp_path):
    run = record(tmp_path / "run.zarr", Net(), parameters=r"^body\.")
    assert names(run) == ["body.weight", "body.bias"]
    with pytest.raises(UsageError, match="no trainable parameter matches 'bdoy'. The parameters are embed.weight"):
        lca.Recorder(tmp_path / "other.zarr", Net(), parameters="bdoy")


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    ],
)
def test_wrappers_do_not_change_the_names(tmp_path, wrap):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model.add_module("module", nn.Linear(3, 1))  # a name chosen by the user is kept
    run, wrapped = (record(tmp_path / f"{i}.zarr", net) for i, net in enumerate((model, wrap(model))))
    assert names(wrapped) == names(run) == ["0.weight", "0.bias", "1.weight", "1.bias", "module.weight", "module.bias"]
    assert wrapped.parameters == run.parameters


def test_compiled_submodule_does_not_change_the_names(tmp_path):
    model = nn.Sequential(torch.compile(nn.Linear(2, 3), backend="eager"), nn.Linear(3, 1))
    assert names(record(tmp_path / "run.zarr", model)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_distributed_data_parallel_records_on_rank_0(tmp_path, monkeypatch):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
        assert names(record(tmp_path / "run.zarr", model)) == ["weight", "bias"]
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
        with lca.Recorder(tmp_path / "other.zarr", model) as recorder:
            recorder.attach(torch.optim.SGD(model.parameters(), lr=1.0))
            recorder.record(loss=1.0)
        assert not (tmp_path / "other.zarr").exists()
    finally:
        torch.distributed.destroy_process_group()


def test_sharded_parameters_raise(tmp_path):
    class DTensor(nn.Parameter):
        __module__ = "torch.distributed.tensor"

    model = nn.Linear(2, 1, bias=False)
    model.weight = DTensor(torch.zeros(1, 2))
    with pytest.raises(LCAError, match="weight is sharded across processes"):
        lca.Recorder(tmp_path / "run.zarr", model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_parameters_are_recorded_exactly(tmp_path, dtype):
    model = nn.Linear(30, 7).to(dtype)
    run = record(tmp_path / "run.zarr", model, n=0)
    assert torch.equal(torch.from_numpy(run.weights[:, 0]).to(dtype), flatten(model))


def test_step_with_a_closure_gives_one_iterate(tmp_path):
    model, x = nn.Linear(3, 1), torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)

    def closure():
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        return loss

    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(optimizer)
        for _ in range(4):
            optimizer.step(closure)
    assert lca.open(tmp_path / "run.zarr").n_iterations == 4


def test_parameter_groups_are_recorded_in_the_order_of_the_model(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    groups = [{"params": model[1].parameters(), "lr": 0.5}, {"params": model[0].parameters(), "lr": 0.1}]
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        optimizer = torch.optim.SGD(groups)
        recorder.attach(optimizer)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert torch.equal(torch.from_numpy(lca.open(tmp_path / "run.zarr").weights[:, 1]), flatten(model))


def test_step_skipped_by_a_scaler_is_an_iteration_without_motion(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(optimizer, scaler)
        for t in range(6):
            optimizer.zero_grad()
            loss = model(torch.ones(1, 2)).sum() * (float("inf") if t in (2, 3) else 1.0)
            recorder.log(t=t)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    run = lca.open(tmp_path / "run.zarr")
    assert run.n_iterations == 6
    assert run.training["moved"][:].tolist() == [1, 1, 0, 0, 1, 1]
    assert run.training["t"][:].tolist() == list(range(6))
    assert run.n_unmoved == 2


def test_optimizer_wrapped_by_accelerate_is_attached(tmp_path):
    class AcceleratedOptimizer(torch.optim.Optimizer):  # tests/docs/test_examples.py tests the original class
        __module__ = "accelerate.optimizer"

        def __init__(self, optimizer):
            self.optimizer = optimizer

    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(AcceleratedOptimizer(optimizer))
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    run = lca.open(tmp_path / "run.zarr")
    assert run.training["learning_rate"][:].tolist() == [0.1]
    assert torch.equal(torch.from_numpy(run.weights[:, 1]), flatten(model))


def test_scalar_is_nan_in_iterations_that_do_not_log_it(tmp_path):
    with lca.Recorder(tmp_path / "run.zarr", nn.Linear(2, 1)) as recorder:
        for t in range(5):
            if t % 2:
                recorder.log(accuracy=t)
            recorder.record()
    np.testing.assert_array_equal(lca.open(tmp_path / "run.zarr").training["accuracy"][:], [NAN, 1, NAN, 3, NAN])


def test_scalar_keeps_the_value_at_the_time_of_logging(tmp_path):
    loss = torch.tensor(1.0)
    with lca.Recorder(tmp_path / "run.zarr", nn.Linear(2, 1)) as recorder:
        recorder.record(loss=loss)
        loss += 1
        recorder.record(loss=loss)
    assert lca.open(tmp_path / "run.zarr").training["loss"][:].tolist() == [1, 2]


def test_motion_is_detected_across_blocks_and_commits(tmp_path, monkeypatch):
    monkeypatch.setattr("lca.recording.recorder.COMMIT_S", 0)
    monkeypatch.setattr("lca.recording.recorder.COMMIT_SHARE", float("inf"))
    model = nn.Linear(2, 1)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(200):
            with torch.no_grad():
                model.bias += t not in (62, 63, 64, 150)
            recorder.record(t=t)
    run = lca.open(tmp_path / "run.zarr")
    assert np.flatnonzero(run.training["moved"][:] == 0).tolist() == [62, 63, 64, 150]
    assert run.training["t"][:].tolist() == list(range(200))


def test_blocked_writer_does_not_increase_memory(tmp_path, monkeypatch):
    """While the writer is blocked, training waits as soon as all buffers are full."""
    gate = threading.Event()
    write = BlockWriter._write
    monkeypatch.setattr(BlockWriter, "_write", lambda *arguments: gate.wait() and write(*arguments))
    model, recorded = nn.Linear(2, 1), []

    def train():
        with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
            for t in range(1000):
                recorder.record()
                recorded.append(t)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join(timeout=1.0)
    assert thread.is_alive()
    assert len(recorded) < 64 * N_BUFFERS
    gate.set()
    thread.join()
    assert lca.open(tmp_path / "run.zarr").n_iterations == 1000


def test_full_disk_stops_training_and_leaves_an_intact_run(tmp_path, problem, monkeypatch):
    config = lca.TrainConfig(batch_size=20, iterations=400, device="cpu")
    lca.train(problem(), tmp_path / "whole.zarr", config)
    monkeypatch.setattr("lca.recording.recorder.COMMIT_S", 0)
    monkeypatch.setattr("lca.recording.recorder.COMMIT_SHARE", float("inf"))
    put = LocalStore.set

    async def full(self, key, value):
        if key.startswith("weights/c/0/4"):
            raise OSError(errno.ENOSPC, "No space left on device")
        await put(self, key, value)

    with monkeypatch.context() as context:
        context.setattr(LocalStore, "set", full)
        with pytest.raises(LCAError, match=r"the disk is full\. .* is intact and holds 256 iterates"):
            lca.train(problem(), tmp_path / "run.zarr", config)
    assert lca.open(tmp_path / "run.zarr").n_iterates == 256
    assert not verify(tmp_path / "run.zarr").findings
    lca.train(problem(), tmp_path / "run.zarr", config, resume=True)
    whole, run = (lca.open(tmp_path / name) for name in ("whole.zarr", "run.zarr"))
    assert np.array_equal(whole.weights[:], run.weights[:])


def test_second_writer_raises_and_stale_lock_is_ignored(tmp_path):
    path = tmp_path / "run.zarr"
    with (
        lca.Recorder(path, nn.Linear(2, 1)),
        pytest.raises(LCAError, match=rf"is being written by process {os.getpid()} on .*Wait until it is done"),
        lca.Recorder(path, nn.Linear(2, 1), overwrite=True),
    ):
        pass
    (path / "weights" / "lock").write_text('{"process": 1, "host": "gone"}')  # left by a killed process
    record(path, nn.Linear(2, 1), overwrite=True)


@pytest.mark.cuda
def test_cuda_iterates_are_recorded_bit_for_bit(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).cuda()
    seen = [flatten(model)]
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        recorder.attach(optimizer)
        for _ in range(150):
            optimizer.zero_grad()
            model(torch.ones(5, 3, device="cuda")).square().mean().backward()
            optimizer.step()
            seen.append(flatten(model))
    assert torch.equal(torch.from_numpy(lca.open(tmp_path / "run.zarr").weights[:]).T, torch.stack(seen).cpu())


def test_nothing_is_recorded_after_exit(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    update = scaler.update
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(optimizer, scaler)
    model(torch.ones(1, 2)).sum().backward()
    for _ in range(200):
        optimizer.step()
    assert scaler.update == update
    assert lca.open(tmp_path / "run.zarr").n_iterations == 0
    with pytest.raises(LCAError, match="is not active. Use it inside its `with` block"):
        recorder.record()


def test_parameter_replaced_during_recording_raises(tmp_path):
    model = nn.Linear(2, 1)
    with (
        pytest.raises(LCAError, match="weight was replaced after recording began"),
        lca.Recorder(tmp_path / "run.zarr", model) as recorder,
    ):
        model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
        recorder.record()
