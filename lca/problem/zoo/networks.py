"""The networks, with He-normal weights, zero biases, ReLU, and a bias in every convolution [arXiv 1909.01440, S7].

The argument `width` multiplies the number of units or channels of every hidden layer.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from lca.errors import UsageError

N_CLASSES = 10


def fully_connected(*widths: int, width: float = 1.0) -> nn.Module:
    """Return dense layers with ReLU between them. `widths` lists the sizes from the input to the classes."""
    n_in, *hidden, n_out = widths
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (a, b) in enumerate(pairwise([n_in, *_scale_widths(hidden, width), n_out]), start=1):
        layers[f"fc{i}"] = nn.Linear(a, b)
        if i < len(widths) - 1:
            layers[f"relu{i}"] = nn.ReLU()
    return he_normal(nn.Sequential(layers))


def geometric_fully_connected(n_in: int, *, layers: int = 3, width: float = 1.0) -> nn.Module:
    """Return three to five dense layers whose sizes form a geometric sequence from the input to the classes."""
    if not 3 <= layers <= 5:
        raise UsageError("layers", expected="3 to 5", found=str(layers))
    widths = [round(n_in * (N_CLASSES / n_in) ** (i / layers)) for i in range(layers + 1)]
    return fully_connected(*widths, width=width)


def lenet(*, width: float = 1.0) -> nn.Module:
    """Return a LeNet for images of 28×28 pixels.

    Its layers are conv 5×5×20, pool, conv 5×5×40, pool, dropout ¼, dense 400, dropout ½ and dense 10.
    """
    a, b, c = _scale_widths([20, 40, 400], width)
    return he_normal(
        nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, a, 5, padding="same"),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(a, b, 5, padding="same"),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                dropout1=nn.Dropout(0.25),
                flatten=nn.Flatten(),
                fc1=nn.Linear(b * 7 * 7, c),
                relu3=nn.ReLU(),
                dropout2=nn.Dropout(0.5),
                fc2=nn.Linear(c, N_CLASSES),
            )
        )
    )


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm, and a shortcut, which is a 1×1 convolution if the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(n_out)
        same = n_in == n_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        out: Tensor = self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
        return out


def resnet(n_in: int, stages: Sequence[int], *, blocks: int, width: float = 1.0) -> nn.Module:
    """Return a convolution, stages of residual blocks, a global mean and a dense layer.

    `stages` lists the channels of each stage, and `blocks` is the number of blocks per stage. Every stage after the
    first halves the resolution. Three stages of 16, 32 and 64 channels with three blocks each are ResNet-20 [arXiv
    1512.03385, section 4.2], here with biases, and with convolutional shortcuts where the shape changes.
    """
    if blocks < 1:
        raise UsageError("blocks", expected="at least 1", found=str(blocks))
    n, *_ = channels = _scale_widths(stages, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(n_in, n, 3, padding=1), norm1=nn.BatchNorm2d(n), relu1=nn.ReLU()
    )
    for stage, n_out in enumerate(channels):
        for block in range(blocks):
            first_of_later = stage > 0 and block == 0
            layers[f"block{stage * blocks + block + 1}"] = ResidualBlock(n, n_out, 2 if first_of_later else 1)
            n = n_out
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(n, N_CLASSES)}
    return he_normal(nn.Sequential(layers))


def all_convolutional(*, width: float = 1.0) -> nn.Module:
    """Return All-CNN-C [arXiv 1412.6806, table 1], for images of 32×32 pixels.

    BatchNorm follows every convolution except for the last one and the two that halve the resolution. Dropout ½ follows
    those two.
    """
    a, b = _scale_widths([96, 192], width)
    # (channels, kernel size, stride, padding). The seventh convolution has no padding, so that the mean is over 6×6
    # positions, as in the source.
    plan = [
        (a, 3, 1, 1),
        (a, 3, 1, 1),
        (a, 3, 2, 1),
        (b, 3, 1, 1),
        (b, 3, 1, 1),
        (b, 3, 2, 1),
        (b, 3, 1, 0),
        (b, 1, 1, 0),
        (N_CLASSES, 1, 1, 0),
    ]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    n = 3
    for i, (n_out, size, stride, padding) in enumerate(plan, start=1):
        layers[f"conv{i}"] = nn.Conv2d(n, n_out, size, stride, padding)
        if stride == 1 and i < len(plan):
            layers[f"norm{i}"] = nn.BatchNorm2d(n_out)
        layers[f"relu{i}"] = nn.ReLU()
        if stride > 1:
            layers[f"dropout{i}"] = nn.Dropout(0.5)
        n = n_out
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return he_normal(nn.Sequential(layers))


def vgg(stages: Sequence[Sequence[int]], dense: Sequence[int], *, width: float = 1.0) -> nn.Module:
    """Return stages of 3×3 convolutions, each followed by max pooling, and dense layers with dropout ½.

    The images have 32×32 pixels. `stages` lists the channels of each convolution of each stage, and `dense` the sizes
    of the hidden dense layers. The stages of cifar-vgg are the first four of network A in [arXiv 1409.1556], at half
    its width.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    n, i = 3, 0
    for stage, channels in enumerate(stages, start=1):
        for n_out in _scale_widths(channels, width):
            i += 1
            layers[f"conv{i}"] = nn.Conv2d(n, n_out, 3, padding=1)
            layers[f"relu{i}"] = nn.ReLU()
            n = n_out
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    n *= (32 // 2 ** len(stages)) ** 2
    for j, n_out in enumerate(_scale_widths(dense, width), start=1):
        layers[f"fc{j}"] = nn.Linear(n, n_out)
        layers[f"relu{i + j}"] = nn.ReLU()
        layers[f"dropout{j}"] = nn.Dropout(0.5)
        n = n_out
    layers[f"fc{len(dense) + 1}"] = nn.Linear(n, N_CLASSES)
    return he_normal(nn.Sequential(layers))


def he_normal(model: nn.Module) -> nn.Module:
    """Draw every kernel from N(0, 2 / fan_in) and zero every bias [arXiv 1502.01852]."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def _scale_widths(widths: Sequence[int], width: float) -> list[int]:
    if not 0 < width < float("inf"):
        raise UsageError("width", expected="a positive factor", found=str(width))
    return [max(1, round(n * width)) for n in widths]
