import pytest
import torch
from torch import nn

from lca.allocation import batch_size as probe
from lca.allocation.batch_size import (
    BatchFormat,
    choose_batch_format,
    choose_batch_size,
    measure_activations,
    require_memory,
)
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError
from lca.problem.losses import cross_entropy
from lca.problem.objective import Objective

CPU = torch.device("cpu")


def raises(error):
    def seconds(size):
        raise error

    return seconds


def test_the_fastest_batch_size_per_example():
    per_example = lambda size: 0.1 / size + 1e-6 * size  # least at √(0.1 / 1e-6) = 316
    assert choose_batch_size(per_example, 10_000, CPU) == 250
    assert choose_batch_size(lambda size: 1 / size, 10_000, CPU) == 5_000
    assert choose_batch_size(lambda size: 1 / size, 700, CPU) == 700


def test_sizes_above_a_clearly_slower_one_are_not_tried():
    tried = []

    def per_example(size):
        tried.append(size)
        return {125: 1.0, 250: 1.05, 500: 0.9, 1_000: 1.01}[size]

    assert choose_batch_size(per_example, 10_000, CPU) == 500
    assert list(dict.fromkeys(tried)) == [125, 250, 500, 1_000]


@pytest.mark.parametrize("begin", range(0, 40, 3))
def test_a_machine_that_is_slow_for_a_while_does_not_change_the_batch_size(begin):
    calls = 0

    def per_example(size):
        nonlocal calls
        calls += 1
        slow = begin <= calls < begin + 5
        return (3.0 if slow else 1.0) * {125: 2.7, 250: 2.0, 500: 1.75, 1_000: 1.65, 2_000: 1.6, 5_000: 1.55}[size]

    assert choose_batch_size(per_example, 10_000, CPU) in (1_000, 2_000, 5_000)


def test_sizes_that_do_not_fit_are_left_out():
    def seconds(size):
        if size > 600:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1 / size

    assert choose_batch_size(seconds, 10_000, CPU) == 500
    with pytest.raises(LCAError, match="a batch of 125 examples does not fit into the memory of cpu"):
        choose_batch_size(raises(RuntimeError("can't allocate memory")), 10_000, CPU)


def test_other_errors_of_a_trial_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes do not match"):
        choose_batch_size(raises(RuntimeError("shapes do not match")), 10_000, CPU)


@pytest.fixture
def timed(monkeypatch):
    """The seconds of a pass are told, not measured: a function of the size and the memory format of the images."""

    def told(seconds):
        tried = []

        def time(gradient):
            x = gradient.objective.data[0]
            tried.append((len(x), x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)))
            return seconds(*tried[-1])

        monkeypatch.setattr(probe, "_time_pass", time)
        return tried

    return told


def images(n, channels=3):
    return torch.randn(n, channels, 4, 4), torch.zeros(n, dtype=torch.int64)


def objective(model, n):
    return Objective(model, cross_entropy, images(n))


def convolution(*more):
    return nn.Sequential(nn.Conv2d(3, 2, 3), *more, nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize(("last_s", "wanted"), [(0.9, True), (0.97, False), (1.2, False)])
def test_channels_last_is_chosen_if_it_is_faster(timed, last_s, wanted):
    timed(lambda size, channels_last: (last_s if channels_last else 1.0) * (1 + size))
    assert choose_batch_format(objective(convolution(), 600)) == BatchFormat(600, wanted)


def test_a_given_format_is_not_tried(timed):
    tried = timed(lambda size, channels_last: 1.0)
    given = {"batch_size": 10, "channels_last": True}
    assert choose_batch_format(objective(convolution(), 20), **given) == BatchFormat(10, True)
    assert tried == []


def test_with_batchnorm_the_batch_size_is_the_papers(timed):
    tried = timed(lambda size, channels_last: 0.1 if channels_last else 1.0)
    model = convolution(nn.BatchNorm2d(2))
    assert choose_batch_format(objective(model, 20)) == BatchFormat(5_000, True)
    assert {channels_last for _, channels_last in tried} == {True, False}


def test_channels_last_is_not_tried_without_images(timed):
    tried = timed(lambda size, channels_last: 1.0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    assert not choose_batch_format(objective(model, 20)).channels_last
    assert not any(channels_last for _, channels_last in tried)


def test_the_memory_format_does_not_change_the_values():
    x, y = images(5)
    moved, labels = BatchFormat(5, True).apply(Objective(nn.Linear(1, 1), cross_entropy, (x, y))).data
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert not moved.is_contiguous()
    assert torch.equal(moved, x)
    assert labels is y


def test_a_partition_that_does_not_fit_is_refused(monkeypatch):
    model, data = convolution(nn.BatchNorm2d(2)), images(40)
    per_image = 8 + 8 + 2  # the outputs of the convolution, of the norm and of the dense layer
    statistics, loss = 2 + 2, 1  # mean and deviation by channel, and a sum of weights
    with FullGradient(Objective(model, cross_entropy, tuple(x[:16] for x in data)), 16) as sample:
        needed = measure_activations(sample)
    assert needed == 4 * (16 * per_image + statistics + loss)
    objective = Objective(model, cross_entropy, data)
    there = needed * 40 // 16
    monkeypatch.setattr(probe, "get_memory_bytes", lambda device: there)
    require_memory(objective, 40)
    monkeypatch.setattr(probe, "get_memory_bytes", lambda device: there - 1)
    message = "the activations of a batch of 40 examples take .* never made smaller without being asked. "
    with pytest.raises(LCAError, match=message + "Pass a smaller batch_size"):
        require_memory(objective, 5_000)
    require_memory(objective, 39)
    monkeypatch.setattr(probe, "count_sharing", lambda device: 2)
    with pytest.raises(LCAError, match="the activations of a batch of 39 examples take"):
        require_memory(objective, 39)
    require_memory(objective, 19)
