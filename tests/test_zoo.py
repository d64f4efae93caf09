"""The data sets, from files of their formats made here, and the networks."""

import struct
import sys

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.errors import LCAError, UsageError
from lca.parameters import ParameterTable
from lca.zoo import datasets, networks
from lca.zoo.presets import PRESETS, recipe


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist_folder(tmp_path):
    """5,100 and 20 images; the first pixel tells the index, so that each can be followed through the split."""
    raw = tmp_path / "MNIST" / "raw"
    for part, n in (("train", 5_100), ("t10k", 20)):
        index = np.arange(n)
        images = np.zeros((n, 28, 28))
        images[:, 0, 0], images[:, 0, 1], images[:, 27, 27] = index // 256, index % 256, 255
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", index % 10)
    return tmp_path


def test_digits_are_embedded():
    data = datasets.digits(None, False)
    assert (data.train[0].shape, data.val[0].shape, data.test) == ((1500, 1, 8, 8), (297, 1, 8, 8), None)
    images = data.scale((torch.cat([data.train[0], data.val[0]]),))[0]
    assert (float(images.min()), float(images.max())) == (0, 1)
    assert set((images * 16).unique().tolist()) == set(range(17))
    counts = torch.bincount(torch.cat([data.train[1], data.val[1]]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as the data set's authors give them


def test_mnist_is_split_without_losing_an_example(mnist_folder):
    data = datasets.mnist(mnist_folder, False)
    assert (len(data.train[0]), len(data.val[0]), len(data.test[0])) == (100, 5_000, 20)
    splits = {"train": data.train, "val": data.val, "test": data.test}
    index = {name: x[:, 0, 0, 0].int() * 256 + x[:, 0, 0, 1] for name, (x, _) in splits.items()}
    assert sorted(torch.cat([index["train"], index["val"]]).tolist()) == list(range(5_100))
    assert index["train"].tolist() == sorted(index["train"].tolist())
    assert index["test"].tolist() == list(range(20))
    for name, (x, y) in splits.items():
        assert torch.equal(y, index[name].long() % 10)
        scaled, labels = data.scale((x, y))
        assert torch.equal(scaled[:, 0, 27, 27], torch.ones(len(x)))
        assert labels is y
        assert (x.dtype, scaled.dtype, y.dtype) == (torch.uint8, torch.float32, torch.int64)
        assert x.shape[1:] == (1, 28, 28)


def test_the_split_is_the_same_each_time(mnist_folder):
    first, second = (datasets.mnist(mnist_folder, False) for _ in range(2))
    assert torch.equal(first.val[0], second.val[0])


def test_the_data_folder_may_come_from_the_environment(mnist_folder, monkeypatch):
    monkeypatch.setenv("LCA_DATA", str(mnist_folder))
    assert len(datasets.mnist(None, False).val[0]) == 5_000


def test_cifar_is_read_from_its_binary_version(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    n = 1_100
    for part in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        records = np.zeros((n, 3_073), np.uint8)
        records[:, 0] = np.arange(n) % 10
        records[:, 1:1025], records[:, 1025:2049], records[:, 2049:] = 255, 51, 0
        records[:, 1 + 33] = 0  # second row, second column of red
        records.tofile(folder / f"{part}.bin")
    data = datasets.cifar10(tmp_path, False)
    assert (len(data.train[0]), len(data.val[0]), len(data.test[0])) == (500, 5_000, 1_100)
    image = data.scale(data.train)[0][0]
    assert image.shape == (3, 32, 32)
    assert (image[0, 0, 0], image[0, 1, 1], image[2, 5, 5]) == (1, 0, 0)
    assert float(image[1, 3, 4]) == pytest.approx(0.2)
    (folder / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(LCAError, match=r"data_batch_3.bin has 5 bytes, which are no records"):
        datasets.cifar10(tmp_path, False)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(LCAError, match=r"data_batch_3.bin is missing"):
        datasets.cifar10(tmp_path, False)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_missing_data_say_where_they_were_looked_for(tmp_path, name):
    with pytest.raises(LCAError, match=rf"was not found: looked for {tmp_path}.*--data-dir or LCA_DATA.*--download"):
        getattr(datasets, name)(tmp_path, False)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"<html>", lambda data: b""])
def test_a_damaged_idx_file_is_named(mnist_folder, damage):
    path = mnist_folder / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LCAError, match=r"train-labels-idx1-ubyte \(.* bytes\) is not an IDX file"):
        datasets.mnist(mnist_folder, False)


def test_a_download_goes_through_torchvision(tmp_path, mnist_folder, monkeypatch):
    class FakeMNIST:
        def __init__(self, root, download):
            assert download
            (mnist_folder / "MNIST").rename(root / "MNIST")

    fake = type(sys)("torchvision")
    fake.datasets = type(sys)("torchvision.datasets")
    fake.datasets.MNIST = FakeMNIST
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    target = tmp_path / "elsewhere"
    target.mkdir()
    assert len(datasets.mnist(target, True).val[0]) == 5_000


def test_a_torchvision_that_does_not_work_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(LCAError, match="does not work here beside torch"):
        datasets.mnist(tmp_path, True)


@pytest.mark.parametrize(
    ("problem", "n_parameters"),
    [
        ("digits-fc", 2_778),
        ("mnist-fc", 84_060),
        ("fashion-fc", 84_060),
        ("mnist-lenet", 808_970),
        ("fashion-lenet", 808_970),
    ],
)
def test_parameter_counts(problem, n_parameters):
    model = PRESETS[problem].network()
    assert ParameterTable.of(model).size == n_parameters
    side = 8 if problem.startswith("digits") else 28
    assert model(torch.zeros(2, 1, side, side)).shape == (2, 10)


def test_weights_are_he_normal_and_biases_zero():
    torch.manual_seed(0)
    for model in (networks.fully_connected(784, 100, 50, 10), networks.lenet()):
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                fan_in = module.weight[0].numel()
                spread = float(module.weight.detach().std()) * (fan_in / 2) ** 0.5
                n = module.weight.numel()
                assert spread == pytest.approx(1, abs=4 / (2 * n) ** 0.5)  # four standard errors of a deviation
                assert not module.bias.any()


def test_loading_is_seeded_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = (lca.load("digits-fc", seed=seed) for seed in (0, 0, 1))
    assert torch.rand(1) == expected
    same = [torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(next(a.model.parameters()), next(c.model.parameters()))


def test_an_unknown_problem_lists_the_known():
    with pytest.raises(UsageError, match="unknown problem 'minst-fc'; the known ones are digits-fc, mnist-fc"):
        lca.load("minst-fc")


def test_what_is_given_comes_before_the_recipe():
    assert recipe("mnist-fc", {}) == {"iterations": 880}
    assert recipe("mnist-fc", {"iterations": 5, "seed": 1}) == {"iterations": 5, "seed": 1}
    assert recipe("mnist-fc", {"epochs": 2}) == {"epochs": 2}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((), "train is nothing; a tuple of tensors"),
        ((torch.zeros(3), torch.zeros(4)), "hold 3 and 4 examples"),
        ((torch.zeros(0, 2),), "hold 0 examples"),
        ([torch.zeros(3)], "train is a list; a tuple of tensors"),
    ],
)
def test_data_that_are_no_examples_are_refused(train, message):
    with pytest.raises(UsageError, match=message):
        lca.Problem(nn.Linear(1, 1), train=train)
