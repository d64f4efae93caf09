"""Narrow versions of the paper's convolutional networks on the embedded digits, for quick test runs.

    lca train scripts/paper/miniatures.py:lenet --iterations 40 --out lenet.zarr

The images are enlarged to the input size of each network.
"""

from torch import nn
from torch.nn.functional import interpolate

import lca
from lca.problem.zoo import networks

N_TRAIN, N_VAL = 300, 100


def lenet() -> lca.Problem:
    return _miniature(networks.lenet(width=0.1), side=28, channels=1)


def allcnn() -> lca.Problem:
    return _miniature(networks.all_convolutional(width=0.05), side=32, channels=3)


def vgg() -> lca.Problem:
    stages = ((32,), (64,), (128, 128), (256, 256))
    return _miniature(networks.vgg(stages, (512, 512), width=0.1), side=32, channels=3)


def vgg_mini() -> lca.Problem:
    return _miniature(networks.vgg(((64,), (128,), (256,)), (512,), width=0.05), side=32, channels=3)


def _miniature(network: nn.Module, side: int, channels: int) -> lca.Problem:
    digits = lca.load("digits-fc")
    inputs, labels = digits.train
    images = interpolate(inputs.float() / 16, size=(side, side), mode="bilinear").expand(-1, channels, -1, -1)
    train = (images[:N_TRAIN].contiguous(), labels[:N_TRAIN])
    val = (images[N_TRAIN : N_TRAIN + N_VAL].contiguous(), labels[N_TRAIN : N_TRAIN + N_VAL])
    return lca.Problem(network, digits.losses, train, val, groups=digits.groups, correct=digits.correct)
