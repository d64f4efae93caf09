import pytest

import lca
from lca.errors import UsageError
from lca.store.layer_options import Freeze, LayerOptions


def test_freezes_and_layer_options_are_parsed():
    assert Freeze.parse("last") == Freeze("last", 0)
    assert Freeze.parse("block1.*@200") == Freeze("block1.*", 200)
    assert LayerOptions.parse("fc:lr=0.01,momentum=0.5") == LayerOptions("fc", {"learning_rate": 0.01, "momentum": 0.5})
    assert LayerOptions.parse("a:b:l2=1e-4") == LayerOptions("a:b", {"l2": 1e-4})


@pytest.mark.parametrize("text", ["", "@3", "fc@", "fc@-1", "fc@x"])
def test_an_invalid_freeze_is_explained(text):
    with pytest.raises(
        UsageError, match=r"freeze: expected LAYER or LAYER@ITERATION, such as last or fc1@200, found '"
    ):
        lca.TrainConfig(freeze=[text])


@pytest.mark.parametrize("text", ["", "fc", "fc:", ":lr=1", "fc:lr", "fc:lr=", "fc:lr=x", "fc:beta=1", "fc:lr=1,"])
def test_invalid_layer_options_are_explained(text):
    with pytest.raises(
        UsageError, match=r"layers: expected LAYER:NAME=NUMBER,… with the names lr, .*such as last:lr=0.01, found '"
    ):
        lca.TrainConfig(layers=[text])
