"""Text that is on every machine: the source of Python's standard library, cut into windows of characters.

It differs from one release of Python to the next; a run store keeps the SHA-256 of what it was trained on.
"""

import sysconfig
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lca.errors import LCAError
from lca.problem.batches import Batch
from lca.problem.zoo.datasets import DataSet, Splits

CONTEXT = 64  # characters that are predicted in a window, each from those before it
N_TRAIN, N_VAL = 2_000, 500  # windows

# Newline, what is printed of ASCII, and one for all others.
ALPHABET = ["\n", *map(chr, range(32, 127)), "�"]
CODES = {character: code for code, character in enumerate(ALPHABET)}

# What a character is, by the number that is its class.
KINDS = ("lower case", "upper case", "digit", "punctuation", "space", "indentation", "newline")


def split_windows(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Windows (N, CONTEXT + 1) -> characters (N, CONTEXT), and those that follow each of them."""
    windows = windows.long()
    return windows[:, :-1], windows[:, 1:]


def weigh(batch: Batch) -> Tensor:
    """Every character counts as much as any other."""
    return torch.ones_like(batch[1], dtype=torch.float32)


def groups(batch: Batch) -> Tensor:
    """The kind (B, S) of each character that is predicted, as a number in KINDS."""
    before, here = batch
    kinds = torch.tensor([_kind(character) for character in ALPHABET], device=here.device)
    space, newline = CODES[" "], CODES["\n"]
    # A space at the beginning of a line, and every space after another one.
    indents = (here == space) & ((before == newline) | (before == space))
    return torch.where(indents, KINDS.index("indentation"), kinds[here])


def by_character(model: nn.Module, batch: Batch) -> Tensor:
    """(characters, those that follow), each (B, S) -> the cross-entropy (B, S) of each, in nats."""
    characters, following = batch
    logits = model(characters)
    return nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none").view_as(following)


def right_by_character(model: nn.Module, batch: Batch) -> Tensor:
    """(B, S): whether the largest output is that of the character that follows."""
    characters, following = batch
    outputs: Tensor = model(characters)
    return torch.eq(outputs.argmax(dim=-1), following)


def standard_library(data_dir: Path | None, download: bool) -> Splits:
    """Windows (N, CONTEXT + 1) uint8 of the modules at the top of the standard library, drawn without replacement."""
    windows = encode(_source(Path(sysconfig.get_paths()["stdlib"])))
    n_windows = N_TRAIN + N_VAL
    if len(windows) < n_windows:
        raise LCAError(
            f"the .py files at the top of this Python's standard library, in windows of {CONTEXT + 1} characters",
            expected=f"at least {n_windows:,} windows",
            found=f"{len(windows):,}",
            remedy="Use a Python that comes with its source.",
        )
    # RandomState, because numpy keeps its stream the same for good.
    drawn = np.random.RandomState(0).permutation(len(windows))[:n_windows]
    val, train = np.sort(drawn[:N_VAL]), np.sort(drawn[N_VAL:])
    return Splits(torch.from_numpy(windows[train]), torch.from_numpy(windows[val]), None, split_windows)


def encode(text: str) -> NDArray[np.uint8]:
    """text -> its windows (n, CONTEXT + 1), one after the other; what is left at the end is dropped."""
    codes = np.array([CODES.get(character, CODES["�"]) for character in text], np.uint8)
    n = len(codes) // (CONTEXT + 1)
    return codes[: n * (CONTEXT + 1)].reshape(n, CONTEXT + 1)


def _source(folder: Path) -> str:
    files = sorted(folder.glob("*.py"))
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def _kind(character: str) -> int:
    if character in ("\n", " "):
        return KINDS.index("newline" if character == "\n" else "space")
    if character.isdigit():
        return KINDS.index("digit")
    if character.isalpha():
        return KINDS.index("lower case" if character.islower() else "upper case")
    return KINDS.index("punctuation")


STANDARD_LIBRARY = DataSet(
    "Python's source",
    standard_library,
    N_TRAIN,
    N_VAL,
    0,
    shapes=((CONTEXT,), (CONTEXT,)),
    dtypes=(torch.int64, torch.int64),
    groups=groups,
    group_names=dict(enumerate(KINDS)),
    weigh=weigh,
    losses=by_character,
    correct=right_by_character,
)
