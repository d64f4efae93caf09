"""Import of checkpoints: files with state_dicts become the iterates of a run.

The steps between checkpoints are long, and each is treated as a straight line. The allocation refines them, and its
certificate reports the error that remains.
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
from lca.problem.losses import describe_value
from lca.problem.problem import Problem
from lca.problem.provenance import describe_problem
from lca.recording.recorder import Recorder
from lca.store.run import Run, open_run

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
NESTED = ("state_dict", "model_state_dict", "model")  # keys under which training loops store the model's state_dict


def import_checkpoints(
    path: Path | str,
    files: Sequence[Path],
    problem: Problem,
    *,
    codec: str = "zstd",
    overwrite: bool = False,
    command: str | None = None,
) -> Run:
    """Create a run from checkpoints.

    Files are read with ``weights_only=True``, so they cannot run code. Tensors that the model lacks are ignored.

    Args:
        path: Path or URL of the run to create.
        files: Checkpoints in order, one per iterate. A folder stands for its checkpoints, sorted by the numbers in
            their names.
        problem: Problem whose model was saved.
        codec: Lossless compression of the iterates: ``"zstd"``, ``"lz4"`` (fastest) or ``"pcodec"`` (smallest).
        overwrite: Whether to replace an existing run.
        command: Command line to store with the run.

    Returns:
        The run.

    Raises:
        UsageError: If there are fewer than two checkpoints, or if their order is unclear.
        LCAError: If a file cannot be read or does not match the model.

    Example:
        >>> run = lca.import_checkpoints("run.zarr", [Path("checkpoints")], problem)
    """
    parameters = get_trainable(problem.model)
    checkpoints = [file for place in files for file in _list_files(place)]
    if len(checkpoints) < 2:
        raise UsageError("checkpoints", expected="at least 2", found=str(len(checkpoints)))
    _require_numeric_order(checkpoints)
    attributes = {
        **describe_problem(problem),
        "imported": [str(file) for file in checkpoints],
        **({"command": command} if command else {}),
    }
    # Try all files before creating or replacing anything. End with the first, which the recorder takes as θ_0.
    for file in [*checkpoints, checkpoints[0]]:
        _load_parameters(parameters, _read_tensors(file), file)
    _require_same_fixed(problem.model, checkpoints)
    with Recorder(
        path, problem.model, problem=problem, codec=codec, attributes=attributes, overwrite=overwrite
    ) as recorder:
        for file in checkpoints[1:]:
            _load_parameters(parameters, _read_tensors(file), file)
            recorder.record()
    return open_run(path)


def _list_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UsageError(f"{place} does not exist", remedy="Pass checkpoints, or a folder that contains them.")
    found = [file for file in place.iterdir() if file.suffix in SUFFIXES and file.is_file()]
    if not found:
        raise UsageError(str(place), expected=f"files ending in {', '.join(SUFFIXES)}", found="none")
    kinds = sorted({"#".join(_split_at_numbers(file.name)[::2]) for file in found})
    if len(kinds) > 1:
        raise UsageError(
            f"the order of the files in {place} is unclear, because their names differ in more than a number "
            f"({', '.join(kinds[:4])})",
            remedy="Pass the files in order, instead of the folder.",
        )
    return sorted(found, key=lambda file: [int(number) for number in _split_at_numbers(file.name)[1::2]])


def _require_numeric_order(files: Sequence[Path]) -> None:
    """Raise UsageError if files that differ only in their numbers are not in numeric order."""
    numbers = [[int(number) for number in _split_at_numbers(str(file))[1::2]] for file in files]
    alike = len({"#".join(_split_at_numbers(str(file))[::2]) for file in files}) == 1
    if alike and numbers != sorted(numbers):
        raise UsageError(
            f"{files[0]}, {files[1]}, … are not in numeric order (the shell's * sorts alphabetically)",
            remedy="Pass their folder, or sort them with $(ls -v …).",
        )


def _split_at_numbers(name: str) -> list[str]:
    """Split a name into text and numbers, as in ["step-", "10", ".pt"]. The numbers are at the odd indices."""
    return re.split(r"(\d+)", name)


def _read_tensors(file: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a checkpoint by name."""
    if file.suffix == ".safetensors" and find_spec("safetensors") is None:
        raise UsageError(
            f"reading {file} requires the package safetensors, which is not installed",
            remedy="Install it with: pip install 'loss-change-allocation[safetensors]'",
        )
    try:
        loaded: Any = _load(file)
    except UnpicklingError as error:
        raise LCAError(
            f"{file} contains objects other than tensors. Loading them could run code, so the file was not read",
            remedy="Save only model.state_dict().",
        ) from error
    except Exception as error:  # damaged files raise many types of exceptions
        why = str(error).partition("\n")[0] or type(error).__name__
        raise LCAError(
            f"{file} cannot be read as a checkpoint of tensors ({why})", remedy="Save it again, or leave it out."
        ) from error
    for name in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping):
        raise LCAError(
            str(file), expected="a state_dict", found=describe_value(loaded), remedy="Save only model.state_dict()."
        )
    return {name: tensor for name, tensor in loaded.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def _load(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


@torch.no_grad()
def _load_parameters(parameters: Mapping[str, Tensor], found: Mapping[str, Tensor], file: Path) -> None:
    """Set the model's parameters to those of a checkpoint.

    All names in the checkpoint may share a prefix, such as one that a model wrapper adds.
    """
    prefix = _find_prefix(parameters, found)
    missing = [name for name in parameters if prefix + name not in found]
    if missing:
        contents = ", ".join([*list(found)[:5], *(["…"] if len(found) > 5 else [])]) or "no named tensors"
        raise LCAError(
            f"{file} lacks {len(missing)} of the model's {len(parameters)} parameters (first: {missing[0]!r}). "
            f"It contains {contents}",
            remedy="Pass the problem whose model was saved.",
        )
    for name, tensor in parameters.items():
        value = found[prefix + name]
        if value.shape != tensor.shape:
            raise LCAError(
                f"the shape of {name} in {file}",
                expected=f"{tuple(tensor.shape)}, as in the model",
                found=str(tuple(value.shape)),
                remedy="Pass the problem whose model was saved.",
            )
        if kind := _describe_unusable(value):
            raise LCAError(
                f"{name} in {file}",
                expected="a dense tensor of finite real numbers",
                found=kind,
                remedy="Save it again as such a tensor, or leave the checkpoint out.",
            )
        tensor.copy_(value)


def _describe_unusable(value: Tensor) -> str:
    """Return a phrase that says why a tensor cannot become a parameter, or an empty string if it can."""
    for kind, is_so in (
        ("a complex tensor", value.is_complex()),
        ("a sparse tensor", value.layout != torch.strided),
        ("a tensor without data (on the meta device)", value.is_meta),
        ("a quantized tensor", value.is_quantized),
    ):
        if is_so:
            return kind
    return "" if bool(torch.isfinite(value).all()) else "values that are NaN or infinite"


def _require_same_fixed(model: nn.Module, files: Sequence[Path]) -> None:
    """Raise LCAError if the checkpoints and the model have different values of a tensor that runs do not store.

    Tensors that changed during training, such as counters, are ignored, because no model could match all checkpoints.
    """
    first, last = _read_tensors(files[0]), _read_tensors(files[-1])
    prefix = _find_prefix(get_trainable(model), first)
    for name, tensor in get_fixed_tensors(model).items():
        value, later = first.get(prefix + name), last.get(prefix + name)
        if value is None or later is None or not torch.equal(value, later):
            continue
        if value.shape != tensor.shape or not torch.equal(value, tensor.to(value)):
            raise LCAError(
                f"{name} differs between {files[0]} and the problem's model. It is not trained, so runs do not store "
                "it, and the allocation would use a different loss",
                remedy=f"Load {name} when the problem is created, for example from {files[0]}.",
            )


def _find_prefix(parameters: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return the prefix of the parameter names in a checkpoint, such as "module.", or an empty string."""
    first = next(iter(parameters))
    prefixes = (name.removesuffix(first) for name in found if name == first or name.endswith(f".{first}"))
    return next((p for p in prefixes if all(p + name in found for name in parameters)), "")
