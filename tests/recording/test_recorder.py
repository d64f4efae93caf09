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


def train(model, n, after):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    after(optimizer)
    for _ in range(n):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("n", [0, 1, 62, 63, 64, 65, 150])
def test_every_iterate_of_any_loop_bit_for_bit(tmp_path, n):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    seen = [flatten(model)]
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:

        def after(optimizer):
            recorder.attach(optimizer)
            optimizer.register_step_post_hook(lambda *_: seen.append(flatten(model)))

        train(model, n, after)
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates, run.n_iterations) == ("complete", n + 1, n)
    assert torch.equal(torch.from_numpy(run.weights[:]).T, torch.stack(seen))


def test_scalars_go_to_the_iteration_that_led_to_the_iterate(tmp_path):
    model = nn.Linear(2, 1)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(130):
            recorder.record(loss=torch.tensor(float(t)), temperature=2.0 * t)
    training = lca.open(tmp_path / "run.zarr").training
    assert training["loss"][:].tolist() == list(range(130))
    assert training["temperature"][:].tolist() == [2 * t for t in range(130)]


def test_an_exception_leaves_the_iterates_readable_and_the_run_unfinished(tmp_path):
    model = nn.Linear(2, 1)
    with pytest.raises(KeyboardInterrupt), lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for _ in range(70):
            recorder.record(loss=0.0)
        raise KeyboardInterrupt
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates) == ("training", 71)
    assert torch.equal(torch.from_numpy(run.weights[:, 70]), flatten(model))


def test_an_optimizer_is_attached_once(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(optimizer)
        with pytest.raises(UsageError, match="attached already"):
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


def test_tied_parameters_are_stored_once_and_frozen_ones_not_at_all(tmp_path):
    model = Net()
    model.body.bias.requires_grad_(False)
    run = record(tmp_path / "run.zarr", model)
    assert names(run) == ["embed.weight", "body.weight"]
    assert run.weights.shape == (15 + 9, 4)


def test_a_parameter_thawed_on_the_way_is_an_error(tmp_path):
    model = Net()
    model.body.bias.requires_grad_(False)
    with (
        pytest.raises(LCAError, match=r"body.bias did not require a gradient when recording began, and does now"),
        lca.Recorder(tmp_path / "run.zarr", model) as recorder,
    ):
        recorder.record()
        model.body.bias.requires_grad_(True)
    assert lca.open(tmp_path / "run.zarr").status == "training"


def test_only_the_parameters_that_match(tmp_path):
    run = record(tmp_path / "run.zarr", Net(), parameters=r"^body\.")
    assert names(run) == ["body.weight", "body.bias"]
    with pytest.raises(UsageError, match="no trainable parameter has a match for 'bdoy'; there are embed.weight"):
        lca.Recorder(tmp_path / "other.zarr", Net(), parameters="bdoy")


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    ],
)
def test_wrappers_leave_no_trace_in_the_names(tmp_path, wrap):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model.add_module("module", nn.Linear(3, 1))  # the user's own name, which stays
    run, wrapped = (record(tmp_path / f"{i}.zarr", net) for i, net in enumerate((model, wrap(model))))
    assert names(wrapped) == names(run) == ["0.weight", "0.bias", "1.weight", "1.bias", "module.weight", "module.bias"]
    assert wrapped.parameters == run.parameters


def test_a_compiled_submodule(tmp_path):
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


def test_sharded_parameters_are_refused(tmp_path):
    class DTensor(nn.Parameter):
        __module__ = "torch.distributed.tensor"

    model = nn.Linear(2, 1, bias=False)
    model.weight = DTensor(torch.zeros(1, 2))
    with pytest.raises(LCAError, match="weight is sharded over processes"):
        lca.Recorder(tmp_path / "run.zarr", model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_held_exactly(tmp_path, dtype):
    model = nn.Linear(30, 7).to(dtype)
    run = record(tmp_path / "run.zarr", model, n=0)
    assert torch.equal(torch.from_numpy(run.weights[:, 0]).to(dtype), flatten(model))


def test_a_closure_gives_one_iterate_a_step(tmp_path):
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


def test_several_parameter_groups_in_the_order_of_the_model(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    groups = [{"params": model[1].parameters(), "lr": 0.5}, {"params": model[0].parameters(), "lr": 0.1}]
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        optimizer = torch.optim.SGD(groups)
        recorder.attach(optimizer)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert torch.equal(torch.from_numpy(lca.open(tmp_path / "run.zarr").weights[:, 1]), flatten(model))


def test_a_step_that_a_scaler_skips_is_an_iteration_without_motion(tmp_path):
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


def test_an_optimizer_wrapped_by_accelerate(tmp_path):
    class AcceleratedOptimizer(torch.optim.Optimizer):  # the real one is in test_recipes
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


def test_a_scalar_logged_now_and_then_is_nan_in_between(tmp_path):
    with lca.Recorder(tmp_path / "run.zarr", nn.Linear(2, 1)) as recorder:
        for t in range(5):
            if t % 2:
                recorder.log(accuracy=t)
            recorder.record()
    np.testing.assert_array_equal(lca.open(tmp_path / "run.zarr").training["accuracy"][:], [NAN, 1, NAN, 3, NAN])


def test_a_scalar_keeps_its_value_at_the_time_of_logging(tmp_path):
    loss = torch.tensor(1.0)
    with lca.Recorder(tmp_path / "run.zarr", nn.Linear(2, 1)) as recorder:
        recorder.record(loss=loss)
        loss += 1
        recorder.record(loss=loss)
    assert lca.open(tmp_path / "run.zarr").training["loss"][:].tolist() == [1, 2]


def test_motion_across_blocks_and_commits(tmp_path, monkeypatch):
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


def test_memory_is_a_few_blocks_whatever_the_disk_does(tmp_path, monkeypatch):
    """With a writer that cannot go on, the training is held up once all buffers are full."""
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


def test_a_full_disk_stops_the_training_and_the_store_is_sound(tmp_path, problem, monkeypatch):
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
        with pytest.raises(LCAError, match=r"the disk is full: .* holds 256 iterates and is sound"):
            lca.train(problem(), tmp_path / "run.zarr", config)
    assert lca.open(tmp_path / "run.zarr").n_iterates == 256
    assert not verify(tmp_path / "run.zarr").findings
    lca.train(problem(), tmp_path / "run.zarr", config, resume=True)
    whole, run = (lca.open(tmp_path / name) for name in ("whole.zarr", "run.zarr"))
    assert np.array_equal(whole.weights[:], run.weights[:])


def test_a_second_writer_is_refused_and_a_stale_lock_is_not_in_the_way(tmp_path):
    path = tmp_path / "run.zarr"
    with (
        lca.Recorder(path, nn.Linear(2, 1)),
        pytest.raises(LCAError, match=rf"is being written by process {os.getpid()} on .*Wait until it is done"),
        lca.Recorder(path, nn.Linear(2, 1), overwrite=True),
    ):
        pass
    (path / "weights" / "lock").write_text('{"process": 1, "host": "gone"}')  # as a killed process leaves it
    record(path, nn.Linear(2, 1), overwrite=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_iterates_bit_for_bit(tmp_path):
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


def test_nothing_is_recorded_after_the_recorder_is_left(tmp_path):
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
    with pytest.raises(LCAError, match="use the recorder inside its `with`"):
        recorder.record()


def test_a_parameter_that_is_replaced_on_the_way_is_an_error(tmp_path):
    model = nn.Linear(2, 1)
    with (
        pytest.raises(LCAError, match="weight is a different tensor than when recording began"),
        lca.Recorder(tmp_path / "run.zarr", model) as recorder,
    ):
        model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
        recorder.record()
