"""What the paper leaves to others.     [arXiv 1909.01440, sections 5 and 6.2]"""

import numpy as np

import lca
from lca.analysis import overfit, prune, subset
from paper.archive import Archive
from paper.measured import Measured, describe_layer
from paper.moments import layers_peak_together


def agreement_of_subsets(archive: Archive, experiment: str) -> Measured:
    names = archive.subsets(experiment)
    result = subset(archive.first(experiment, "train", *names), against=names)
    told = [
        f"{a.examples:,}: layers off by {100 * a.layer_error:.1f} %, signs agree for {100 * a.same_sign:.0f} %, "
        f"percentage helping off by {a.helping_error:+.1f}"
        for a in result.agreements.values()
    ]
    return Measured(f"of {result.n_examples:,} examples, {'; '.join(told)}", None)


def overfitting(archive: Archive, experiment: str) -> Measured:
    results = archive.ask(overfit, experiment, "train", "val")
    gap = np.array([np.nansum(result.gap, axis=0) for result in results])
    told = "; ".join(describe_layer(name, values) for name, values in zip(results[0].layers, gap.T, strict=True))
    return Measured(f"learned on train and not on val: {told}", None)


def pruning(archive: Archive, experiment: str) -> Measured:
    result = prune(archive.first(experiment), lca.Evaluator(archive.problem(experiment)))
    at = int(np.argmin(np.abs(result.pruned - 0.9)))
    right = zip(result.criteria, result.accuracy["val"][:, at], strict=True)
    told = ", ".join(f"by {name} {100 * part:.1f} %" for name, part in right)
    return Measured(f"right on val with {100 * result.pruned[at]:.0f} % of the weights at 0: {told}", None)


def transformer(archive: Archive, experiment: str) -> Measured:
    percentage, totals = archive.helping(experiment)[0].percentage, archive.totals(experiment)[0]
    hurting = [name for name, total in zip(archive.layer_names(experiment), totals, strict=True) if total > 0]
    told = f"{percentage:.1f} % help; layers that hurt: {', '.join(hurting) or 'none'}"
    return Measured(f"{told}; common peaks: {layers_peak_together(archive, experiment).told}", None)
