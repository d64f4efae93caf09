"""The networks: He-normal weights, zero biases, ReLU [arXiv 1909.01440, S7]."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn


def fully_connected(*widths: int) -> nn.Module:
    """Dense layers of the given widths, input first and classes last, with ReLU between them."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (n_in, n_out) in enumerate(pairwise(widths), start=1):
        layers[f"fc{i}"] = nn.Linear(n_in, n_out)
        if i < len(widths) - 1:
            layers[f"relu{i}"] = nn.ReLU()
    return he_normal(nn.Sequential(layers))


def lenet() -> nn.Module:
    """conv 5×5×20, pool, conv 5×5×40, pool, dropout ¼, dense 400, dropout ½, dense 10, for images of 28×28."""
    return he_normal(
        nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 20, 5, padding="same"),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(20, 40, 5, padding="same"),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                dropout1=nn.Dropout(0.25),
                flatten=nn.Flatten(),
                fc1=nn.Linear(40 * 7 * 7, 400),
                relu3=nn.ReLU(),
                dropout2=nn.Dropout(0.5),
                fc2=nn.Linear(400, 10),
            )
        )
    )


def he_normal(model: nn.Module) -> nn.Module:
    """Draw every kernel from N(0, 2 / fan_in) and zero every bias [arXiv 1502.01852]."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
