"""Which layers hurt, and what freezing, slowing and hurrying them does.     [arXiv 1909.01440, section 4]"""

from collections.abc import Callable, Sequence

import numpy as np

from paper.archive import Archive, Floats
from paper.experiments import MOMENTUM
from paper.measured import Measured, against, all_of, clearly, clearly_less, describe_layer, spread

REGULAR = "cifar-resnet-sgd"
FIRST, LAST = 0, -1
N_FIRST = 10  # iterations that are the first few


def first_and_last_hurt(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment), archive.layer_names(experiment)
    told = ", ".join(describe_layer(names[i], totals[:, i]) for i in (FIRST, LAST))
    return Measured(told, all_of(clearly(totals[:, i], +1) for i in (FIRST, LAST)))


def others_help(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment)[:, 1:-1], archive.layer_names(experiment)[1:-1]
    verdicts = [clearly(values, -1) for values in totals.T]
    rest = [name for name, verdict in zip(names, verdicts, strict=True) if verdict is False]
    n = len(names) - len(rest)
    return Measured(f"{n} of {len(names)}" + (f"; not {', '.join(rest)}" if rest else ""), all_of(verdicts))


def all_help(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment), archive.layer_names(experiment)
    told = ", ".join(f"{name} {spread(values, 3)}" for name, values in zip(names, totals.T, strict=True))
    return Measured(f"{told} nats", all_of(clearly(values, -1) for values in totals.T))


def layer_hurts(archive: Archive, experiment: str, layer: int) -> Measured:
    totals, name = archive.totals(experiment)[:, layer], archive.layer_names(experiment)[layer]
    return Measured(describe_layer(name, totals), clearly(totals, +1))


def last_hurts_at_first(archive: Archive, experiment: str) -> Measured:
    """The LCA of the last layer in the first iterations."""
    results, name = archive.layers(experiment), archive.layer_names(experiment)[LAST]
    found = np.array([np.nansum(result.lca[:N_FIRST, LAST]) for result in results])
    return Measured(describe_layer(f"{name}, {N_FIRST} iterations:", found), clearly(found, +1))


def last_two_inconsistent(archive: Archive, experiment: str) -> Measured:
    totals, names = archive.totals(experiment)[:, -2:], archive.layer_names(experiment)[-2:]
    told = ", ".join(describe_layer(name, values) for name, values in zip(names, totals.T, strict=True))
    clear = [clearly(values, sign) for values in totals.T for sign in (+1, -1)]
    return Measured(told, None if None in clear else not any(clear))


def hurting_layers(
    archive: Archive, experiments: Sequence[str], at_least: int = 0, at_most: int | None = None
) -> Measured:
    """How many layers clearly hurt, in each of the experiments."""
    told, verdicts = [], list[bool | None]()
    for experiment in experiments:
        totals, names = archive.totals(experiment), archive.layer_names(experiment)
        clear = [clearly(values, +1) for values in totals.T]
        means = dict(zip(names, totals.mean(axis=0), strict=True))
        hurting = [f"{name} {means[name]:+.4f}" for name, hurts in zip(names, clear, strict=True) if hurts]
        n = len(hurting)
        verdicts.append(None if None in clear else at_least <= n and (at_most is None or n <= at_most))
        told.append(f"{experiment}: {', '.join(hurting) or 'none'}, of {len(names)}")
    return Measured("; ".join(told), all_of(verdicts))


def losses(archive: Archive, experiment: str) -> dict[str, tuple[Floats, Floats]]:
    """The loss at the last iterate, by split: (run,) each, of the experiment and of the regular runs."""
    found = {}
    for name in ("train", "final"):
        changed, regular = archive.last_loss(experiment, name), archive.last_loss(REGULAR, name)
        found[archive.first(experiment, name).allocation(name).attributes["split"]] = changed, regular
    return found


def better_in_the_end(archive: Archive, experiment: str) -> Measured:
    found = losses(archive, experiment)
    told = "; ".join(f"{split} {against(*pair)}" for split, pair in found.items())
    return Measured(told, all_of(clearly_less(*pair) for pair in found.values()))


def not_better_not_worse(archive: Archive, experiment: str) -> Measured:
    """Neither loss is clearly lower, nor is the training loss clearly higher by more than a tenth."""
    found = losses(archive, experiment)
    told = "; ".join(f"{split} {against(*pair)}" for split, pair in found.items())
    changed, regular = found["train"]
    lower = [clearly_less(*pair) for pair in found.values()]
    impaired = clearly_less(1.1 * regular, changed)
    return Measured(told, None if None in (*lower, impaired) else not (any(lower) or impaired))


def others_help_less(archive: Archive, experiment: str, layer: int) -> Measured:
    """layer: the one that was changed; what all others contribute, against the regular runs."""
    changed, regular = (np.delete(archive.totals(each), layer, axis=1).sum(axis=1) for each in (experiment, REGULAR))
    return Measured(against(changed, regular), clearly_less(regular, changed))


def neighbour_helps_less(archive: Archive, experiment: str, layer: int) -> Measured:
    """layer: the one that was changed; what its neighbour loses, against the mean loss of all others."""
    neighbour = {FIRST: 1, LAST: -2}[layer]
    change = archive.totals(experiment).mean(axis=0) - archive.totals(REGULAR).mean(axis=0)
    rest = np.delete(change, [layer, neighbour]).mean()
    name = archive.layer_names(experiment)[neighbour]
    return Measured(
        f"{name} {change[neighbour]:+.4f} nats, the others {rest:+.4f}", bool(change[neighbour] > max(rest, 0))
    )


def slow_as_frozen(archive: Archive) -> Measured:
    """Whether a slow last layer makes the layers' LCA more like that with a frozen one than like the regular."""
    slow, frozen, regular = (
        archive.totals(each).mean(axis=0) for each in ("cifar-resnet-last-slow", "cifar-resnet-last-frozen", REGULAR)
    )
    to_frozen, to_regular = np.abs(slow - frozen).sum(), np.abs(slow - regular).sum()
    told = f"Σ over layers of |difference|: {to_frozen:.4f} nats to frozen, {to_regular:.4f} to regular"
    return Measured(told, bool(to_frozen < to_regular))


def experiments_by_delay() -> dict[int, str]:
    """The experiment of each delay of the last layer's momentum."""
    return {**{delay: f"cifar-resnet-delay-{delay}" for delay in MOMENTUM}, 9: REGULAR}


def linear_in_delay(archive: Archive) -> Measured:
    """The LCA of the last layer by its delay, the mean over the runs of each."""
    delays, means = _by_delay(archive, lambda totals: totals[:, LAST])
    slope, _ = np.polyfit(delays, means, 1)
    r_squared = np.corrcoef(delays, means)[0, 1] ** 2
    told = f"{means[0]:+.4f} nats at delay 0 to {means[-1]:+.4f} at 9, {slope:+.4f} an iteration, R² = {r_squared:.2f}"
    return Measured(told, bool(slope > 0 and r_squared >= 0.8 and means[0] < 0 < means[-1]))


def others_by_delay(archive: Archive) -> Measured:
    """What all other layers contribute, by the delay of the last."""
    delays, means = _by_delay(archive, lambda totals: totals[:, :LAST].sum(axis=1))
    slope, _ = np.polyfit(delays, means, 1)
    neighbour = _by_delay(archive, lambda totals: totals[:, LAST - 1])[1]
    told = f"their sum {means[0]:+.4f} nats at delay 0, {means[-1]:+.4f} at 9; the neighbour {neighbour[0]:+.4f} at 0"
    return Measured(told, bool(slope < 0 and neighbour[0] > 0))


def _by_delay(archive: Archive, of: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    experiments = experiments_by_delay()
    means = [float(of(archive.totals(experiment)).mean()) for experiment in experiments.values()]
    return np.array(list(experiments), np.float64), np.array(means)
