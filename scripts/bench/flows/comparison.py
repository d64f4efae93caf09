"""Tables that compare the methods: pure functions of the measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.flows.kill import Trial
from bench.flows.stages import Cost
from lca.text import size, table

TARGETS = {"seconds per iteration": 0.8, "bytes on disk": 0.25, "peak memory": 0.25}


@dataclass(frozen=True)
class Result:
    """The measurements of a method.

    `disk` is the number of bytes that the method leaves per parameter and iteration, and `val_disk` the share of the
    val split in it. `bare_s` is the time of a bare pass over train before and after the method, in seconds. `trial` is
    None if the method keeps everything in memory until the end. `part_error` and `sign_error` hold a fraction for each
    sampled iteration.
    """

    cost: Cost
    disk: float
    val_disk: float
    bare_s: tuple[float, float]
    several_devices: bool
    trial: Trial | None
    part_error: list[float] = field(default_factory=list)
    sign_error: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.cost.recording_s + self.cost.passes_s + self.cost.rest_s

    @property
    def in_passes(self) -> float:
        """Time per iteration in units of a bare pass, a ratio that varies less with the speed of the machine."""
        return self.seconds / float(np.mean(self.bare_s))


def methods_table(results: Mapping[str, Result]) -> str:
    header = ["method", "ms/it", "recording", "passes", "rest", "bare pass", "in passes", "B/K/it", "peak"]
    header += ["parts %", "signs %", "resumes", "several devices"]
    return table(header, [_row(name, result) for name, result in results.items()], left=(0, 11, 12))


def _row(name: str, result: Result) -> list[str]:
    cost, trial = result.cost, result.trial
    times = [result.seconds, cost.recording_s, cost.passes_s, cost.rest_s]
    resumes = "no" if trial is None else f"{'yes' if trial.resumes else 'no'} ({trial.n_again}/{trial.n_whole})"
    return [
        name,
        *(f"{1e3 * seconds:.1f}" for seconds in times),
        " … ".join(f"{1e3 * seconds:.1f}" for seconds in result.bare_s),
        f"{result.in_passes:.2f}",
        f"{result.disk:.2f}",
        size(cost.peak),
        f"{100 * np.mean(result.part_error):.3g}",
        f"{100 * np.mean(result.sign_error):.3g}",
        resumes,
        "yes" if result.several_devices else "no",
    ]


@dataclass(frozen=True)
class Ratio:
    """A quantity of lca, compared with another method. `wanted` is the largest ratio allowed, or None."""

    against: str
    what: str
    lca: float
    other: float
    wanted: float | None

    @property
    def ratio(self) -> float:
        return self.lca / self.other

    @property
    def verdict(self) -> str:
        return "" if self.wanted is None else "met" if self.ratio <= self.wanted else "missed"


def ratios(lca: Result, name: str, other: Result) -> list[Ratio]:
    """Compare lca with the pipeline of the paper, as a whole and without its work on the val split."""
    time, disk, peak = TARGETS
    return [
        Ratio(name, time, lca.seconds, other.seconds, TARGETS[time]),
        Ratio(name, "bare passes per iteration", lca.in_passes, other.in_passes, None),
        Ratio(name, f"{time}, train alone", lca.seconds, other.seconds - other.cost.val_s, None),
        Ratio(name, disk, lca.disk, other.disk, TARGETS[disk]),
        Ratio(name, f"{disk}, train alone", lca.disk, other.disk - other.val_disk, None),
        Ratio(name, peak, lca.cost.peak, other.cost.peak, TARGETS[peak]),
    ]


def ratios_table(found: Sequence[Ratio]) -> str:
    rows = [
        [
            each.against,
            each.what,
            f"{each.lca:.3g}",
            f"{each.other:.3g}",
            f"{each.ratio:.3f}",
            "" if each.wanted is None else f"{each.wanted}",
            each.verdict,
        ]
        for each in found
    ]
    return table(["compared with", "quantity", "lca", "other", "ratio", "target", "verdict"], rows, left=(0, 1, 6))
