"""Importing checkpoints: a trajectory from state_dicts in files, one iterate each.

The steps between checkpoints are long, so that it is coarse: the allocation refines them, and its certificate tells how
far that went. What happened between two checkpoints is taken as a straight line.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from lca.errors import LCAError, UsageError
from lca.model.parameters import get_fixed_tensors, get_trainable
from lca.problem.problem import Problem
from lca.problem.provenance import describe_splits
from lca.recording.recorder import Recorder
from lca.store.run import Run, open_run

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints of training loops keep the model's


def import_checkpoints(
    path: Path | str,
    files: Sequence[Path],
    problem: Problem,
    *,
    codec: str = "zstd",
    overwrite: bool = False,
    command: str | None = None,
) -> Run:
    """Make a run store of checkpoints, in this order; a folder stands for those in it, in the order of their numbers.

    problem: whose model they are of. Files are read with `weights_only`, so that none of them can run code; a tensor
    that the model does not train is not looked at.
    """
    parameters = get_trainable(problem.model)
    checkpoints = [file for place in files for file in _in_order(place)]
    if len(checkpoints) < 2:
        raise UsageError("checkpoints", expected="two or more, for a trajectory", found=str(len(checkpoints)))
    _require_rising(checkpoints)
    attributes = {
        "problem": problem.name,
        "problem_options": dict(problem.options),
        "imported": [str(file) for file in checkpoints],
        "splits": describe_splits(problem),
        **({"command": command} if command else {}),
    }
    for file in [*checkpoints, checkpoints[0]]:  # all are looked at before anything is made, or replaced
        _set(parameters, _read(file), file)
    _require_same_fixed(problem.model, checkpoints)
    with Recorder(path, problem.model, codec=codec, attributes=attributes, overwrite=overwrite) as recorder:
        for file in checkpoints[1:]:
            _set(parameters, _read(file), file)
            recorder.record()
    return open_run(path)


def _in_order(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UsageError(f"{place} does not exist", remedy="Name checkpoints, or a folder that holds them.")
    found = [file for file in place.iterdir() if file.suffix in SUFFIXES and file.is_file()]
    if not found:
        raise UsageError(str(place), expected=f"files ending in {', '.join(SUFFIXES)}", found="none")
    kinds = sorted({"#".join(_parts(file.name)[::2]) for file in found})
    if len(kinds) > 1:
        raise UsageError(
            f"the names of the files in {place} differ in more than their numbers ({', '.join(kinds[:4])}), so their "
            "order is not known",
            remedy="Pass the files themselves, in order.",
        )
    return sorted(found, key=lambda file: [int(number) for number in _parts(file.name)[1::2]])


def _require_rising(files: Sequence[Path]) -> None:
    """Raise where files that differ by their numbers alone are in another order, such as that of a shell's glob."""
    numbers = [[int(number) for number in _parts(str(file))[1::2]] for file in files]
    alike = len({"#".join(_parts(str(file))[::2]) for file in files}) == 1
    if alike and numbers != sorted(numbers):
        raise UsageError(
            f"{files[0]}, {files[1]}, … are not in the order of their numbers; a shell's * does not sort them that way",
            remedy="Pass their folder, or sort them: $(ls -v …).",
        )


def _parts(name: str) -> list[str]:
    """ "step-10.pt" -> ["step-", "10", ".pt"], numbers always in odd places, so that they compare with numbers."""
    return re.split(r"(\d+)", name)


def _read(file: Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint, by name."""
    if file.suffix == ".safetensors" and find_spec("safetensors") is None:
        raise UsageError(
            f"reading {file} needs a package that is not installed",
            remedy="Install it with: pip install 'loss-change-allocation[safetensors]'",
        )
    try:
        loaded: Any = _load(file)
    except UnpicklingError as error:
        raise LCAError(
            f"{file} holds more than tensors, which might run code, so it is not read",
            remedy="Save model.state_dict() itself, without objects of other kinds.",
        ) from error
    except Exception as error:  # damaged files raise many kinds
        why = str(error).partition("\n")[0] or type(error).__name__
        raise LCAError(f"{file} cannot be read as a checkpoint of tensors ({why}).") from error
    for name in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping):
        raise LCAError(str(file), expected="a state_dict", found=f"a {type(loaded).__name__}")
    return {name: tensor for name, tensor in loaded.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def _load(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


@torch.no_grad()
def _set(parameters: Mapping[str, Tensor], found: Mapping[str, Tensor], file: Path) -> None:
    """Set the model's parameters to those of a checkpoint, whose names may have the prefix of a wrapper."""
    prefix = _prefix(parameters, found)
    missing = [name for name in parameters if prefix + name not in found]
    if missing:
        raise LCAError(
            f"{file} lacks {len(missing)} of the model's {len(parameters)} parameters, the first of them "
            f"{missing[0]!r}; it has {', '.join(list(found)[:5])}, …",
            remedy="Pass the problem whose model it is of.",
        )
    for name, tensor in parameters.items():
        value = found[prefix + name]
        if value.shape != tensor.shape:
            raise LCAError(
                f"the shape of {name} in {file}",
                expected=f"the model's {tuple(tensor.shape)}",
                found=str(tuple(value.shape)),
            )
        tensor.copy_(value)


def _require_same_fixed(model: nn.Module, files: Sequence[Path]) -> None:
    """Raise where what is not recorded, and L depends on, is in the checkpoints, and is not the model's.

    What the training itself has changed, such as a counter, no model can have for all of them; it is let be.
    """
    first, last = _read(files[0]), _read(files[-1])
    prefix = _prefix(get_trainable(model), first)
    for name, tensor in get_fixed_tensors(model).items():
        value, later = first.get(prefix + name), last.get(prefix + name)
        if value is None or later is None or not torch.equal(value, later):
            continue
        if value.shape != tensor.shape or not torch.equal(value, tensor.to(value)):
            raise LCAError(
                f"{files[0]} has other values of {name} than the problem's model. It is not trained, so a run does "
                "not hold it, and the loss would not be the same",
                remedy="Let the problem's function load it, such as from this file.",
            )


def _prefix(parameters: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What stands before the names in a checkpoint, such as "module."."""
    first = next(iter(parameters))
    prefixes = (name.removesuffix(first) for name in found if name == first or name.endswith(f".{first}"))
    return next((p for p in prefixes if all(p + name in found for name in parameters)), "")
