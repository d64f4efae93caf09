"""Random numbers drawn for a check do not change those that follow."""

import pytest
import simulated_device
import torch

from lca.runtime.random_state import keep_random_state


@pytest.mark.parametrize("raises", [False, True])
def test_states_of_the_host_and_of_the_device_are_restored(raises):
    with simulated_device.simulated_device() as device:
        host, before = torch.get_rng_state(), torch.arange(3, dtype=torch.uint8)
        simulated_device.state["random"] = before
        try:
            with keep_random_state(device):
                torch.rand(3)
                simulated_device.state["random"] = before + 1
                if raises:
                    raise ValueError
        except ValueError:
            pass
        assert torch.equal(torch.get_rng_state(), host)
        assert simulated_device.state["random"] is before


def test_a_check_on_the_cpu_leaves_the_accelerators_alone(monkeypatch):
    monkeypatch.setattr(torch, "get_device_module", None)  # a call would fail
    host = torch.get_rng_state()
    with keep_random_state(torch.device("cpu")):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), host)
