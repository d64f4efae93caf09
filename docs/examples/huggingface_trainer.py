"""Hugging Face Trainer: record the training of a tiny GPT-2 that is created here. Nothing is downloaded.

    .venv-integrations/bin/python docs/examples/huggingface_trainer.py

Writes huggingface_trainer.zarr and prints the LCA of each layer. A layer with a value below zero helped. There are
trainer.state.global_step + 1 iterates, even with gradient accumulation. Tied embeddings are recorded once.
Three things matter:

- Start recording after the Trainer has been created, because it moves the model to its device.
- Allocate with a new model. With bf16 or fp16, a model that was trained keeps computing in 16 bits.
- train(resume_from_checkpoint=…) loads weights after θ_0 has been recorded, so the first iteration would include the
  jump to these weights. Load them into the model before recording.
"""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import StackDataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import lca


def make_model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    size = {"vocab_size": 32, "n_positions": 12, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0))  # with the default dropout


def make_data() -> StackDataset:
    """Return sequences that count up in steps of 1 to 3. The Trainer and lca both accept dicts as examples."""
    generator = torch.Generator().manual_seed(0)
    start, step = torch.randint(32, (240, 1), generator=generator), torch.randint(1, 4, (240, 1), generator=generator)
    tokens = (start + step * torch.arange(12)) % 32
    return StackDataset(input_ids=tokens, labels=tokens)


def losses(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the cross-entropy of the next token, averaged over each example. All examples have the same length."""
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    return nn.functional.cross_entropy(logits.mT, batch["labels"][:, 1:], reduction="none").mean(dim=1)


def make_trainer(model: GPT2LMHeadModel, data: StackDataset) -> Trainer:
    size = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2}  # 15 batches: 8 steps per epoch
    quiet = {"output_dir": ".", "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    arguments = TrainingArguments(num_train_epochs=5, learning_rate=0.01, **size, **quiet)
    return Trainer(model, arguments, train_dataset=data)


def main(path: Path | str = "huggingface_trainer.zarr") -> None:
    model, data = make_model(), make_data()
    trainer = make_trainer(model, data)
    with lca.Recorder(path, model, overwrite=True) as recorder:  # overwrite the run of an earlier call
        recorder.attach(trainer.create_optimizer(), trainer.accelerator.scaler)  # None without fp16
        trainer.train()

    summary = lca.allocate(path, lca.Problem(make_model(), losses, train=data))
    layers = lca.analysis.layers(lca.open(path))
    for layer, total in zip(layers.layers, layers.total, strict=True):
        print(f"{layer:28} {total:8.4f} nats")
    print(f"{'sum':28} {summary.allocated:8.4f} nats, and the loss changed by {summary.change:.4f}")


if __name__ == "__main__":
    main()
