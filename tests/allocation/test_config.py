import pytest

import lca
from lca.errors import UsageError

CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}


def allocate(run, problem, name, **options):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(name=name, **{**CONFIG, **options}))
    return lca.open(run).allocation(name), summary


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0}, "tolerance: expected a positive number, found 0"),
        ({"total_tolerance": float("nan")}, "total_tolerance: expected a positive number, found nan"),
        ({"max_intervals": 12}, "max_intervals: expected a power of two from 2 to 16384, found 12"),
        ({"batch_size": 0}, "batch_size: expected at least 1, found 0"),
        ({"rule": "boole"}, "rule: expected one of simpson, trapezoid, adaptive, first-order, found 'boole'"),
        ({"audit": 1.5}, "audit: expected 0 to 1, found 1.5"),
    ],
)
def test_invalid_option_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        lca.AllocateConfig(**options)


@pytest.mark.parametrize("requested", ["0:101", "100:", "7:7", "9:3"])
def test_iterations_out_of_range_are_refused(run, problem, requested):
    with pytest.raises(
        UsageError,
        match=rf"iterations: expected A:B:STEP with 0 ≤ A < B ≤ 100, the number of iterations, found {requested}",
    ):
        allocate(run, problem, "part", iterations=requested)
    assert lca.open(run).allocations == []


@pytest.mark.parametrize("requested", ["5", "a:b", "1:2:3:4", "::0", "-5:", ""])
def test_iterations_that_are_not_a_slice_are_refused(requested):
    with pytest.raises(UsageError, match=r"iterations: expected a slice A:B or A:B:STEP .*, found '"):
        lca.AllocateConfig(iterations=requested)


def test_empty_step_of_a_slice_means_one():
    assert lca.AllocateConfig(iterations="1:2:").range(5) == range(1, 2)
