"""Measurements of whether layers learn in the same iterations.     [arXiv 1909.01440, section 5]"""

from collections.abc import Sequence

import numpy as np

from lca.analysis import Series, synchrony
from lca.analysis.peaks import Coincidences
from paper.archive import Archive
from paper.measured import Measured, format_mean


def layers_peak_together_by_class(archive: Archive, experiment: str) -> Measured:
    results = archive.ask(synchrony, experiment, by_class=True)
    text, p = _compare_with_chance([r.series["LCA by class"] for r in results], len(results[0].classes))
    found = np.mean([r.series["LCA by class"].n / len(r.classes) for r in results])
    return Measured(f"per class {text}", bool(p < 0.01 and abs(found - 9.4) <= 3))


def layers_peak_together(archive: Archive, experiment: str) -> Measured:
    results = archive.ask(synchrony, experiment)
    text, p = _compare_with_chance([result.series["LCA"] for result in results])
    return Measured(f"{text}, {len(results[0].layers)} layers", bool(p < 0.01))


def _compare_with_chance(series: Sequence[Series], n_classes: int = 1) -> tuple[str, float]:
    """Compare the number of common peaks with the number expected by chance.

    Returns a description and the p-value of all runs together. The p-value is computed as in `lca analyze synchrony`.
    """
    found, chance = [s.n / n_classes for s in series], [s.baseline.mean() / n_classes for s in series]
    p = Coincidences.add_runs([s.n for s in series], [s.baseline for s in series]).p
    return f"{format_mean(found, 1)}, by chance {format_mean(chance, 2)} (p = {p:.2g})", p


def not_by_its_factors_alone(archive: Archive, experiment: str) -> Measured:
    """Count how many common peaks of LCA are also common peaks of the gradient norm or of the motion."""
    common = [
        {what: set(series.synchronized[0]) for what, series in result.series.items()}
        for result in archive.ask(synchrony, experiment, by_class=True)
    ]
    n = [len(of_run["LCA"]) for of_run in common]
    shared = {what: [len(of_run["LCA"] & of_run[what]) for of_run in common] for what in ("gradient norm", "motion")}
    text = ", ".join(f"{format_mean(found, 1)} also of the {what}" for what, found in shared.items())
    agrees = all(np.mean(found) < np.mean(n) / 2 for found in shared.values())
    return Measured(f"{format_mean(n, 1)} common peaks of LCA, {text}", bool(agrees))
