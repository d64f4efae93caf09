import numpy as np
import pytest
import torch
from scipy import integrate

from lca.allocation.quadrature import Simpson, odd_nodes


def integrate_by_halving(f, n):
    """Return Simpson's rule with n subintervals, reached by halving the step as in an allocation."""
    at = lambda nodes: sum(f(torch.tensor(s, dtype=torch.float64)) for s in nodes)
    rule = Simpson.start(at([0.0, 1.0]), at(odd_nodes(2)))
    while rule.n < n:
        rule = rule.halve(at(odd_nodes(2 * rule.n)))
    return rule


@pytest.mark.parametrize("n", [2, 4, 8, 64])
def test_repeated_halving_equals_the_composite_rule(n):
    f = lambda s: torch.stack([torch.exp(3 * s), torch.sin(5 * s), torch.sqrt(s + 0.1)])
    grid = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    expected = integrate.simpson(np.stack([f(s).numpy() for s in grid]), x=grid.numpy(), axis=0)
    rule = integrate_by_halving(f, n)
    assert rule.n == n
    np.testing.assert_allclose(rule.compute_integral(), expected, rtol=1e-13)


def test_cubics_are_integrated_exactly():
    rule = integrate_by_halving(lambda s: 4 * s**3 - 3 * s**2 + 2 * s + 7, 2)
    assert float(rule.compute_integral()) == pytest.approx(1 - 1 + 1 + 7, abs=1e-14)


def test_order_of_convergence_is_four():
    errors = [
        abs(float(integrate_by_halving(lambda s: torch.exp(2 * s), n).compute_integral()) - (np.e**2 - 1) / 2)
        for n in (4, 8, 16, 32)
    ]
    slope = np.polyfit(np.log([4, 8, 16, 32]), np.log(errors), 1)[0]
    assert slope == pytest.approx(-4, abs=0.05)


def test_each_halving_adds_exactly_the_missing_nodes():
    seen = {0.0, 1.0}
    for n in (2, 4, 8, 16):
        new = odd_nodes(n)
        assert seen.isdisjoint(new)
        seen.update(new)
        assert seen == {k / n for k in range(n + 1)}


@pytest.mark.parametrize("n", [0, 1, 3, -2])
def test_an_odd_number_of_subintervals_is_refused(n):
    with pytest.raises(ValueError, match="even number"):
        odd_nodes(n)
