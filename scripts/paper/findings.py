"""The findings of the paper, as a table: what it says, by which criterion we agree, and how it is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paper.archive import Archive
from paper.experiments import ADAM_RATE, MOMENTUM, PLAIN_RATE, RATE, RATES, SWEEP

import lca
from lca.analysis import error, helping, oscillation, overfit, prune, subset, synchrony, tails
from lca.analysis.helping import Helping
from lca.analysis.report import p_value
from lca.analysis.statistics import differs_between, differs_from_zero, mean_and_deviation
from lca.analysis.trend import trend
from lca.text import plus_minus

Floats = NDArray[np.float64]

SIGNIFICANT = 0.05  # p-values below; two runs or fewer have none, and then every run has to agree


@dataclass(frozen=True)
class Measured:
    """told: what was measured, in words. agrees: by the criterion of the finding; None where that cannot be said."""

    told: str
    agrees: bool | None


@dataclass(frozen=True)
class Finding:
    """where: in the paper. says: what it says. criterion: when we agree. figures: names of paper.drawings."""

    where: str
    says: str
    criterion: str
    measure: Callable[[Archive], Measured]
    figures: Sequence[str] = ()


def spread(values: Any, digits: int = 2, unit: str = "") -> str:
    """Mean ± standard deviation over runs."""
    mean, deviation = mean_and_deviation(np.asarray(values, np.float64))
    return plus_minus(float(mean), float(deviation), digits) + (f" {unit}" if unit else "")


# How noisy learning is


def helping_near(archive: Archive, experiment: str, value: float, tolerance: float) -> Measured:
    found = [result.percentage for result in archive.helping(experiment)]
    return Measured(spread(found, 2, "%"), bool(abs(np.mean(found) - value) <= tolerance))


def helping_by_rate(archive: Archive, optimizer: str, rate: float, value: float) -> Measured:
    """The percentage at each learning rate; the regular runs are one point of the curve."""
    at = rate_curve(archive, optimizer, rate)
    told = ", ".join(f"{percentage:.1f} % at {rate:g}" for rate, (percentage, _) in at.items())
    percentages = [percentage for percentage, _ in at.values()]
    return Measured(told, min(percentages) <= value <= max(percentages))


def rate_curve(archive: Archive, optimizer: str, rate: float) -> dict[float, tuple[float, float]]:
    """By learning rate, the percentage helping, and the training loss at the end of what is allocated."""
    experiments = {each: f"mnist-fc-{optimizer}-rate-{each:g}" for each in RATES[optimizer]}
    experiments[rate] = f"mnist-fc-{optimizer}"
    curve = {}
    for each, experiment in sorted(experiments.items()):
        results = archive.helping(experiment)
        losses = [result.loss[np.isfinite(result.loss)][-1] for result in results]
        curve[each] = float(np.mean([result.percentage for result in results])), float(np.mean(losses))
    return curve


TABLE_1 = {
    "mnist-fc-plain": ("MNIST–FC, SGD without momentum", "53.72 ± 0.05", 1.5),
    "mnist-fc-sgd": ("MNIST–FC, SGD", "57.79 ± 0.16", 1.0),
    "mnist-fc-adam": ("MNIST–FC, Adam", "55.82 ± 0.09", 1.5),
    "mnist-lenet-sgd": ("MNIST–LeNet, SGD", "53.97 ± 0.48", 1.5),
    "mnist-lenet-adam": ("MNIST–LeNet, Adam", "51.77 ± 0.21", 1.5),
    "cifar-resnet-sgd": ("CIFAR–ResNet, SGD", "50.66 ± 0.14", 0.5),
    "cifar-resnet-adam": ("CIFAR–ResNet, Adam", "50.30 ± 0.004", 0.5),
    "cifar-allcnn-sgd": ("CIFAR–AllCNN, SGD", "51.09 ± 0.23", 0.5),
    "cifar-allcnn-adam": ("CIFAR–AllCNN, Adam", "50.19 ± 0.01", 0.5),
}


def all_within(archive: Archive, experiments: Sequence[str], low: float, high: float) -> Measured:
    found = {each: float(np.mean([r.percentage for r in archive.helping(each)])) for each in experiments}
    least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    told = f"{found[least]:.2f} % ({least}) to {found[most]:.2f} % ({most})"
    return Measured(told, low <= found[least] and found[most] <= high)


def without_effect(archive: Archive, experiment: str, low: float, high: float) -> Measured:
    zero = [float(np.nanmean(result.shares()[2])) for result in archive.helping(experiment)]
    return Measured(spread(zero, 1, "%"), bool(low <= np.mean(zero) <= high))


def more_help_early(archive: Archive, experiment: str) -> Measured:
    """Mean percentage in the first 2 % of the iterations, and in all."""
    pairs = [_early_and_all(result) for result in archive.ask(helping, experiment)]
    early, whole = zip(*pairs, strict=True)
    told = f"{spread(early, 1, '%')}, in all {spread(whole, 1, '%')}"
    return Measured(told, all(0 < a - b <= 10 for a, b in pairs))


def _early_and_all(result: Helping) -> tuple[float, float]:
    counted = np.flatnonzero(result.iterations.counted)
    helped, hurt = result.helped[counted].sum(1), result.hurt[counted].sum(1)
    percentage = 100 * helped / np.maximum(helped + hurt, 1)
    n_early = max(1, int((counted < 0.02 * len(result.iterations.counted)).sum()))
    return float(percentage[:n_early].mean()), float(percentage.mean())


def layers_near_half(archive: Archive, experiment: str, low: float, high: float) -> Measured:
    by_layer = np.mean([result.percentage_by_layer for result in archive.helping(experiment)], axis=0)
    told = f"{by_layer.min():.1f} to {by_layer.max():.1f} %, {len(by_layer)} layers"
    return Measured(told, bool(low <= by_layer.min() and by_layer.max() <= high))


def parameters_half_the_time(archive: Archive, experiment: str, low: float, high: float) -> Measured:
    def mean(result: Helping) -> float:
        middles = (np.arange(len(result.histogram)) + 0.5) * 100 / len(result.histogram)
        return float(middles @ result.histogram / result.histogram.sum())

    found = [mean(result) for result in archive.ask(helping, experiment)]
    return Measured(spread(found, 1, "% of the iterations"), bool(low <= np.mean(found) <= high))


def turns_and_crossings(archive: Archive, experiment: str, per_turn: float, per_crossing: float) -> Measured:
    results = archive.ask(oscillation, experiment)
    turns = [result.iterations_per(result.turns)[0] for result in results]
    crossings = [result.iterations_per(result.crossings)[0] for result in results if result.crossings]
    near = [abs(np.mean(a) / b - 1) <= 0.2 for a, b in ((turns, per_turn), (crossings, per_crossing))]
    return Measured(f"once in {spread(turns, 1)} and {spread(crossings, 1)} iterations", bool(all(near)))


def heavy_tails(archive: Archive, experiment: str) -> Measured:
    """What is contributed beyond two standard deviations, in multiples of a Gaussian's."""
    found = [result.beyond(result.both, 2) for result in archive.ask(tails, experiment, archive.over_most(experiment))]
    return Measured(f"{spread(found, 1)} times, beyond two standard deviations", bool(2 <= np.mean(found) <= 4))


def weibull(archive: Archive, experiment: str) -> Measured:
    results = archive.ask(tails, experiment, archive.over_most(experiment))
    helped, hurt = [r.weibull_helped for r in results], [r.weibull_hurt for r in results]
    return Measured(f"k {spread(helped)} helping, {spread(hurt)} hurting", bool(max(helped + hurt) < 1))


def learned_early(archive: Archive, experiment: str, part: float) -> Measured:
    """Of the whole loss change, what happens in the first part of the iterations."""

    def share(result: lca.analysis.Layers) -> float:
        total = np.nansum(result.lca, axis=1)
        return float(100 * total[: int(part * len(total))].sum() / total.sum())

    found = [share(result) for result in archive.layers(experiment)]
    return Measured(spread(found, 1, "% of the loss change"), bool(np.mean(found) >= 80))


# Layers that hurt


def clearly(values: Floats, sign: int) -> bool:
    """Whether values (run,) have this sign: by their mean and a t-test, or each of two or less."""
    if len(values) < 3:
        return bool((sign * values > 0).all())
    return bool(sign * values.mean() > 0 and differs_from_zero(values[:, None])[0] < SIGNIFICANT)


def told_of(name: str, values: Floats) -> str:
    p = differs_from_zero(values[:, None])[0]
    return f"{name} {spread(values, 4, 'nats')}" + ("" if np.isnan(p) else f" (p = {p_value(p)})")


def first_and_last_hurt(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment), archive.layer_names(experiment)
    told = f"{told_of(names[0], totals[:, 0])}, {told_of(names[-1], totals[:, -1])}"
    return Measured(told, clearly(totals[:, 0], +1) and clearly(totals[:, -1], +1))


def others_help(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment)[:, 1:-1], archive.layer_names(experiment)[1:-1]
    not_helping = [name for name, values in zip(names, totals.T, strict=True) if not clearly(values, -1)]
    told = (
        "all help"
        if not not_helping
        else f"{len(names) - len(not_helping)} of {len(names)}; not {', '.join(not_helping)}"
    )
    return Measured(told, not not_helping)


def all_help(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment), archive.layer_names(experiment)
    told = ", ".join(f"{name} {spread(values, 3)}" for name, values in zip(names, totals.T, strict=True))
    return Measured(f"{told} nats", all(clearly(values, -1) for values in totals.T))


def last_hurts(archive: Archive, experiment: str) -> Measured:
    totals, name = archive.totals(experiment), archive.layer_names(experiment)[-1]
    return Measured(told_of(name, totals[:, -1]), clearly(totals[:, -1], +1))


def first_hurts(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment), archive.layer_names(experiment)
    told = f"{told_of(names[0], totals[:, 0])}; last two: {', '.join(f'{v:+.4f}' for v in totals[:, -2:].mean(0))} nats"
    return Measured(told, clearly(totals[:, 0], +1))


def hurting_layers(archive: Archive, experiments: Sequence[str], at_least: int, at_most: int) -> Measured:
    told, n_hurting = [], []
    for experiment in experiments:
        mean, names = archive.totals(experiment).mean(axis=0), archive.layer_names(experiment)
        hurting = [f"{name} {value:+.4f}" for name, value in zip(names, mean, strict=True) if value > 0]
        n_hurting.append(len(hurting))
        told.append(f"{experiment}: {', '.join(hurting) or 'none'}, of {len(names)}")
    return Measured("; ".join(told), all(at_least <= n <= at_most for n in n_hurting))


def better_in_the_end(archive: Archive, experiment: str, wanted: bool) -> Measured:
    """The loss at the last iterate, against the regular runs, on the training split and a held-out one."""
    told, lower, tested = [], [], True
    for name in ("train", "final"):
        regular, changed = (archive.last_loss(each, name) for each in ("cifar-resnet-sgd", experiment))
        p = float(differs_between(regular[:, None], changed[:, None])[0])
        split = archive.runs(experiment, name)[0].allocation(name).attributes["split"]
        told.append(f"{split} {spread(changed, 4)} against {spread(regular, 4)} nats (p = {p_value(p)})")
        lower.append(bool(changed.mean() < regular.mean() and p < SIGNIFICANT))
        tested = tested and not np.isnan(p)
    return Measured("; ".join(told), (all(lower) if wanted else not any(lower)) if tested else None)


def others_help_less(archive: Archive, experiment: str, layer: int) -> Measured:
    """layer: the one that was changed, 0 or −1; what all others contribute, against the regular runs."""
    regular, changed = (
        np.delete(archive.totals(each), layer, axis=1).sum(axis=1) for each in ("cifar-resnet-sgd", experiment)
    )
    p = float(differs_between(regular[:, None], changed[:, None])[0])
    told = f"{spread(changed, 4)} against {spread(regular, 4)} nats (p = {p_value(p)})"
    return Measured(told, None if np.isnan(p) else bool(changed.mean() > regular.mean() and p < SIGNIFICANT))


def slow_as_frozen(archive: Archive) -> Measured:
    """Whether a slow last layer makes the layers' LCA more like that with a frozen one than like the regular."""
    slow, frozen, regular = (
        archive.totals(f"cifar-resnet-{each}").mean(axis=0) for each in ("last-slow", "last-frozen", "sgd")
    )
    to_frozen, to_regular = np.abs(slow - frozen).sum(), np.abs(slow - regular).sum()
    told = f"Σ over layers of |difference|: {to_frozen:.4f} nats to frozen, {to_regular:.4f} to regular"
    return Measured(told, bool(to_frozen < to_regular))


def linear_in_delay(archive: Archive) -> Measured:
    experiments = [*(f"cifar-resnet-delay-{delay}" for delay in MOMENTUM), "cifar-resnet-sgd"]
    runs = [run for experiment in experiments for run in archive.runs(experiment)]
    result = trend(runs, "last:momentum", layer="last", delay=True)
    slope, r_squared = float(result.slope[0]), float(result.r_squared[0])
    told = f"{slope:+.4f} nats an iteration of delay, R² = {r_squared:.2f}, {len(runs)} runs"
    return Measured(told, slope > 0 and r_squared >= 0.8)


# Synchrony


def synchronised_by_class(archive: Archive) -> Measured:
    results = archive.ask(synchrony, "mnist-fc-sgd", by_class=True)
    series = [result.series["LCA by class"] for result in results]
    n_classes = len(results[0].classes)
    found = [s.n / n_classes for s in series]
    chance = [s.baseline.mean() / n_classes for s in series]
    beyond, n_shifts = sum((s.baseline >= s.n).sum() for s in series), sum(len(s.baseline) for s in series)
    told = f"{spread(found, 1)} a class, by chance {spread(chance, 2)}; {beyond} of {n_shifts:,} random shifts reach it"
    return Measured(told, not beyond and bool(abs(np.mean(found) - 9.4) <= 3))


def lca_beyond_its_factors(archive: Archive) -> Measured:
    """The common peaks of LCA over all classes, and how many of these the gradient's norm and the motion have too."""
    results = archive.ask(synchrony, "mnist-fc-sgd", by_class=True)
    common = [{what: set(series.synchronised[0]) for what, series in result.series.items()} for result in results]
    n = [len(of_run["LCA"]) for of_run in common]
    chance = [result.series["LCA"].baseline.mean() for result in results]
    shared = {what: [len(c["LCA"] & c[what]) for c in common] for what in ("gradient norm", "motion")}
    told = ", ".join(f"{spread(found, 1)} of them of the {what}" for what, found in shared.items())
    agrees = np.mean(n) > np.mean(chance) and all(np.mean(found) < np.mean(n) / 2 for found in shared.values())
    return Measured(f"{spread(n, 1)} of 20, by chance {spread(chance, 1)}; {told}", bool(agrees))


# Errors


def first_order_against_simpson(archive: Archive, experiment: str) -> Measured:
    summaries = error(archive.runs(experiment, "first-order")[0], ("train", "first-order", "trapezoid")).summaries
    off = {name: 100 * abs(s.cumulative_residual / s.change) for name, s in summaries.items()}
    told = (
        f"first order {off['first-order']:.3g} %, trapezoid {off['trapezoid']:.2g} %, as allocated {off['train']:.2g} %"
    )
    return Measured(f"{told} of the loss change", off["train"] < 1 and off["first-order"] > 10 * off["train"])


def within_tolerance(archive: Archive, experiments: Sequence[str]) -> Measured:
    """Every iteration of every run."""
    n, unconverged, largest, cumulative = 0, 0, 0.0, 0.0
    for experiment in experiments:
        for run in archive.runs(experiment):
            summary = error(run, ("train",)).summaries["train"]
            n, unconverged = n + summary.iterations, unconverged + summary.unconverged + summary.not_finite
            largest = max(largest, summary.largest_residual)
            cumulative = max(cumulative, abs(summary.cumulative_residual / summary.change))
    told = f"{n:,} iterations, {unconverged} not converged; residuals up to {largest:.1e} nats an iteration"
    return Measured(f"{told} and {100 * cumulative:.2g} % in all", not unconverged and cumulative < 0.01)


# What the paper leaves open


def subsets(archive: Archive) -> Measured:
    (result,) = archive.ask(subset, "mnist-fc-sgd")[:1]
    told = [
        f"{a.examples:,}: layers off by {100 * a.layer_error:.1f} %, signs agree for {100 * a.same_sign:.0f} %, "
        f"percentage helping off by {a.helping_error:+.1f}"
        for a in result.agreements.values()
    ]
    return Measured(f"of {result.n_examples:,} examples, {'; '.join(told)}", None)


def overfitting(archive: Archive) -> Measured:
    archive.runs("mnist-fc-sgd", "val")
    results = archive.ask(overfit, "mnist-fc-sgd")
    gap = np.array([np.nansum(result.gap, axis=0) for result in results])
    told = "; ".join(told_of(name, values) for name, values in zip(results[0].layers, gap.T, strict=True))
    return Measured(f"learned on train and not on val: {told}", None)


def pruning(archive: Archive) -> Measured:
    (run,) = archive.runs("mnist-fc-sgd")[:1]
    result = prune(run, archive.problem("mnist-fc-sgd"))
    at = int(np.argmin(np.abs(result.pruned - 0.9)))
    accuracy = result.accuracy["val"][:, at]
    told = ", ".join(f"by {name} {100 * part:.1f} %" for name, part in zip(result.criteria, accuracy, strict=True))
    return Measured(f"right on val with {100 * result.pruned[at]:.0f} % of the weights at 0: {told}", None)


def transformer(archive: Archive) -> Measured:
    (helped,), totals = archive.helping("charlm-transformer"), archive.totals("charlm-transformer")[0]
    names = archive.layer_names("charlm-transformer")
    hurting = [name for name, value in zip(names, totals, strict=True) if value > 0]
    told = f"{helped.percentage:.1f} % help; of {len(names)} layers these hurt over all: {', '.join(hurting) or 'none'}"
    return Measured(told, None)


FC, RESNET = "mnist-fc-sgd", "cifar-resnet-sgd"
REGULAR_RATES = {"sgd": RATE, "plain": PLAIN_RATE, "adam": ADAM_RATE}
OPEN = "the paper leaves it open"

FINDINGS = [
    *(
        Finding(
            "Table 1",
            f"{name}: {value} % of the parameters help",
            f"the mean within ± {tolerance:g} of it",
            partial(helping_near, experiment=experiment, value=float(value.split(" ")[0]), tolerance=tolerance),
        )
        for experiment, (name, value, tolerance) in TABLE_1.items()
    ),
    *(
        Finding(
            "Table 1",
            f"{TABLE_1[f'mnist-fc-{optimizer}'][0]}: learning rates are not given, so over all of them",
            "the paper's percentage is between the extremes",
            partial(
                helping_by_rate,
                optimizer=optimizer,
                rate=rate,
                value=float(TABLE_1[f"mnist-fc-{optimizer}"][1].split(" ")[0]),
            ),
            ["rates"],
        )
        for optimizer, rate in REGULAR_RATES.items()
    ),
    Finding(
        "Section 3",
        "The percentage varies in a small range of 50 to 58 %",
        "49.5 to 58.5 %",
        partial(all_within, experiments=list(TABLE_1), low=49.5, high=58.5),
    ),
    Finding(
        "Figure 2",
        "Learning is strongest in early iterations and greatly diminished after an epoch of four",
        "80 % of the loss change in the first quarter",
        partial(learned_early, experiment=FC, part=0.25),
        ["film-mnist-fc", "frame-mnist-fc", "film-mnist-lenet", "frame-mnist-lenet"],
    ),
    Finding(
        "Figure 3a",
        "MNIST–FC: around 20 % of the parameters have no effect",
        "15 to 25 %",
        partial(without_effect, experiment=FC, low=15, high=25),
        ["helping-mnist-fc"],
    ),
    Finding(
        "Figure 3a",
        "CIFAR–ResNet: rarely any parameter has none",
        "at most 1 %",
        partial(without_effect, experiment=RESNET, low=0, high=1),
        ["helping-cifar-resnet"],
    ),
    *(
        Finding(
            "Figure 3a",
            f"{name}: in the earliest iterations more help, but only slightly",
            "more in the first 2 % than in all, by 10 points at most, in every run",
            partial(more_help_early, experiment=experiment),
        )
        for name, experiment in (("MNIST–FC", FC), ("CIFAR–ResNet", RESNET))
    ),
    *(
        Finding(
            "Figure 3c",
            f"{name}: near 50 % help in every layer",
            "all in 45 to 60 %",
            partial(layers_near_half, experiment=experiment, low=45, high=60),
            [f"layers-helping-{figure}"],
        )
        for name, experiment, figure in (("MNIST–FC", FC, "mnist-fc"), ("CIFAR–ResNet", RESNET, "cifar-resnet"))
    ),
    *(
        Finding(
            "Figure 3d",
            f"{name}: a parameter helps in about half of the iterations",
            "45 to 55 %",
            partial(parameters_half_the_time, experiment=experiment, low=45, high=55),
            [f"parameters-helping-{figure}"],
        )
        for name, experiment, figure in (("MNIST–FC", FC, "mnist-fc"), ("CIFAR–ResNet", RESNET, "cifar-resnet"))
    ),
    Finding(
        "Section 3, S3",
        "CIFAR–ResNet: weights turn once in 6.7 iterations, gradients change sign once in 9.5",
        "both within a fifth",
        partial(turns_and_crossings, experiment=RESNET, per_turn=6.7, per_crossing=9.5),
        ["oscillation-cifar-resnet"],
    ),
    Finding(
        "S3",
        "CIFAR–ResNet: with other learning rates, momenta and batch sizes 50.3 to 51.6 % help",
        "49.8 to 52.1 %",
        partial(all_within, experiments=[RESNET, *(f"cifar-resnet-{name}" for name in SWEEP)], low=49.8, high=52.1),
        ["sweep"],
    ),
    *(
        Finding(
            where,
            f"{name}: {says}",
            criterion,
            partial(measure, experiment=experiment),
            [f"distribution-{figure}"],
        )
        for where, says, criterion, measure in (
            ("S10", "the tails contribute about three times what a Gaussian's would", "2 to 4 times", heavy_tails),
            ("Section 3", "LCA is like a Weibull distribution with k < 1", "k < 1 on both sides, every run", weibull),
        )
        for name, experiment, figure in (("MNIST–FC", FC, "mnist-fc"), ("CIFAR–ResNet", RESNET, "cifar-resnet"))
    ),
    Finding(
        "Figure 4",
        "CIFAR–ResNet, SGD: the first and the last layer hurt (p < 1e-4)",
        "both above 0, p < 0.05",
        partial(first_and_last_hurt, experiment=RESNET),
        ["layers-cifar-resnet"],
    ),
    Finding(
        "Figure 4",
        "CIFAR–ResNet, SGD: all other layers help (p < 1e-4)",
        "all below 0, p < 0.05",
        partial(others_help, experiment=RESNET),
    ),
    Finding(
        "Figure 4",
        "Freezing the last layer lowers train and test loss (p < 0.001)",
        "both lower, p < 0.05",
        partial(better_in_the_end, experiment="cifar-resnet-last-frozen", wanted=True),
        ["groups-last"],
    ),
    Finding(
        "Figure 4",
        "With the last layer frozen, the other layers help less",
        "their sum is nearer to 0, p < 0.05",
        partial(others_help_less, experiment="cifar-resnet-last-frozen", layer=-1),
    ),
    Finding(
        "Figure 4",
        "A tenth of the learning rate in the last layer is like freezing it",
        "the layers' LCA is nearer to that of frozen than of regular runs",
        slow_as_frozen,
    ),
    Finding(
        "Figure S13",
        "Freezing the first layer is not any better",
        "neither loss lower with p < 0.05",
        partial(better_in_the_end, experiment="cifar-resnet-first-frozen", wanted=False),
        ["groups-first"],
    ),
    Finding(
        "Figure S13",
        "With the first layer frozen, the other layers help less",
        "their sum is nearer to 0, p < 0.05",
        partial(others_help_less, experiment="cifar-resnet-first-frozen", layer=0),
    ),
    Finding(
        "Figure 5",
        "The LCA of the last layer is fairly linear in the delay of its momentum, from helping to hurting",
        "R² ≥ 0.8, rising",
        linear_in_delay,
        ["trend"],
    ),
    Finding(
        "Figure S11",
        "MNIST–FC, SGD: all layers help",
        "all below 0, p < 0.05",
        partial(all_help, experiment=FC),
        ["layers-mnist-fc"],
    ),
    Finding(
        "Figure S11",
        "MNIST–LeNet, SGD: all layers help",
        "all below 0, p < 0.05",
        partial(all_help, experiment="mnist-lenet-sgd"),
        ["layers-mnist-lenet"],
    ),
    Finding(
        "Section 4",
        "MNIST–ResNet, SGD: the last layer hurts",
        "above 0, p < 0.05",
        partial(last_hurts, experiment="mnist-resnet-sgd"),
        ["layers-mnist-resnet"],
    ),
    Finding(
        "Figure S14",
        "CIFAR–AllCNN, SGD: the last layer hurts",
        "above 0, p < 0.05",
        partial(last_hurts, experiment="cifar-allcnn-sgd"),
        ["layers-cifar-allcnn"],
    ),
    Finding(
        "Figure S12",
        "Two VGG-like networks: several layers hurt",
        "two or more in each, by the mean over runs",
        partial(hurting_layers, experiments=["cifar-vgg-sgd", "cifar-vgg-mini-sgd"], at_least=2, at_most=99),
        ["layers-cifar-vgg", "layers-cifar-vgg-mini"],
    ),
    Finding(
        "Section 4",
        "CIFAR–ResNet, Adam: the first layer hurts, the last two inconsistently",
        "the first above 0, p < 0.05",
        partial(first_hurts, experiment="cifar-resnet-adam"),
        ["layers-cifar-resnet-adam"],
    ),
    Finding(
        "Section 4",
        "CIFAR–AllCNN, Adam: no layer hurts",
        "none, by the mean over runs",
        partial(hurting_layers, experiments=["cifar-allcnn-adam"], at_least=0, at_most=0),
        ["layers-cifar-allcnn-adam"],
    ),
    Finding(
        "Figure 6",
        "MNIST–FC: 9.4 iterations a class are peaks of all layers, 0.4 by chance (p < 0.001)",
        "within 3 of 9.4, and no shift of any run reaches as many",
        synchronised_by_class,
        ["peaks-by-class"],
    ),
    Finding(
        "Section 5",
        "MNIST–FC: learning is synchronised, the gradient and the motion are so otherwise",
        "more common peaks of LCA than by chance, and under half of them are the gradient's, under half the motion's",
        lca_beyond_its_factors,
        ["peaks-lca", "peaks-gradient", "peaks-motion"],
    ),
    *(
        Finding(
            "Table S1",
            f"{name}: Simpson's rule shrinks the accumulated error drastically, to under 1 %",
            "under 1 %, and a tenth of the first order's",
            partial(first_order_against_simpson, experiment=experiment),
            [f"error-{figure}"],
        )
        for name, experiment, figure in (
            ("MNIST–FC", FC, "mnist-fc"),
            ("MNIST–LeNet", "mnist-lenet-sgd", "mnist-lenet"),
            ("CIFAR–ResNet", RESNET, "cifar-resnet"),
            ("CIFAR–AllCNN", "cifar-allcnn-sgd", "cifar-allcnn"),
        )
    ),
    Finding(
        "Section 2",
        "Steps are halved until the error of an iteration is under 0.001, in the end under 1 % in all: MNIST–FC",
        "so it is, in all of them",
        partial(within_tolerance, experiments=["mnist-fc-sgd", "mnist-fc-plain", "mnist-fc-adam"]),
    ),
    Finding("Section 6.2", "Gradients over a subset, MNIST–FC", OPEN, subsets, ["subset"]),
    Finding("Section 6.2", "Which layers overfit, MNIST–FC", OPEN, overfitting, ["overfit"]),
    Finding("Section 6.2", "Pruning by LCA, MNIST–FC", OPEN, pruning, ["prune"]),
    Finding("Section 5", "Other architectures, such as transformers", OPEN, transformer, ["layers-transformer"]),
]
