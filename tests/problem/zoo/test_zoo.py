"""The image datasets, read from small files in the original formats, and the networks."""

import struct
import sys

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.errors import LCAError, UsageError
from lca.model.parameters import build_table
from lca.problem.zoo import datasets, networks
from lca.problem.zoo.catalog import describe
from lca.problem.zoo.presets import PRESETS, recipe

PARAMETERS = {
    "digits-fc": 2_778,
    "digits-resnet": 19_882,
    "mnist-fc": 84_060,
    "mnist-lenet": 808_970,
    "mnist-resnet": 272_778,  # 2 · 16 · 9 fewer than with color images
    "fashion-fc": 84_060,
    "fashion-lenet": 808_970,
    "fashion-resnet": 272_778,
    "cifar-fc": 3_072 * 455 + 455 + 455 * 67 + 67 + 67 * 10 + 10,
    "cifar-resnet": 273_066,
    "cifar-allcnn": 1_371_658,
    "cifar-vgg": 1_918_666,
    "cifar-vgg-mini": 2_473_610,
}


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist_folder(tmp_path):
    """Write 5,100 and 20 images in the format of MNIST and return the folder.

    The first two pixels of an image encode its index, so that it can be identified after the split.
    """
    raw = tmp_path / "MNIST" / "raw"
    for part, n in (("train", 5_100), ("t10k", 20)):
        index = np.arange(n)
        images = np.zeros((n, 28, 28))
        images[:, 0, 0], images[:, 0, 1], images[:, 27, 27] = index // 256, index % 256, 255
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", index % 10)
    return tmp_path


def test_digits_are_part_of_the_package():
    data = datasets.digits(None, False)
    assert (data.train[0].shape, data.val[0].shape, data.test) == ((1500, 1, 8, 8), (297, 1, 8, 8), None)
    images = data.scale((torch.cat([data.train[0], data.val[0]]), None))[0]
    assert (float(images.min()), float(images.max())) == (0, 1)
    assert set((images * 16).unique().tolist()) == set(range(17))
    counts = torch.bincount(torch.cat([data.train[1], data.val[1]]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as documented by the authors


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


def test_split_is_reproducible(mnist_folder):
    first, second = (datasets.mnist(mnist_folder, False) for _ in range(2))
    assert torch.equal(first.val[0], second.val[0])


def test_data_folder_can_be_set_in_the_environment(mnist_folder, monkeypatch):
    monkeypatch.setenv("LCA_DATA", str(mnist_folder))
    assert len(datasets.mnist(None, False).val[0]) == 5_000


def test_cifar_is_read_from_the_binary_version(tmp_path):
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
    with pytest.raises(
        LCAError, match=r"data_batch_3.bin: expected records of 3,073 bytes, found 5 bytes. Download it again"
    ):
        datasets.cifar10(tmp_path, False)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(LCAError, match=r"data_batch_3.bin is missing"):
        datasets.cifar10(tmp_path, False)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_missing_data_are_reported_with_their_expected_place(tmp_path, name):
    remedy = ".* with data_dir or .* LCA_DATA, or download it with download=True"
    with pytest.raises(LCAError, match=rf"was not found \(looked for {tmp_path}{remedy}"):
        getattr(datasets, name)(tmp_path, False)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"<html>", lambda data: b""])
def test_damaged_idx_file_is_reported(mnist_folder, damage):
    path = mnist_folder / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        LCAError,
        match=r"labels-idx1-ubyte \(.* bytes\) is not a valid IDX file of .* Remove it and pass download=True",
    ):
        datasets.mnist(mnist_folder, False)


@pytest.mark.parametrize(
    ("part", "shape", "message"),
    [
        ("train-images-idx3", (5_100,), "is not a valid IDX file of unsigned bytes with 3 dimensions"),
        ("train-labels-idx1", (5_100, 1), "is not a valid IDX file of unsigned bytes with 1 dimension"),
        ("train-labels-idx1", (5_099,), "expected 5,100 labels, one for each image, found 5,099"),
        ("t10k-labels-idx1", (21,), "expected 20 labels, one for each image, found 21"),
    ],
)
def test_idx_files_of_another_shape_are_reported(mnist_folder, part, shape, message):
    write_idx(mnist_folder / "MNIST" / "raw" / f"{part}-ubyte", np.zeros(shape))
    with pytest.raises(LCAError, match=message):
        datasets.mnist(mnist_folder, False)


def test_an_unknown_home_directory_is_reported(monkeypatch):
    monkeypatch.setenv("LCA_DATA", "~no-such-user/data")
    with pytest.raises(LCAError, match="is ~no-such-user/data, but this user's home directory is unknown"):
        datasets.mnist(None, False)


def test_torchvision_downloads_the_data(tmp_path, mnist_folder, monkeypatch):
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


def test_broken_torchvision_is_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(LCAError, match="does not work with the installed torch"):
        datasets.mnist(tmp_path, True)


def test_description_of_a_dataset_matches_its_data():
    data, description = datasets.digits(None, False), datasets.DIGITS
    assert data.train[0].shape == (description.n_train, *description.shapes[0])
    assert (len(data.val[0]), data.test, description.n_test) == (description.n_val, None, 0)


def test_every_problem_has_an_expected_parameter_count():
    assert set(PARAMETERS) == set(PRESETS) - {"charlm-transformer"}  # tested in test_text.py


@pytest.mark.parametrize(("problem", "n_parameters"), PARAMETERS.items())
def test_parameter_counts(problem, n_parameters):
    preset = PRESETS[problem]
    model = preset.network()
    assert build_table(model).size == n_parameters
    assert model(preset.data.empty(2)[0]).shape == (2, 10)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.bias is not None for module in convolutions)


@pytest.mark.parametrize("problem", [name for name in PARAMETERS if not name.startswith("fashion")])
def test_weights_are_he_normal_and_biases_zero(problem):
    torch.manual_seed(0)
    for module in PRESETS[problem].network().modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in, n = module.weight[0].numel(), module.weight.numel()
            spread = float(module.weight.detach().std()) * (fan_in / 2) ** 0.5
            assert spread == pytest.approx(1, abs=4 / (2 * n) ** 0.5)  # four standard errors of the deviation
            assert not module.bias.any()


def test_resnet_equals_an_explicit_computation():
    """The output is computed again from the parameters with torch's functions."""
    torch.manual_seed(0)
    model = networks.resnet(3, (4, 6), blocks=2)
    p, f = dict(model.named_parameters()), nn.functional
    x = torch.randn(5, 3, 8, 8)

    def conv(x, name, stride=1):
        return f.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride, padding=p[f"{name}.weight"].shape[-1] // 2)

    def norm(x, name):
        return f.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)

    def block(x, name, stride):
        y = f.relu(norm(conv(x, f"{name}.conv1", stride), f"{name}.norm1"))
        y = norm(conv(y, f"{name}.conv2"), f"{name}.norm2")
        return f.relu(y + (conv(x, f"{name}.shortcut", stride) if f"{name}.shortcut.weight" in p else x))

    y = f.relu(norm(conv(x, "conv1"), "norm1"))
    for name, stride in (("block1", 1), ("block2", 1), ("block3", 2), ("block4", 1)):
        y = block(y, name, stride)
    y = f.linear(y.mean((2, 3)), p["fc.weight"], p["fc.bias"])
    torch.testing.assert_close(model.train()(x), y)
    assert {name for name in p if "shortcut" in name} == {"block3.shortcut.weight", "block3.shortcut.bias"}


def test_all_cnn_has_the_layers_of_the_source():
    model = PRESETS["cifar-allcnn"].network()
    plan = [
        (module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0])
        for module in model
        if isinstance(module, nn.Conv2d)
    ]
    assert plan == [
        (3, 96, 3, 1),
        (96, 96, 3, 1),
        (96, 96, 3, 2),
        (96, 192, 3, 1),
        (192, 192, 3, 1),
        (192, 192, 3, 2),
        (192, 192, 3, 1),
        (192, 192, 1, 1),
        (192, 10, 1, 1),
    ]
    kinds = "".join(
        {"Conv2d": "C", "BatchNorm2d": "N", "ReLU": "R", "Dropout": "D"}.get(type(m).__name__, "") for m in model
    )
    assert kinds == "CNR" * 2 + "CRD" + "CNR" * 2 + "CRD" + "CNR" * 2 + "CR"
    assert [m.p for m in model if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    averaged = []
    model.pool.register_forward_pre_hook(lambda module, inputs: averaged.append(inputs[0].shape))
    model(torch.zeros(1, 3, 32, 32))
    assert averaged == [(1, 10, 6, 6)]


def test_vgg_has_four_stages_and_three_dense_layers():
    model = PRESETS["cifar-vgg"].network()
    kinds = "".join(
        {"Conv2d": "C", "MaxPool2d": "P", "Linear": "L", "Dropout": "D"}.get(type(m).__name__, "") for m in model
    )
    assert kinds == "CPCPCCPCCP" + "LDLDL"
    assert [m.out_channels for m in model if isinstance(m, nn.Conv2d)] == [32, 64, 128, 128, 256, 256]
    assert [m.out_features for m in model if isinstance(m, nn.Linear)] == [512, 512, 10]


@pytest.mark.parametrize("layers", [3, 4, 5])
def test_widths_of_the_dense_cifar_net_form_a_geometric_sequence(layers):
    model = PRESETS["cifar-fc"].network(layers=layers)
    dense = [module for module in model if isinstance(module, nn.Linear)]
    assert len(dense) == layers
    widths = np.array([dense[0].in_features, *(module.out_features for module in dense)])
    assert (widths[0], widths[-1]) == (3072, 10)
    np.testing.assert_allclose(widths[1:] / widths[:-1], (10 / 3072) ** (1 / layers), rtol=0.03)


def test_options_change_the_network():
    problem = lca.load("digits-fc", options={"width": "0.5"})
    assert [module.out_features for module in problem.model if isinstance(module, nn.Linear)] == [16, 8, 10]
    assert problem.options == {"width": 0.5}
    assert len(build_table(PRESETS["digits-resnet"].network(blocks=2)).layers) == 1 + 3 * 2 * 2 + 2 + 1


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        ("digits-fc", {"layers": 4}, "the problem has no option 'layers'. Its options are width"),
        ("cifar-fc", {"layers": "four"}, "layers: expected a whole number, found 'four'"),
        ("cifar-fc", {"layers": 4.7}, "layers: expected a whole number, found 4.7"),
        ("cifar-fc", {"layers": 6}, "layers: expected 3 to 5, found 6"),
        ("digits-fc", {"width": "wide"}, "width: expected a number, found 'wide'"),
        ("digits-fc", {"width": 0}, "width: expected a positive factor, found 0.0"),
        ("digits-fc", {"width": "inf"}, "width: expected a positive factor, found inf"),
        ("digits-resnet", {"blocks": 0}, "blocks: expected at least 1, found 0"),
    ],
)
def test_invalid_problem_options_raise(problem, options, message):
    with pytest.raises(UsageError, match=message):
        lca.load(problem, options=options)


def test_cost_of_a_pass_counts_three_products_per_layer_except_in_the_first():
    """A layer has three products: the output and the gradients of the weights and of the input.

    The gradient of the input is not needed in the first layer.
    """
    entry = describe("digits-fc")
    products = [64 * 32, 32 * 16, 16 * 10]
    assert entry.pass_gflop == pytest.approx(2 * 1_500 * (3 * sum(products) - products[0]) / 1e9)
    assert entry.n_parameters == 2_778
    wide = describe("digits-fc", {"width": 2})
    assert wide.n_parameters == 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    assert lca.TrainConfig(**describe("cifar-resnet").recipe) == lca.TrainConfig(learning_rate=0.1, iterations=4_500)


def test_loading_is_seeded_and_keeps_the_random_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = (lca.load("digits-fc", seed=seed) for seed in (0, 0, 1))
    assert torch.rand(1) == expected
    same = [torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(next(a.model.parameters()), next(c.model.parameters()))


def test_unknown_problem_lists_the_built_in_ones():
    with pytest.raises(
        UsageError, match="unknown problem 'minst-fc'. The built-in problems are digits-fc, digits-resnet, mnist-fc"
    ):
        lca.load("minst-fc")


def test_given_options_override_the_recipe():
    assert recipe("mnist-fc", {}) == {"optimizer": "sgd", "iterations": 880, "learning_rate": 0.05}
    given = {"optimizer": "sgd", "iterations": 5, "learning_rate": 1.0}
    assert recipe("mnist-fc", given) == given
    assert recipe("mnist-fc", {"epochs": 2}) == {"optimizer": "sgd", "epochs": 2, "learning_rate": 0.05}
    assert recipe("mnist-fc", {"optimizer": "adam"}) == {"optimizer": "adam", "iterations": 880}
    assert recipe("charlm-transformer", {}) == {"optimizer": "adam", "iterations": 400, "learning_rate": 0.003}
    assert recipe("charlm-transformer", {"optimizer": "sgd"}) == {"optimizer": "sgd", "iterations": 400}
