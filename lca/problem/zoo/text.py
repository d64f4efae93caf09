"""A text that needs no download: the source of Python's standard library, cut into windows of characters.

The source differs between releases of Python. A run stores the SHA-256 digest of the text that it was trained on.
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

CONTEXT = 64  # number of characters that are predicted in a window, each from those before it
N_TRAIN, N_VAL = 2_000, 500  # windows

# Newline, the printable ASCII characters, and one character for all others.
ALPHABET = ["\n", *map(chr, range(32, 127)), "�"]
CODES = {character: code for code, character in enumerate(ALPHABET)}

# The kinds of characters. The index of a kind is its class.
KINDS = ("lower case", "upper case", "digit", "punctuation", "space", "indentation", "newline")


def split_windows(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Split windows of shape (N, CONTEXT + 1) into inputs and next characters, each of shape (N, CONTEXT)."""
    windows = windows.long()
    return windows[:, :-1], windows[:, 1:]


def weigh(batch: Batch) -> Tensor:
    """Return weight 1 for every predicted character, with shape (B, S)."""
    return torch.ones_like(batch[1], dtype=torch.float32)


def groups(batch: Batch) -> Tensor:
    """Return the kind of each predicted character as an index into KINDS, with shape (B, S)."""
    before, here = batch
    kinds = torch.tensor([_classify(character) for character in ALPHABET], device=here.device)
    space, newline = CODES[" "], CODES["\n"]
    # A space is indentation at the beginning of a line and after another space.
    indents = (here == space) & ((before == newline) | (before == space))
    return torch.where(indents, KINDS.index("indentation"), kinds[here])


def compute_character_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of each predicted character in nats, with shape (B, S).

    A batch consists of the characters and the ones that follow them.
    """
    characters, following = batch
    logits = model(characters)
    return nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none").view_as(following)


def find_correct_characters(model: nn.Module, batch: Batch) -> Tensor:
    """Return whether each predicted character is right, with shape (B, S)."""
    characters, following = batch
    outputs: Tensor = model(characters)
    return torch.eq(outputs.argmax(dim=-1), following)


def standard_library(data_dir: Path | None, download: bool) -> Splits:
    """Load windows of uint8 codes, (N, CONTEXT + 1), from the top-level modules of the standard library.

    The windows are drawn without replacement.
    """
    windows = encode(_read_source(Path(sysconfig.get_paths()["stdlib"])))
    n_windows = N_TRAIN + N_VAL
    if len(windows) < n_windows:
        raise LCAError(
            f"the source of the standard library, in windows of {CONTEXT + 1} characters",
            expected=f"at least {n_windows:,} windows",
            found=f"{len(windows):,}",
            remedy="Use a Python that includes its source files.",
        )
    # NumPy guarantees that the stream of RandomState never changes.
    drawn = np.random.RandomState(0).permutation(len(windows))[:n_windows]
    val, train = np.sort(drawn[:N_VAL]), np.sort(drawn[N_VAL:])
    return Splits(torch.from_numpy(windows[train]), torch.from_numpy(windows[val]), None, split_windows)


def encode(text: str) -> NDArray[np.uint8]:
    """Encode text as consecutive windows of codes, (n, CONTEXT + 1). An incomplete last window is dropped."""
    codes = np.array([CODES.get(character, CODES["�"]) for character in text], np.uint8)
    n = len(codes) // (CONTEXT + 1)
    return codes[: n * (CONTEXT + 1)].reshape(n, CONTEXT + 1)


def _read_source(folder: Path) -> str:
    files = sorted(folder.glob("*.py"))
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def _classify(character: str) -> int:
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
    losses=compute_character_losses,
    correct=find_correct_characters,
)
