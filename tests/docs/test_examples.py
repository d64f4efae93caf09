"""Each example records exactly the iterates of its loop without a recorder, and its LCA sums to the loss change.

The examples of Lightning and transformers are skipped where these packages are missing. `make integrations` runs them.
"""

import importlib.util
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import lca
from lca.store.summary import summarize

ROOT = Path(__file__).parents[2]

# Warnings about internals of these packages, and about tests without a GPU and without data-loading workers.
LIGHTNING = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated"),
    pytest.mark.filterwarnings("ignore:The '?train_dataloader'? does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]
TRANSFORMERS = [pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")]

N_ITERATIONS = {
    "plain_loop": 5 * 8,
    "accumulation": 10 * 16 // 4,
    "amp": 8 * 8,
    "lightning_trainer": 10 * 4,
    "huggingface_trainer": 5 * 8,
}
MARKS = {"lightning_trainer": LIGHTNING, "huggingface_trainer": TRANSFORMERS}
NAMES = [pytest.param(name, marks=MARKS.get(name, [])) for name in N_ITERATIONS]


def needs(package):
    return pytest.importorskip(package, reason=f"{package} is not installed; `make integrations` runs this with it")


def load(name):
    """Import an example as a module, without running it."""
    if name in MARKS:
        needs({"lightning_trainer": "lightning", "huggingface_trainer": "transformers"}[name])
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare_unrecorded(name):
    """Return a new model, its data and its training function, with the random seed of the example."""
    example = load(name)
    if name == "huggingface_trainer":
        model, data = example.make_model(), example.make_data()
        return model, data, example.make_trainer(model, data).train
    made = example.make()
    return made[0], made[-1], lambda: example.train(*made)


def collect_iterates(model, train):
    """Train, and return the initial parameters and those after every step of any optimizer, (iterate, parameter)."""

    def theta(*_):
        seen.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))

    seen = []
    theta()
    with register_optimizer_step_post_hook(theta):
        train()
    return torch.stack(seen)


def read_iterates(run):
    return torch.from_numpy(run.weights[:]).T


@pytest.fixture(scope="module", params=NAMES)
def example(request, tmp_path_factory):
    """Run the main function of an example. Return its name, its module and its run."""
    module = load(request.param)
    path = tmp_path_factory.mktemp(request.param) / "run.zarr"
    module.main(path)
    return request.param, module, lca.open(path)


def test_recording_does_not_change_the_iterates(example):
    name, _, run = example
    model, _, train = prepare_unrecorded(name)
    assert (run.status, run.n_iterations) == ("complete", N_ITERATIONS[name])
    moved = torch.from_numpy(run.training["moved"][:] == 1)
    found = read_iterates(run)
    assert torch.equal(found[1:][~moved], found[:-1][~moved])
    assert torch.equal(torch.cat([found[:1], found[1:][moved]]), collect_iterates(model, train))
    assert (run.n_unmoved > 0) == (name == "amp")


def test_lca_sums_to_the_loss_change(example):
    name, module, run = example
    summary = summarize(run.allocation("train"))
    assert summary.within_bounds
    assert summary.change < -0.1
    model, data, _ = prepare_unrecorded(name)
    batch = next(iter(torch.utils.data.DataLoader(data, len(data))))
    model.cpu().eval()

    def loss(theta):
        nn.utils.vector_to_parameters(theta, model.parameters())
        return module.losses(model, batch).mean().item()

    with torch.no_grad():
        first, last = (loss(theta) for theta in read_iterates(run)[[0, -1]])
    assert summary.allocated == pytest.approx(last - first, abs=0.01 * abs(last - first))
    assert lca.analysis.layers(run).total.sum() == pytest.approx(summary.allocated, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_example_runs_with_the_documented_command(name, tmp_path):
    module = load(name)
    environment, script = re.search(r"^    (\S+)/bin/python (\S+)$", module.__doc__, re.M).groups()
    assert environment == (".venv-integrations" if name in MARKS else ".venv")
    done = subprocess.run(
        [sys.executable, ROOT / script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sum +-\d\.\d{4} nats, and the loss changed by -\d\.\d{4}$", done.stdout, re.M)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.zarr"]
    assert lca.open(tmp_path / f"{name}.zarr").n_iterations == N_ITERATIONS[name]


def lightning(test):
    for mark in LIGHTNING:
        test = mark(test)
    return test


def transformers(test):
    for mark in TRANSFORMERS:
        test = mark(test)
    return test


def fit(example, path, *, checkpoint=None, **options):
    """Train the module of the example with other options, in 15 mini-batches per epoch, and return trainer and run."""
    module, data = example.make()
    trainer = example.L.Trainer(callbacks=[example.Record(path)], **example.QUIET, **options)
    trainer.fit(module, torch.utils.data.DataLoader(data, 16), ckpt_path=checkpoint)
    return trainer, lca.open(path)


@lightning
def test_lightning_counts_the_recorded_steps(tmp_path):
    example = load("lightning_trainer")
    for accumulate, n in ((1, 15), (4, 4), (20, 1)):
        trainer, run = fit(example, tmp_path / "run.zarr", max_epochs=3, accumulate_grad_batches=accumulate)
        assert run.n_iterates == trainer.global_step + 1 == 3 * n + 1


@lightning
def test_lightning_counts_steps_skipped_by_its_scaler(tmp_path):
    example = load("lightning_trainer")
    from lightning.pytorch.plugins import MixedPrecision

    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**24))
    trainer, run = fit(example, tmp_path / "run.zarr", max_epochs=3, accelerator="cpu", plugins=[precision])
    assert run.n_iterates == trainer.global_step + 1
    assert 0 < run.n_unmoved < run.n_iterations


@lightning
@pytest.mark.parametrize(("raised", "left_with"), [(RuntimeError, RuntimeError), (KeyboardInterrupt, SystemExit)])
def test_exception_in_lightning_leaves_the_run_unfinished(tmp_path, raised, left_with):
    example = load("lightning_trainer")

    class Stop(example.L.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 5:
                raise raised

    handler = signal.getsignal(signal.SIGINT)  # Lightning does not restore it
    try:
        with pytest.raises(left_with):
            example.train(*example.make(), example.Record(tmp_path / "run.zarr"), Stop())
    finally:
        signal.signal(signal.SIGINT, handler)
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates) == ("training", 6)


@lightning
def test_exception_before_training_in_lightning_is_raised(tmp_path):
    example = load("lightning_trainer")

    class Stop(example.L.Callback):
        def on_fit_start(self, *_):
            raise RuntimeError("before")

    with pytest.raises(RuntimeError, match="before"):
        example.train(*example.make(), example.Record(tmp_path / "run.zarr"), Stop())
    assert not (tmp_path / "run.zarr").exists()


@lightning
def test_recording_in_lightning_starts_from_a_loaded_checkpoint(tmp_path):
    """θ_0 is not the initial state of the module."""
    example = load("lightning_trainer")
    module, data = example.make()
    example.train(module, data).save_checkpoint(tmp_path / "model.ckpt")
    last = nn.utils.parameters_to_vector(module.parameters()).detach()
    _, run = fit(example, tmp_path / "run.zarr", max_epochs=11, checkpoint=tmp_path / "model.ckpt")
    assert torch.equal(read_iterates(run)[0], last)
    assert run.n_iterations == 15


@transformers
def test_tied_embeddings_are_recorded_once(tmp_path):
    example = load("huggingface_trainer")
    model = example.make_model()
    assert model.lm_head.weight is model.transformer.wte.weight
    with lca.Recorder(tmp_path / "run.zarr", model):
        pass
    table = lca.open(tmp_path / "run.zarr").parameters
    assert "transformer.wte.weight" in [parameter.name for parameter in table]
    assert "lm_head.weight" not in [parameter.name for parameter in table]


@transformers
def test_mean_of_the_losses_is_the_loss_of_transformers():
    example = load("huggingface_trainer")
    model, batch = example.make_model().eval(), next(iter(torch.utils.data.DataLoader(example.make_data(), 240)))
    with torch.no_grad():
        torch.testing.assert_close(example.losses(model, batch).mean(), model(**batch).loss)


@transformers
def test_model_trained_by_transformers_in_bf16_stays_in_bf16(tmp_path):
    """The example therefore allocates with a new model."""
    example = load("huggingface_trainer")
    from transformers import Trainer, TrainingArguments

    model, data = example.make_model(), example.make_data()
    quiet = {"output_dir": tmp_path, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    arguments = TrainingArguments(bf16=True, use_cpu=True, num_train_epochs=2, learning_rate=0.01, **quiet)
    trainer = Trainer(model, arguments, train_dataset=data)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(trainer.create_optimizer(), trainer.accelerator.scaler)
        trainer.train()
    fresh = example.make_model()
    fresh.load_state_dict(model.state_dict())
    tokens = data[0]["input_ids"][None]
    with torch.no_grad():
        difference = (model.eval()(tokens).logits - fresh.eval()(tokens).logits).abs().max()
    assert difference > 1e-4
    assert lca.allocate(
        tmp_path / "run.zarr", lca.Problem(example.make_model(), example.losses, train=data)
    ).within_bounds


@transformers
def test_exception_in_transformers_leaves_the_run_unfinished(tmp_path):
    example = load("huggingface_trainer")
    import transformers

    class Stop(transformers.TrainerCallback):
        def on_step_end(self, arguments, state, control, **_):
            if state.global_step == 5:
                raise KeyboardInterrupt

    model = example.make_model()
    trainer = example.make_trainer(model, example.make_data())
    trainer.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt), lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(trainer.create_optimizer())
        trainer.train()
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates) == ("training", 6)


def test_optimizer_prepared_by_accelerate_is_recorded(tmp_path):
    accelerator = needs("accelerate").Accelerator(cpu=True, gradient_accumulation_steps=3)
    model = nn.Linear(2, 1)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(model, inner)

    def train():
        for _ in range(12):
            with accelerator.accumulate(model):
                accelerator.backward(model(torch.ones(4, 2)).square().mean())
                optimizer.step()
                optimizer.zero_grad()

    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(optimizer)
        seen = collect_iterates(model, train)
    assert len(seen) == 5
    assert torch.equal(read_iterates(lca.open(tmp_path / "run.zarr")), seen)


def test_step_skipped_by_the_scaler_of_accelerate_is_recorded(tmp_path):
    needs("accelerate").Accelerator(cpu=True)
    from accelerate.optimizer import AcceleratedOptimizer

    model = nn.Linear(2, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = AcceleratedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), scaler=scaler)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(optimizer, scaler)
        for t in range(6):
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(1, 2)).sum() * (float("inf") if t in (2, 3) else 1.0)).backward()
            optimizer.step()
    assert lca.open(tmp_path / "run.zarr").training["moved"][:].tolist() == [1, 1, 0, 0, 1, 1]
