"""Measurements of which layers hurt, and of freezing or slowing them.     [arXiv 1909.01440, section 4]

A layer helps if its total LCA is below 0 and hurts if it is above 0.
"""

from collections.abc import Callable, Sequence

import numpy as np

from paper.archive import Archive, Floats
from paper.experiments import MOMENTUM, RESNET
from paper.measured import Measured, all_agree, compare_groups, describe_layer, format_mean, has_sign, is_lower

REGULAR = RESNET
FIRST, LAST = 0, -1
N_FIRST = 10  # number of iterations that count as the first few


def first_and_last_hurt(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment), archive.layer_names(experiment)
    text = ", ".join(describe_layer(names[i], totals[:, i]) for i in (FIRST, LAST))
    return Measured(text, all_agree(has_sign(totals[:, i], +1) for i in (FIRST, LAST)))


def others_help(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment)[:, 1:-1], archive.layer_names(experiment)[1:-1]
    verdicts = [has_sign(values, -1) for values in totals.T]
    rest = [name for name, verdict in zip(names, verdicts, strict=True) if verdict is False]
    n = len(names) - len(rest)
    return Measured(f"{n} of {len(names)}" + (f"; not {', '.join(rest)}" if rest else ""), all_agree(verdicts))


def all_help(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment), archive.layer_names(experiment)
    text = ", ".join(f"{name} {format_mean(values, 3)}" for name, values in zip(names, totals.T, strict=True))
    return Measured(f"{text} nats", all_agree(has_sign(values, -1) for values in totals.T))


def layer_hurts(archive: Archive, experiment: str, layer: int) -> Measured:
    totals, name = archive.totals(experiment)[:, layer], archive.layer_names(experiment)[layer]
    return Measured(describe_layer(name, totals), has_sign(totals, +1))


def last_hurts_at_first(archive: Archive, experiment: str) -> Measured:
    results, name = archive.layers(experiment), archive.layer_names(experiment)[LAST]
    found = np.array([np.nansum(result.lca[:N_FIRST, LAST]) for result in results])
    return Measured(describe_layer(f"{name}, first {N_FIRST} iterations:", found), has_sign(found, +1))


def last_two_inconsistent(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment)[:, -2:], archive.layer_names(experiment)[-2:]
    text = ", ".join(describe_layer(name, values) for name, values in zip(names, totals.T, strict=True))
    clear = [has_sign(values, sign) for values in totals.T for sign in (+1, -1)]
    return Measured(text, None if None in clear else not any(clear))


def hurting_layers(
    archive: Archive, experiments: Sequence[str], at_least: int = 0, at_most: int | None = None
) -> Measured:
    """Count the layers whose total LCA is significantly above 0 in each experiment."""
    parts, verdicts = [], list[bool | None]()
    for experiment in experiments:
        totals, names = archive.totals(experiment), archive.layer_names(experiment)
        clear = [has_sign(values, +1) for values in totals.T]
        means = dict(zip(names, totals.mean(axis=0), strict=True))
        hurting = [f"{name} {means[name]:+.4f}" for name, hurts in zip(names, clear, strict=True) if hurts]
        n = len(hurting)
        verdicts.append(None if None in clear else at_least <= n and (at_most is None or n <= at_most))
        parts.append(f"{experiment}: {', '.join(hurting) or 'none'}, of {len(names)} layers")
    return Measured("; ".join(parts), all_agree(verdicts))


def collect_losses(archive: Archive, experiment: str) -> dict[str, tuple[Floats, Floats]]:
    """Return the loss at the last iterate by split, for the experiment and the regular runs, shape (run,) each."""
    found = {}
    for name in ("train", "final"):
        changed, regular = archive.last_loss(experiment, name), archive.last_loss(REGULAR, name)
        found[archive.first(experiment, name).allocation(name).attributes["split"]] = changed, regular
    return found


def better_in_the_end(archive: Archive, experiment: str) -> Measured:
    found = collect_losses(archive, experiment)
    text = "; ".join(f"{split} {compare_groups(*pair)}" for split, pair in found.items())
    return Measured(text, all_agree(is_lower(*pair) for pair in found.values()))


def not_better_not_worse(archive: Archive, experiment: str) -> Measured:
    """Check that no loss is significantly lower, and that the training loss is not more than 10 % higher."""
    found = collect_losses(archive, experiment)
    text = "; ".join(f"{split} {compare_groups(*pair)}" for split, pair in found.items())
    changed, regular = found["train"]
    lower = [is_lower(*pair) for pair in found.values()]
    impaired = is_lower(1.1 * regular, changed)
    return Measured(text, None if None in (*lower, impaired) else not (any(lower) or impaired))


def others_help_less(archive: Archive, experiment: str, layer: int) -> Measured:
    """Compare the total LCA of all layers except the changed one with that in the regular runs."""
    changed, regular = (np.delete(archive.totals(each), layer, axis=1).sum(axis=1) for each in (experiment, REGULAR))
    return Measured(compare_groups(changed, regular), is_lower(regular, changed))


def neighbor_helps_less(archive: Archive, experiment: str, layer: int) -> Measured:
    """Compare the change in LCA of the neighbor of the changed layer with the mean change in the other layers."""
    neighbor = {FIRST: 1, LAST: -2}[layer]
    change = archive.totals(experiment).mean(axis=0) - archive.totals(REGULAR).mean(axis=0)
    rest = np.delete(change, [layer, neighbor]).mean()
    name = archive.layer_names(experiment)[neighbor]
    return Measured(
        f"{name} {change[neighbor]:+.4f} nats, the others {rest:+.4f}", bool(change[neighbor] > max(rest, 0))
    )


def slow_as_frozen(archive: Archive) -> Measured:
    """Check whether LCA by layer with a slow last layer is closer to the frozen runs than to the regular runs."""
    slow, frozen, regular = (
        archive.totals(each).mean(axis=0) for each in ("cifar-resnet-last-slow", "cifar-resnet-last-frozen", REGULAR)
    )
    to_frozen, to_regular = np.abs(slow - frozen).sum(), np.abs(slow - regular).sum()
    text = f"sum of absolute differences over layers: {to_frozen:.4f} nats to frozen, {to_regular:.4f} to regular"
    return Measured(text, bool(to_frozen < to_regular))


def experiments_by_delay() -> dict[int, str]:
    """Return a mapping from the delay of the last layer to the name of the experiment."""
    return {**{delay: f"cifar-resnet-delay-{delay}" for delay in MOMENTUM}, 9: REGULAR}


def linear_in_delay(archive: Archive) -> Measured:
    """Fit a line to the mean LCA of the last layer against the delay of its momentum."""
    delays, means = _by_delay(archive, lambda totals: totals[:, LAST])
    slope, _ = np.polyfit(delays, means, 1)
    r_squared = np.corrcoef(delays, means)[0, 1] ** 2
    text = f"{means[0]:+.4f} nats at delay 0 to {means[-1]:+.4f} at 9, {slope:+.4f} per iteration, R² = {r_squared:.2f}"
    return Measured(text, bool(slope > 0 and r_squared >= 0.8 and means[0] < 0 < means[-1]))


def others_by_delay(archive: Archive) -> Measured:
    """Fit a line to the total LCA of all other layers against the delay of the last layer."""
    delays, means = _by_delay(archive, lambda totals: totals[:, :LAST].sum(axis=1))
    slope, _ = np.polyfit(delays, means, 1)
    neighbor = _by_delay(archive, lambda totals: totals[:, LAST - 1])[1]
    text = f"their sum {means[0]:+.4f} nats at delay 0, {means[-1]:+.4f} at 9; the neighbor {neighbor[0]:+.4f} at 0"
    return Measured(text, bool(slope < 0 and neighbor[0] > 0))


def _by_delay(archive: Archive, of: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    experiments = experiments_by_delay()
    means = [float(of(archive.totals(experiment)).mean()) for experiment in experiments.values()]
    return np.array(list(experiments), np.float64), np.array(means)
