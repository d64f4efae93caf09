"""Measurements of how noisy learning is.     [arXiv 1909.01440, sections 2.2, 3]"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lca.analysis import Helping, Layers, helping, oscillation, tails
from paper.archive import Archive
from paper.experiments import RATES
from paper.measured import Measured, all_agree, format_mean, has_sign

SAMPLED = slice(10, None, 20)  # the iterations over which learning rates are compared


def helping_near(archive: Archive, experiment: str, value: float, tolerance: float) -> Measured:
    found = [result.percentage for result in archive.helping(experiment)]
    return Measured(format_mean(found, 2, "%"), bool(abs(np.mean(found) - value) <= tolerance))


def helping_by_rate(archive: Archive, optimizer: str, regular: float, value: float) -> Measured:
    """Measure the percentage helping at each learning rate."""
    curve = rate_curve(archive, optimizer, regular)
    text = ", ".join(f"{percentage:.1f} % at {rate:g}" for rate, percentage in curve.items())
    return Measured(text, min(curve.values()) <= value <= max(curve.values()))


def rate_curve(archive: Archive, optimizer: str, regular: float) -> dict[float, float]:
    """Return the percentage helping of the first run at each learning rate, over the same iterations."""
    experiments = {rate: f"mnist-fc-{optimizer}-rate-{rate:g}" for rate in RATES[optimizer]}
    experiments[regular] = f"mnist-fc-{optimizer}"
    found = {rate: archive.ask(helping, experiment)[0] for rate, experiment in sorted(experiments.items())}
    return {rate: float(np.nanmean(compute_percentages(result)[SAMPLED])) for rate, result in found.items()}


def compute_percentages(result: Helping) -> NDArray[np.float64]:
    """Return the percentage helping in each iteration, relative to the parameters with an effect, shape (T,).

    Iterations that are left out, or in which no parameter has an effect, are NaN.
    """
    helped, hurt = result.helped.sum(1), result.hurt.sum(1)
    has_effect = result.iterations.mask & (helped + hurt > 0)
    return np.where(has_effect, 100 * helped / np.maximum(helped + hurt, 1), np.nan)


def all_within(archive: Archive, experiments: Sequence[str], low: float, high: float) -> Measured:
    """Check that the mean percentage helping of each experiment is above `low` and at most `high`."""
    found = {each: float(np.mean([r.percentage for r in archive.helping(each)])) for each in experiments}
    least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    text = f"{found[least]:.2f} % ({least}) to {found[most]:.2f} % ({most})"
    return Measured(text, low < found[least] and found[most] <= high)


def without_effect(archive: Archive, experiment: str, low: float, high: float) -> Measured:
    zero = [float(np.nanmean(result.shares.zero)) for result in archive.helping(experiment)]
    return Measured(format_mean(zero, 1, "%"), bool(low <= np.mean(zero) <= high))


def of_dead_pixels(archive: Archive, experiment: str) -> Measured:
    """Compare the weights of inputs that are 0 in every example with all parameters that never have an effect."""
    inputs = archive.problem(experiment).train[0]
    n_dead = int((inputs.flatten(1) == 0).all(0).sum())
    run = archive.first(experiment)
    n_units = next(iter(run.parameters)).shape[0]
    n_without = archive.ask(helping, experiment)[0].n_without_effect
    text = (
        f"{n_dead} dead pixels × {n_units} units = {n_dead * n_units:,} of {n_without:,} parameters without any effect"
    )
    return Measured(text, n_dead * n_units > n_without / 2)


def more_help_early(archive: Archive, experiment: str) -> Measured:
    """Compare the mean percentage helping in the first 2 % of the iterations with that in all iterations."""
    pairs = []
    for result in archive.ask(helping, experiment, archive.over_time(experiment)):
        found = compute_percentages(result)
        pairs.append((np.nanmean(found[: max(1, len(found) // 50)]), np.nanmean(found)))
    early, whole = zip(*pairs, strict=True)
    text = f"{format_mean(early, 1, '%')}, overall {format_mean(whole, 1, '%')}"
    return Measured(text, all(0 < a - b <= 10 for a, b in pairs))


def layers_near_half(archive: Archive, experiment: str, low: float, high: float) -> Measured:
    by_layer = np.mean([result.percentage_by_layer for result in archive.helping(experiment)], axis=0)
    text = f"{by_layer.min():.1f} to {by_layer.max():.1f} %, {len(by_layer)} layers"
    return Measured(text, bool(low <= by_layer.min() and by_layer.max() <= high))


def parameters_swing(archive: Archive, experiment: str) -> Measured:
    """Measure the percentage of the parameters with an effect that help in 40 to 60 % of the iterations."""

    def part(result: Helping) -> float:
        begins = np.arange(len(result.histogram)) / len(result.histogram)
        return float(100 * result.histogram[(begins >= 0.4) & (begins < 0.6)].sum() / result.histogram.sum())

    found = [part(result) for result in archive.ask(helping, experiment, archive.over_time(experiment))]
    return Measured(f"{format_mean(found, 1, '%')} of them", bool(np.mean(found) > 50))


def turns_and_crossings(archive: Archive, experiment: str, per_turn: float, per_crossing: float) -> Measured:
    results = archive.ask(oscillation, experiment)
    turns = [result.iterations_per(result.turns)[0] for result in results]
    crossings = [result.iterations_per(result.crossings)[0] for result in results if result.crossings]
    near = [bool(abs(np.mean(a) / b - 1) <= 0.2) for a, b in ((turns, per_turn), (crossings, per_crossing))]
    return Measured(f"once in {format_mean(turns, 1)} and {format_mean(crossings, 1)} iterations", all(near))


def heavy_tails(archive: Archive, experiment: str) -> Measured:
    """Measure how much LCA beyond two standard deviations contributes, relative to a Gaussian distribution."""
    found = [result.beyond(result.both, 2) for result in archive.ask(tails, experiment, archive.over_most(experiment))]
    return Measured(
        f"{format_mean(found, 1)} times the contribution of a Gaussian beyond two standard deviations",
        bool(2 <= np.mean(found) <= 4),
    )


def weibull(archive: Archive, experiment: str) -> Measured:
    results = archive.ask(tails, experiment, archive.over_most(experiment))
    helped, hurt = [r.weibull.helped for r in results], [r.weibull.hurt for r in results]
    return Measured(f"k {format_mean(helped)} helping, {format_mean(hurt)} hurting", bool(max(helped + hurt) < 1))


def learned_early(archive: Archive, experiment: str, part: float) -> Measured:
    """Measure the percentage of the loss change that occurs in the first `part` of the iterations, a fraction."""

    def share(result: Layers) -> float:
        total = result.lca.sum(axis=1)
        return float(100 * np.nansum(total[: int(part * len(total))]) / np.nansum(total))

    found = [share(result) for result in archive.layers(experiment)]
    return Measured(format_mean(found, 1, "% of the loss change"), bool(np.mean(found) >= 80))


def over_half(archive: Archive, experiments: Sequence[str]) -> Measured:
    """Check that more than half of the parameters help in every experiment, by a t-test over its runs."""
    verdicts, parts = [], []
    for each in experiments:
        found = np.array([result.percentage for result in archive.helping(each)])
        verdicts.append(has_sign(found - 50, +1))
        parts.append(f"{each} {format_mean(found)}")
    return Measured(", ".join(parts), all_agree(verdicts))
