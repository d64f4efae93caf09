"""Each recipe records what its loop does without a recorder, bit for bit, and its parts sum to the loss change.

`make integrations` runs those of Lightning and transformers as well, which are skipped where these are not installed.
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

# What these warn of is their own affair, or that a training in a test has no GPU and no workers that load its data.
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
    """A recipe as a module, not run."""
    if name in MARKS:
        needs({"lightning_trainer": "lightning", "huggingface_trainer": "transformers"}[name])
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unrecorded(name):
    """A new model, its data and its training, with the recipe's seed."""
    recipe = load(name)
    if name == "huggingface_trainer":
        model, data = recipe.make_model(), recipe.make_data()
        return model, data, recipe.make_trainer(model, data).train
    made = recipe.make()
    return made[0], made[-1], lambda: recipe.train(*made)


def iterates(model, train):
    """(iterate, parameter): the start, and what every step of any optimizer makes of it."""

    def theta(*_):
        seen.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))

    seen = []
    theta()
    with register_optimizer_step_post_hook(theta):
        train()
    return torch.stack(seen)


def recorded(run):
    return torch.from_numpy(run.weights[:]).T


@pytest.fixture(scope="module", params=NAMES)
def recipe(request, tmp_path_factory):
    """(name, module, run) of a recipe whose main was called."""
    module = load(request.param)
    path = tmp_path_factory.mktemp(request.param) / "run.zarr"
    module.main(path)
    return request.param, module, lca.open(path)


def test_the_iterates_are_those_of_the_loop_without_a_recorder(recipe):
    name, _, run = recipe
    model, _, train = unrecorded(name)
    assert (run.status, run.n_iterations) == ("complete", N_ITERATIONS[name])
    moved = torch.from_numpy(run.training["moved"][:] == 1)
    found = recorded(run)
    assert torch.equal(found[1:][~moved], found[:-1][~moved])
    assert torch.equal(torch.cat([found[:1], found[1:][moved]]), iterates(model, train))
    assert (run.n_unmoved > 0) == (name == "amp")


def test_the_parts_sum_to_the_loss_change(recipe):
    name, module, run = recipe
    summary = summarize(run.allocation("train"))
    assert summary.within_bounds
    assert summary.change < -0.1
    model, data, _ = unrecorded(name)
    batch = next(iter(torch.utils.data.DataLoader(data, len(data))))
    model.cpu().eval()

    def loss(theta):
        nn.utils.vector_to_parameters(theta, model.parameters())
        return module.losses(model, batch).mean().item()

    with torch.no_grad():
        first, last = (loss(theta) for theta in recorded(run)[[0, -1]])
    assert summary.allocated == pytest.approx(last - first, abs=0.01 * abs(last - first))
    assert lca.analysis.layers(run).total.sum() == pytest.approx(summary.allocated, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_it_says(name, tmp_path):
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


def fit(recipe, path, *, checkpoint=None, **options):
    """A training of the recipe's module by a trainer with other options, for 15 batches an epoch."""
    module, data = recipe.make()
    trainer = recipe.L.Trainer(callbacks=[recipe.Record(path)], **recipe.QUIET, **options)
    trainer.fit(module, torch.utils.data.DataLoader(data, 16), ckpt_path=checkpoint)
    return trainer, lca.open(path)


@lightning
def test_lightning_counts_the_steps_that_are_recorded(tmp_path):
    recipe = load("lightning_trainer")
    for accumulate, n in ((1, 15), (4, 4), (20, 1)):
        trainer, run = fit(recipe, tmp_path / "run.zarr", max_epochs=3, accumulate_grad_batches=accumulate)
        assert run.n_iterates == trainer.global_step + 1 == 3 * n + 1


@lightning
def test_lightning_counts_the_steps_that_its_scaler_skips(tmp_path):
    recipe = load("lightning_trainer")
    from lightning.pytorch.plugins import MixedPrecision

    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**24))
    trainer, run = fit(recipe, tmp_path / "run.zarr", max_epochs=3, accelerator="cpu", plugins=[precision])
    assert run.n_iterates == trainer.global_step + 1
    assert 0 < run.n_unmoved < run.n_iterations


@lightning
@pytest.mark.parametrize(("raised", "left_with"), [(RuntimeError, RuntimeError), (KeyboardInterrupt, SystemExit)])
def test_an_exception_in_lightning_leaves_the_run_unfinished(tmp_path, raised, left_with):
    recipe = load("lightning_trainer")

    class Stop(recipe.L.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 5:
                raise raised

    handler = signal.getsignal(signal.SIGINT)  # which Lightning does not give back
    try:
        with pytest.raises(left_with):
            recipe.train(*recipe.make(), recipe.Record(tmp_path / "run.zarr"), Stop())
    finally:
        signal.signal(signal.SIGINT, handler)
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates) == ("training", 6)


@lightning
def test_an_exception_before_lightning_trains_is_not_hidden(tmp_path):
    recipe = load("lightning_trainer")

    class Stop(recipe.L.Callback):
        def on_fit_start(self, *_):
            raise RuntimeError("before")

    with pytest.raises(RuntimeError, match="before"):
        recipe.train(*recipe.make(), recipe.Record(tmp_path / "run.zarr"), Stop())
    assert not (tmp_path / "run.zarr").exists()


@lightning
def test_lightning_begins_with_the_weights_of_a_checkpoint(tmp_path):
    """So that θ_0 is not what the module was made with."""
    recipe = load("lightning_trainer")
    module, data = recipe.make()
    recipe.train(module, data).save_checkpoint(tmp_path / "model.ckpt")
    last = nn.utils.parameters_to_vector(module.parameters()).detach()
    _, run = fit(recipe, tmp_path / "run.zarr", max_epochs=11, checkpoint=tmp_path / "model.ckpt")
    assert torch.equal(recorded(run)[0], last)
    assert run.n_iterations == 15


@transformers
def test_tied_embeddings_are_counted_once(tmp_path):
    recipe = load("huggingface_trainer")
    model = recipe.make_model()
    assert model.lm_head.weight is model.transformer.wte.weight
    with lca.Recorder(tmp_path / "run.zarr", model):
        pass
    table = lca.open(tmp_path / "run.zarr").parameters
    assert "transformer.wte.weight" in [parameter.name for parameter in table]
    assert "lm_head.weight" not in [parameter.name for parameter in table]


@transformers
def test_the_mean_of_the_losses_is_the_loss_of_transformers():
    recipe = load("huggingface_trainer")
    model, batch = recipe.make_model().eval(), next(iter(torch.utils.data.DataLoader(recipe.make_data(), 240)))
    with torch.no_grad():
        torch.testing.assert_close(recipe.losses(model, batch).mean(), model(**batch).loss)


@transformers
def test_a_model_trained_by_transformers_in_bf16_stays_in_bf16(tmp_path):
    """Which is why the recipe allocates with a model of its own."""
    recipe = load("huggingface_trainer")
    from transformers import Trainer, TrainingArguments

    model, data = recipe.make_model(), recipe.make_data()
    quiet = {"output_dir": tmp_path, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    arguments = TrainingArguments(bf16=True, use_cpu=True, num_train_epochs=2, learning_rate=0.01, **quiet)
    trainer = Trainer(model, arguments, train_dataset=data)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(trainer.create_optimizer(), trainer.accelerator.scaler)
        trainer.train()
    fresh = recipe.make_model()
    fresh.load_state_dict(model.state_dict())
    tokens = data[0]["input_ids"][None]
    with torch.no_grad():
        apart = (model.eval()(tokens).logits - fresh.eval()(tokens).logits).abs().max()
    assert apart > 1e-4
    assert lca.allocate(
        tmp_path / "run.zarr", lca.Problem(recipe.make_model(), recipe.losses, train=data)
    ).within_bounds


@transformers
def test_an_exception_in_transformers_leaves_the_run_unfinished(tmp_path):
    recipe = load("huggingface_trainer")
    import transformers

    class Stop(transformers.TrainerCallback):
        def on_step_end(self, arguments, state, control, **_):
            if state.global_step == 5:
                raise KeyboardInterrupt

    model = recipe.make_model()
    trainer = recipe.make_trainer(model, recipe.make_data())
    trainer.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt), lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        recorder.attach(trainer.create_optimizer())
        trainer.train()
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates) == ("training", 6)


def test_a_loop_of_accelerate_attaches_what_prepare_gives(tmp_path):
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
        seen = iterates(model, train)
    assert len(seen) == 5
    assert torch.equal(recorded(lca.open(tmp_path / "run.zarr")), seen)


def test_a_step_that_the_scaler_of_accelerate_skips(tmp_path):
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
