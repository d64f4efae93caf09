"""The image datasets, split into train, val and test as in the paper [arXiv 1909.01440, S7]."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lca.errors import Argument, LCAError, UsageError
from lca.problem.batches import Batch
from lca.problem.losses import Losses, cross_entropy, top_1
from lca.text import pluralize

Bytes = NDArray[np.uint8]
Examples = tuple[Tensor, Tensor]  # images (N, channel, height, width) uint8, labels (N,) int64


@dataclass(frozen=True)
class Splits:
    """The examples of each split as they are stored, and the function that scales a batch, as in `lca.Problem`."""

    train: Batch
    val: Batch
    test: Batch | None
    scale: Callable[[Batch], Batch]


@dataclass(frozen=True)
class DataSet:
    """A dataset: the function load(data_dir, download) that reads it, and what is known before it is read.

    `n_train`, `n_val` and `n_test` count the examples of each split. `shapes` and `dtypes` are those of the input and
    the target of one scaled example. The other fields have the same meaning as in `lca.Problem`.
    """

    name: str
    load: Callable[[Path | None, bool], Splits]
    n_train: int
    n_val: int
    n_test: int
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[torch.dtype, torch.dtype] = (torch.float32, torch.int64)
    groups: Callable[[Batch], Tensor] = lambda batch: batch[1]
    group_names: Mapping[int, str] | None = None
    weigh: Callable[[Batch], Tensor] | None = None
    losses: Losses = cross_entropy
    correct: Losses = top_1

    def empty(self, n: int) -> Batch:
        """Return a scaled batch of n examples, filled with zeros."""
        return tuple(torch.zeros(n, *shape, dtype=d) for shape, d in zip(self.shapes, self.dtypes, strict=True))


def digits(data_dir: Path | None, download: bool) -> Splits:
    """Load the UCI digits: 1,797 images of 8×8 pixels with 16 levels of gray, in 10 classes. The package includes them.

    E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine Learning Repository,
    doi 10.24432/C50P49, CC BY 4.0. The images are the 1,797 that scikit-learn includes.
    """
    with np.load(str(files("lca.problem.zoo") / "digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"][:, None], file["labels"]
    return _split(images, labels, n_val=297, levels=16)


def mnist(data_dir: Path | None, download: bool) -> Splits:
    """Load MNIST: 60,000 images for training and 10,000 for testing, 28×28 pixels, 10 classes [LeCun et al. 1998]."""
    return _load_idx("MNIST", data_dir, download)


def fashion_mnist(data_dir: Path | None, download: bool) -> Splits:
    """Load Fashion-MNIST, which has the sizes of MNIST and 10 classes of clothing [arXiv 1708.07747]."""
    return _load_idx("FashionMNIST", data_dir, download)


def cifar10(data_dir: Path | None, download: bool) -> Splits:
    """Load CIFAR-10: 50,000 training and 10,000 test images of 32×32 pixels in color, 10 classes [Krizhevsky 2009].

    The images are read from the official binary version, or from the folder that torchvision writes.
    """
    root = _find_data_dir(data_dir)
    binary = root / "cifar-10-batches-bin"
    if binary.is_dir():
        train = np.concatenate([_read_cifar(binary / f"data_batch_{i}.bin") for i in range(1, 6)])
        test = _read_cifar(binary / "test_batch.bin")
        return _split(*_separate_labels(train), n_val=5_000, test=_separate_labels(test))
    test_file = root / "cifar-10-batches-py" / "test_batch"
    if not test_file.exists() and not download:
        raise _make_missing_error("CIFAR-10", f"{binary} and {test_file.parent}")
    dataset = _import_torchvision("CIFAR-10").CIFAR10

    def examples(train: bool) -> tuple[Bytes, Bytes]:
        part = dataset(root, train=train, download=download)
        return part.data.transpose(0, 3, 1, 2), np.array(part.targets, np.uint8)

    return _split(*examples(True), n_val=5_000, test=examples(False))


def _load_idx(name: str, data_dir: Path | None, download: bool) -> Splits:
    root = _find_data_dir(data_dir)
    raw = root / name / "raw"
    paths = [raw / f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    if not all(path.exists() for path in paths):
        if not download:
            raise _make_missing_error(name, ", ".join(str(path) for path in paths if not path.exists()))
        getattr(_import_torchvision(name), name)(root, download=True)
    images, labels, test_images, test_labels = map(_read_idx, paths, (3, 1, 3, 1))
    for path, of_split, found in ((paths[1], images, labels), (paths[3], test_images, test_labels)):
        if len(of_split) != len(found):
            raise LCAError(
                str(path),
                expected=f"{len(of_split):,} labels, one for each image",
                found=f"{len(found):,}",
                remedy=("Remove it and pass ", Argument("download", True), "."),
            )
    return _split(images[:, None], labels, n_val=5_000, test=(test_images[:, None], test_labels))


def _read_idx(path: Path, n_dims: int) -> Bytes:
    """Read a file in the IDX format that must have `n_dims` dimensions.

    The file consists of the bytes 0, 0, 8 (for unsigned bytes), the number of dimensions as one byte, the size of each
    dimension as a big-endian int32, and the values.
    """
    data = path.read_bytes()
    is_idx = data[:4] == bytes((0, 0, 8, n_dims)) and len(data) >= 4 + 4 * n_dims
    shape = np.frombuffer(data, ">u4", n_dims, offset=4) if is_idx else np.zeros(0, int)
    if not is_idx or len(data) - 4 - 4 * n_dims != prod(map(int, shape)):
        dimensions = pluralize(n_dims, "dimension")
        raise LCAError(
            f"{path} ({len(data):,} bytes) is not a valid IDX file of unsigned bytes with {dimensions}",
            remedy=("Remove it and pass ", Argument("download", True), "."),
        )
    return np.frombuffer(data, np.uint8, offset=4 + 4 * n_dims).reshape(shape)


def _read_cifar(path: Path) -> Bytes:
    """Read records with shape (N, 1 + 3072): the label, then the red, green and blue planes."""
    if not path.exists():
        raise LCAError(
            f"{path} is missing",
            remedy="Download the official binary version again. It consists of data_batch_1.bin to data_batch_5.bin "
            "and test_batch.bin.",
        )
    data = np.fromfile(path, np.uint8)
    if data.size == 0 or data.size % 3_073:
        raise LCAError(
            str(path), expected="records of 3,073 bytes", found=f"{data.size:,} bytes", remedy="Download it again."
        )
    return data.reshape(-1, 3_073)


def _separate_labels(records: Bytes) -> tuple[Bytes, Bytes]:
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def _split(
    images: Bytes, labels: Bytes, *, n_val: int, levels: int = 255, test: tuple[Bytes, Bytes] | None = None
) -> Splits:
    """Draw n_val examples without replacement for validation. The others, in their original order, are for training."""
    # NumPy guarantees that the stream of RandomState never changes, so the split is the same on every machine.
    order = np.random.RandomState(0).permutation(len(images))
    val, train = np.sort(order[:n_val]), np.sort(order[n_val:])

    def examples(images: Bytes, labels: Bytes) -> Examples:
        return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))

    return Splits(
        train=examples(images[train], labels[train]),
        val=examples(images[val], labels[val]),
        test=examples(*test) if test else None,
        scale=partial(_scale, levels),
    )


def _scale(levels: int, batch: Examples) -> Examples:
    """Convert the images to float32 between 0 and 1. `levels` is the value of a white pixel."""
    images, labels = batch
    return images.float().div_(levels), labels


def _find_data_dir(data_dir: Path | None) -> Path:
    if data_dir is None:
        data_dir = Path(os.environ.get("LCA_DATA") or Path.home() / ".cache" / "lca")
    try:
        return data_dir.expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"the data folder is {data_dir}, but this user's home directory is unknown",
            remedy=("Set the environment variable LCA_DATA or ", Argument("data_dir"), " to a full path."),
        ) from error


def _make_missing_error(name: str, places: str) -> LCAError:
    return LCAError(
        f"{name} was not found (looked for {places})",
        remedy=(
            "Set the folder that contains it with ",
            Argument("data_dir"),
            " or the environment variable LCA_DATA, or download it with ",
            Argument("download", True),
            ".",
        ),
    )


def _import_torchvision(name: str) -> Any:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError if it was built for a different torch
        raise LCAError(
            f"reading {name} requires torchvision, which is missing or does not work with the installed torch "
            f"{torch.__version__} ({error})",
            remedy="Install the torchvision that matches this torch (the extra `datasets` includes it), or "
            "download the data yourself.",
        ) from error
    return datasets


DIGITS = DataSet("UCI digits", digits, 1_500, 297, 0, ((1, 8, 8), ()))
MNIST = DataSet("MNIST", mnist, 55_000, 5_000, 10_000, ((1, 28, 28), ()))
FASHION_MNIST = DataSet("Fashion-MNIST", fashion_mnist, 55_000, 5_000, 10_000, ((1, 28, 28), ()))
CIFAR10 = DataSet("CIFAR-10", cifar10, 45_000, 5_000, 10_000, ((3, 32, 32), ()))
