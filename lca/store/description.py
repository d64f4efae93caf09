"""Text about the origin, the problem and the training of a run, from its attributes."""

from collections.abc import Mapping
from typing import Any

from lca.text import pluralize


def describe_origin(attributes: Mapping[str, Any]) -> str:
    """Describe the origin of a run that was not recorded by `lca.train`."""
    imported = attributes.get("imported")
    if imported:
        return f"imported from {pluralize(len(imported), 'checkpoint')} (an iteration is the step from one to the next)"
    return "recorded from a custom training loop"


def describe_options(options: Mapping[str, Any]) -> str:
    """Return the options as " (layers 4, width 1.0)", or an empty string if there are none."""
    return f" ({', '.join(f'{name} {value}' for name, value in options.items())})" if options else ""


def describe_training(train: Mapping[str, Any]) -> str:
    """Describe the training options in use. Return an empty string if there are none."""
    always = ("optimizer", "learning_rate", "momentum", "batch_size", "seed", "device")
    if_used = ("nesterov", "l2", "weight_decay", "freeze", "layers")
    words = [f"{name.replace('_', ' ')} {train[name]}" for name in always if train.get(name) is not None]
    for name in if_used:
        value = train.get(name)
        if value is True:
            words.append(name)
        elif isinstance(value, list):
            words += [f"{name.removesuffix('s')} {text}" for text in value]
        elif value:
            words.append(f"{name.replace('_', ' ')} {value}")
    if train.get("schedule") == "step":
        epochs = ", ".join(f"{epoch:g}" for epoch in train.get("milestones", []))
        words.append(f"learning rate multiplied by {train.get('gamma')} at epochs {epochs}")
    elif train.get("schedule") == "cosine":
        words.append("cosine schedule")
    return ", ".join(words)
