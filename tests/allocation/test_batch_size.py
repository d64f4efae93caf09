import pytest
import torch
from torch import nn

from lca.allocation import batch_size as batch_size_module
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


def make_failing_trial(error):
    def seconds(size):
        raise error

    return seconds


def test_fastest_batch_size_per_example_is_chosen():
    per_example = lambda size: 0.1 / size + 1e-6 * size  # minimal at √(0.1 / 1e-6) = 316
    assert choose_batch_size(per_example, 10_000, CPU) == 250
    assert choose_batch_size(lambda size: 1 / size, 10_000, CPU) == 5_000
    assert choose_batch_size(lambda size: 1 / size, 700, CPU) == 700


def test_search_stops_at_a_clearly_slower_size():
    tried = []

    def per_example(size):
        tried.append(size)
        return {125: 1.0, 250: 1.05, 500: 0.9, 1_000: 1.01}[size]

    assert choose_batch_size(per_example, 10_000, CPU) == 500
    assert list(dict.fromkeys(tried)) == [125, 250, 500, 1_000]


@pytest.mark.parametrize("begin", range(0, 40, 3))
def test_temporary_slowdown_does_not_change_the_batch_size(begin):
    calls = 0

    def per_example(size):
        nonlocal calls
        calls += 1
        slow = begin <= calls < begin + 5
        return (3.0 if slow else 1.0) * {125: 2.7, 250: 2.0, 500: 1.75, 1_000: 1.65, 2_000: 1.6, 5_000: 1.55}[size]

    assert choose_batch_size(per_example, 10_000, CPU) in (1_000, 2_000, 5_000)


def test_sizes_that_do_not_fit_in_memory_are_skipped():
    def seconds(size):
        if size > 600:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1 / size

    assert choose_batch_size(seconds, 10_000, CPU) == 500
    with pytest.raises(LCAError, match="a batch of 125 examples does not fit in the memory of cpu"):
        choose_batch_size(make_failing_trial(RuntimeError("can't allocate memory")), 10_000, CPU)


def test_other_errors_in_a_trial_are_raised():
    with pytest.raises(RuntimeError, match="shapes do not match"):
        choose_batch_size(make_failing_trial(RuntimeError("shapes do not match")), 10_000, CPU)


@pytest.fixture
def set_pass_time(monkeypatch):
    """Replace the measured time of a pass with a function of batch size and memory format. Returns the trials made."""

    def patch(seconds):
        tried = []

        def time(gradient):
            x = gradient.objective.data[0]
            tried.append((len(x), x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)))
            return seconds(*tried[-1])

        monkeypatch.setattr(batch_size_module, "_time_pass", time)
        return tried

    return patch


def make_images(n, channels=3):
    return torch.randn(n, channels, 4, 4), torch.zeros(n, dtype=torch.int64)


def make_objective(model, n):
    return Objective(model, cross_entropy, make_images(n))


def make_convolution(*more):
    return nn.Sequential(nn.Conv2d(3, 2, 3), *more, nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize(("channels_last_s", "expected"), [(0.9, True), (0.97, False), (1.2, False)])
def test_channels_last_is_chosen_if_faster(set_pass_time, channels_last_s, expected):
    set_pass_time(lambda size, channels_last: (channels_last_s if channels_last else 1.0) * (1 + size))
    assert choose_batch_format(make_objective(make_convolution(), 600)) == BatchFormat(600, expected)


def test_requested_format_is_used_without_trials(set_pass_time):
    tried = set_pass_time(lambda size, channels_last: 1.0)
    given = {"batch_size": 10, "channels_last": True}
    assert choose_batch_format(make_objective(make_convolution(), 20), **given) == BatchFormat(10, True)
    assert tried == []


def test_batchnorm_uses_the_batch_size_of_the_paper(set_pass_time):
    tried = set_pass_time(lambda size, channels_last: 0.1 if channels_last else 1.0)
    model = make_convolution(nn.BatchNorm2d(2))
    assert choose_batch_format(make_objective(model, 20)) == BatchFormat(5_000, True)
    assert {channels_last for _, channels_last in tried} == {True, False}


def test_channels_last_is_not_tried_without_images(set_pass_time):
    tried = set_pass_time(lambda size, channels_last: 1.0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    assert not choose_batch_format(make_objective(model, 20)).channels_last
    assert not any(channels_last for _, channels_last in tried)


def test_memory_format_does_not_change_values():
    x, y = make_images(5)
    moved, labels = BatchFormat(5, True).apply(Objective(nn.Linear(1, 1), cross_entropy, (x, y))).data
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert not moved.is_contiguous()
    assert torch.equal(moved, x)
    assert labels is y


def test_batchnorm_batch_that_does_not_fit_in_memory_is_refused(monkeypatch):
    model, data = make_convolution(nn.BatchNorm2d(2)), make_images(40)
    per_image = 8 + 8 + 2  # outputs of the convolution, the norm and the dense layer
    statistics, loss = 2 + 2, 1  # mean and deviation of each channel, and a sum of weights
    with FullGradient(Objective(model, cross_entropy, tuple(x[:16] for x in data)), 16) as sample:
        needed = measure_activations(sample)
    assert needed == 4 * (16 * per_image + statistics + loss)
    objective = Objective(model, cross_entropy, data)
    available = needed * 40 // 16
    monkeypatch.setattr(batch_size_module, "get_memory_bytes", lambda device: available)
    require_memory(objective, 40)
    monkeypatch.setattr(batch_size_module, "get_memory_bytes", lambda device: available - 1)
    message = "the activations of a batch of 40 examples need .* is not reduced automatically, because the loss "
    with pytest.raises(LCAError, match=message + "depends on it. Pass a smaller batch_size"):
        require_memory(objective, 5_000)
    require_memory(objective, 39)
    monkeypatch.setattr(batch_size_module, "count_sharing", lambda device: 2)
    with pytest.raises(LCAError, match="the activations of a batch of 39 examples need"):
        require_memory(objective, 39)
    require_memory(objective, 19)
