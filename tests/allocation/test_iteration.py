import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import Quadratic, Separable, TinyNet

from lca.allocation.iteration import Evaluation, integrate_iteration
from lca.store.schema import Status

seeds = st.integers(0, 2**31)


def make_gradient(oracle, seen=None):
    def gradient(theta):
        if seen is not None:
            seen.append(theta.clone())
        return Evaluation(oracle.loss(theta), oracle.gradient(theta))

    return gradient


def integrate(oracle, theta0, theta1, tolerance=1e-3, max_intervals=64, **options):
    gradient = make_gradient(oracle, options.pop("seen", None))
    start, end = make_gradient(oracle)(theta0), gradient(theta1)
    return integrate_iteration(
        gradient, theta0, theta1, start, end, tolerance=tolerance, max_intervals=max_intervals, **options
    )


def draw_iterates(K, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    theta0 = torch.randn(K, generator=generator, dtype=torch.float64)
    return theta0, theta0 + scale * torch.randn(K, generator=generator, dtype=torch.float64)


def test_quadratic_is_allocated_exactly():
    oracle = Quadratic.random(9, seed=1)
    theta0, theta1 = draw_iterates(9, seed=2, scale=3)
    result = integrate(oracle, theta0, theta1)
    torch.testing.assert_close(result.allocation, oracle.allocation(theta0, theta1), rtol=1e-12, atol=1e-12)
    assert result.intervals == 2
    assert result.status == Status.CONVERGED
    assert result.residual == pytest.approx(0, abs=1e-12)
    assert result.allocated == pytest.approx(float(oracle.loss(theta1) - oracle.loss(theta0)))


def test_simpson_is_exact_when_the_errors_of_the_trapezoid_cancel():
    """L = θ₁³ − θ₂³ from (0, 0) to (1, 1): the trapezoid gives (1.5, −1.5), with a residual of exactly 0."""
    oracle = Separable(torch.tensor([1.0, 0, 0, -1.0], dtype=torch.float64))
    result = integrate(oracle, torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(result.allocation, torch.tensor([1.0, 0, 0, -1.0], dtype=torch.float64))


def test_allocation_converges_with_order_four():
    oracle = Separable(torch.linspace(-1, 2, 30, dtype=torch.float64))
    theta0, theta1 = draw_iterates(30, seed=3)
    exact = oracle.allocation(theta0, theta1)
    n = [4, 8, 16, 32]
    errors = [
        float((integrate(oracle, theta0, theta1, 1e9, m, min_intervals=m).allocation - exact).abs().sum()) for m in n
    ]
    assert np.polyfit(np.log(n), np.log(errors), 1)[0] == pytest.approx(-4, abs=0.1)


def test_small_network_agrees_with_brute_force():
    oracle = TinyNet.random(seed=4)
    theta0, theta1 = draw_iterates(TinyNet.K, seed=5, scale=0.5)
    result = integrate(oracle, theta0, theta1, min_intervals=512, max_intervals=512)
    assert result.status == Status.CONVERGED
    torch.testing.assert_close(result.allocation, oracle.allocation(theta0, theta1), rtol=1e-7, atol=1e-9)


def test_smooth_iteration_takes_two_gradients_and_refinement_only_new_nodes():
    oracle = Separable(torch.ones(6, dtype=torch.float64))
    theta0, theta1 = draw_iterates(6, seed=6)
    seen = []
    result = integrate(oracle, theta0, theta1, tolerance=1e9, seen=seen)
    assert (len(seen), result.intervals) == (2, 2)
    seen = []
    result = integrate(oracle, theta0, theta1, tolerance=1e-7, seen=seen)
    assert result.intervals > 4
    assert len(seen) == result.intervals
    assert len({tuple(theta.tolist()) for theta in seen}) == len(seen)


def test_first_order_is_the_step_times_the_first_gradient_and_is_not_refined():
    oracle = Separable(torch.ones(6, dtype=torch.float64))
    theta0, theta1 = draw_iterates(6, seed=11)
    seen = []
    result = integrate(oracle, theta0, theta1, tolerance=1e-9, rule="first-order", seen=seen)
    torch.testing.assert_close(result.allocation, (theta1 - theta0) * oracle.gradient(theta0))
    assert (result.intervals, result.status, len(seen)) == (1, Status.AT_LIMIT, 1)
    still = integrate(oracle, theta0, theta0, rule="first-order")
    assert still.status == Status.CONVERGED


def test_trapezoid_takes_one_gradient_and_is_refined_by_simpson():
    quadratic = Quadratic.random(6, seed=12)
    theta0, theta1 = draw_iterates(6, seed=13)
    seen = []
    result = integrate(quadratic, theta0, theta1, rule="trapezoid", seen=seen)
    torch.testing.assert_close(result.allocation, quadratic.allocation(theta0, theta1))
    assert (result.intervals, result.status, len(seen)) == (1, Status.CONVERGED, 1)
    oracle = Separable(torch.ones(6, dtype=torch.float64))
    refined, simpson = (integrate(oracle, theta0, theta1, 1e-5, rule=rule) for rule in ("trapezoid", "simpson"))
    assert refined.intervals == simpson.intervals > 1
    assert torch.equal(refined.allocation, simpson.allocation)


def test_trapezoid_can_be_wrong_without_a_residual():
    oracle = Separable(torch.tensor([1.0, 0, 0, -1.0], dtype=torch.float64))
    zero, one = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    result = integrate(oracle, zero, one, rule="trapezoid")
    assert result.allocation.tolist() == [1.5, 0, 0, -1.5]
    assert (result.residual, result.intervals, result.status) == (0, 1, Status.CONVERGED)


def test_part_estimate_is_the_difference_from_the_next_coarser_rule():
    """L = θ³ from 0 to 1 by one parameter: 0 by the first order, 3/2 by the trapezoid, 1 by Simpson's rule."""
    oracle = Separable(torch.tensor([1.0], dtype=torch.float64))
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    loose = {"tolerance": 1e9, "part_tolerance": 1e9}
    found = {rule: integrate(oracle, zero, one, **loose, rule=rule) for rule in ("trapezoid", "simpson")}
    assert found["trapezoid"].part_estimate == pytest.approx(1.0)
    assert found["simpson"].part_estimate == pytest.approx(0.5)
    assert {result.curvature_share for result in found.values()} == {1.0}
    half, two = zero + 0.5, one + 1
    simpson = [integrate(oracle, half, two, **loose, min_intervals=n) for n in (2, 4)]
    assert simpson[1].part_estimate == pytest.approx(0, abs=1e-14)  # Simpson's rule is exact for cubic losses
    first = integrate(Quadratic.random(6, 12), *draw_iterates(6, seed=13), tolerance=1e9, rule="first-order")
    exact = integrate(Quadratic.random(6, 12), *draw_iterates(6, seed=13))
    error = (first.allocation - exact.allocation).abs().sum() / exact.allocation.abs().sum()
    assert first.part_estimate == pytest.approx(float(error))  # the trapezoidal rule is exact for quadratic losses


def test_iteration_whose_parts_are_uncertain_is_refined():
    oracle = Separable(torch.ones(6, dtype=torch.float64))
    theta0, theta1 = draw_iterates(6, seed=6)
    loose = integrate(oracle, theta0, theta1, tolerance=1e9)
    strict = integrate(oracle, theta0, theta1, tolerance=1e9, part_tolerance=loose.part_estimate / 100)
    assert (loose.intervals, loose.status) == (2, Status.CONVERGED)
    assert strict.intervals > 2
    assert strict.part_estimate <= loose.part_estimate / 100
    never = integrate(oracle, theta0, theta1, tolerance=1e9, part_tolerance=1e-30, max_intervals=4)
    assert (never.intervals, never.status) == (4, Status.AT_LIMIT)


def test_adaptive_rule_keeps_the_trapezoid_up_to_the_limit_of_the_curvature_share():
    oracle = Separable(torch.ones(6, dtype=torch.float64))
    theta0, theta1 = draw_iterates(6, seed=6, scale=0.1)
    options = {"tolerance": 1e9, "part_tolerance": 1e9}
    trapezoid = integrate(oracle, theta0, theta1, rule="trapezoid", **options)
    share = trapezoid.curvature_share
    kept = integrate(oracle, theta0, theta1, rule="adaptive", curvature_limit=share, **options)
    refined = integrate(oracle, theta0, theta1, rule="adaptive", curvature_limit=0.99 * share, **options)
    assert (kept.intervals, refined.intervals) == (1, 2)
    assert torch.equal(kept.allocation, trapezoid.allocation)
    assert torch.equal(refined.allocation, integrate(oracle, theta0, theta1, **options).allocation)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_refinement_stops_at_the_rounding_errors_of_float32(scale):
    """With a tolerance that float32 cannot reach, the smooth step ends as converged at any scale of the loss."""
    oracle = Quadratic.random(50, seed=9)
    theta0, theta1 = (theta.float() for theta in draw_iterates(50, seed=10))

    def gradient(theta):
        loss, slope = oracle.loss(theta.double()), oracle.gradient(theta.double())
        return Evaluation((scale * loss).float().double(), (scale * slope).float())

    ends = gradient(theta0), gradient(theta1)
    result = integrate_iteration(gradient, theta0, theta1, *ends, tolerance=1e-30, max_intervals=64)
    assert result.status == Status.CONVERGED
    assert result.intervals == 2


def test_refinement_stops_if_it_no_longer_shrinks_the_residual():
    """The loss has an offset that no gradient explains, so no refinement can help."""
    oracle, seen = Quadratic.random(5, seed=9), []
    theta0, theta1 = draw_iterates(5, seed=10)

    def gradient(theta):
        seen.append(theta)
        return Evaluation(oracle.loss(theta) + 0.1 * float(theta is theta1), oracle.gradient(theta))

    ends = gradient(theta0), gradient(theta1)
    result = integrate_iteration(gradient, theta0, theta1, *ends, tolerance=1e-3, max_intervals=1024)
    assert result.status == Status.AT_LIMIT
    assert result.intervals <= 8
    assert result.residual == pytest.approx(-0.1)


def test_large_step_is_refined_until_it_converges():
    oracle = Separable(torch.ones(3, dtype=torch.float64))
    theta0 = torch.zeros(3, dtype=torch.float64)
    small, large = (integrate(oracle, theta0, theta0 + step, tolerance=1e-3) for step in (0.1, 4.0))
    assert small.intervals == 2
    assert large.intervals > 2
    assert large.status == Status.CONVERGED
    assert abs(large.residual) <= 1e-3


def test_reaching_the_limit_is_reported_as_a_status():
    oracle = Separable(torch.ones(3, dtype=torch.float64))
    theta0 = torch.zeros(3, dtype=torch.float64)
    result = integrate(oracle, theta0, theta0 + 6, tolerance=1e-9, max_intervals=8)
    assert result.status == Status.AT_LIMIT
    assert result.intervals == 8
    assert abs(result.residual) > 1e-9
    change = oracle.loss(theta0 + 6) - oracle.loss(theta0)
    assert result.residual == pytest.approx(result.allocated - float(change))


def test_min_intervals_overrides_early_convergence():
    theta0, theta1 = draw_iterates(5, seed=7, scale=0.01)
    assert integrate(Quadratic.random(5, 8), theta0, theta1, min_intervals=16).intervals == 16


@pytest.mark.parametrize("bad", ["start", "middle", "end"])
def test_loss_that_is_not_finite_is_reported_as_a_status(bad):
    where = {"start": 0.0, "middle": 0.5, "end": 1.0}[bad]

    def gradient(theta):
        value = float("nan") if float(theta[0]) == where else 1.0
        return Evaluation(torch.tensor(value, dtype=torch.float64), torch.full_like(theta, value))

    theta0, theta1 = torch.zeros(2), torch.ones(2)
    ends = gradient(theta0), gradient(theta1)
    result = integrate_iteration(gradient, theta0, theta1, *ends, tolerance=1e-3, max_intervals=64)
    assert result.status == Status.NOT_FINITE
    assert result.allocation.isnan().all()
    assert np.isnan([result.allocated, result.residual]).all()


def test_float32_iterates_are_accumulated_in_float64():
    oracle = Quadratic.random(5, seed=9)
    theta0, theta1 = (theta.float() for theta in draw_iterates(5, seed=10))

    def gradient(theta):
        return Evaluation(oracle.loss(theta.double()), oracle.gradient(theta.double()).float())

    ends = gradient(theta0), gradient(theta1)
    result = integrate_iteration(gradient, theta0, theta1, *ends, tolerance=1e-3, max_intervals=64)
    assert result.allocation.dtype == torch.float64
    torch.testing.assert_close(
        result.allocation, oracle.allocation(theta0.double(), theta1.double()), rtol=1e-5, atol=1e-6
    )


def test_step_is_not_rounded_to_float32():
    """L = θ from 1 to −3e-8: in float32 the step would be −1."""
    theta0, theta1 = torch.ones(1), torch.full((1,), -3e-8)

    def gradient(theta):
        return Evaluation(theta.double().sum(), torch.ones(1))

    ends = gradient(theta0), gradient(theta1)
    result = integrate_iteration(gradient, theta0, theta1, *ends, tolerance=1e-3, max_intervals=64)
    assert abs(result.residual) < 1e-12


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_reversing_the_path_negates_the_allocation(seed):
    theta0, theta1 = draw_iterates(6, seed)
    oracle = Separable(torch.ones(6, dtype=torch.float64))
    there, back = integrate(oracle, theta0, theta1), integrate(oracle, theta1, theta0)
    torch.testing.assert_close(there.allocation, -back.allocation)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.1, 0.9))
def test_allocations_of_consecutive_paths_add_up(seed, s):
    theta0, theta1 = draw_iterates(TinyNet.K, seed, scale=0.3)
    oracle, middle = TinyNet.random(seed), torch.lerp(theta0, theta1, s)
    fine = {"tolerance": 1e-3, "min_intervals": 64}
    parts = integrate(oracle, theta0, middle, **fine).allocation + integrate(oracle, middle, theta1, **fine).allocation
    torch.testing.assert_close(parts, integrate(oracle, theta0, theta1, **fine).allocation, rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(0, 5))
def test_parameter_that_does_not_move_is_allocated_zero(seed, i):
    theta0, theta1 = draw_iterates(6, seed)
    theta1[i] = theta0[i]
    assert integrate(Quadratic.random(6, seed), theta0, theta1).allocation[i] == 0


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(-3, 3), st.floats(-3, 3))
def test_allocation_is_linear_in_the_loss(seed, a, b):
    theta0, theta1 = draw_iterates(6, seed)
    weights = draw_iterates(6, seed + 1)
    fixed = {"tolerance": 1e9, "min_intervals": 4}
    f, g = (integrate(Separable(w), theta0, theta1, **fixed).allocation for w in weights)
    both = integrate(Separable(a * weights[0] + b * weights[1]), theta0, theta1, **fixed).allocation
    torch.testing.assert_close(both, a * f + b * g, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_permuting_the_parameters_permutes_the_allocation(seed):
    theta0, theta1 = draw_iterates(6, seed)
    quadratic = Quadratic.random(6, seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    permuted = Quadratic(quadratic.hessian[order][:, order], quadratic.b[order])
    expected = integrate(quadratic, theta0, theta1).allocation[order]
    torch.testing.assert_close(integrate(permuted, theta0[order], theta1[order]).allocation, expected)
