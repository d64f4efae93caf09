"""Questions that the paper leaves open.     [arXiv 1909.01440, sections 5 and 6.2]"""

import numpy as np

import lca
from lca.analysis import overfit, prune, subset
from paper.archive import Archive
from paper.measured import Measured, describe_layer
from paper.moments import layers_peak_together


def agreement_of_subsets(archive: Archive, experiment: str) -> Measured:
    names = archive.subsets(experiment)
    result = subset(archive.first(experiment, "train", *names), against=names)
    parts = [
        f"{a.examples:,}: error of layer totals {100 * a.layer_error:.1f} %, {100 * a.same_sign:.0f} % of signs agree, "
        f"error of the percentage helping {a.helping_error:+.1f} percentage points"
        for a in result.agreements.values()
    ]
    return Measured(f"subsets of {result.n_examples:,} examples: {'; '.join(parts)}", None)


def overfitting(archive: Archive, experiment: str) -> Measured:
    results = archive.ask(overfit, experiment, "train", "val")
    gap = np.array([np.nansum(result.gap, axis=0) for result in results])
    text = "; ".join(describe_layer(name, values) for name, values in zip(results[0].layers, gap.T, strict=True))
    return Measured(f"LCA on val − LCA on train, above 0 overfits: {text}", None)


def pruning(archive: Archive, experiment: str) -> Measured:
    result = prune(archive.first(experiment), lca.Evaluator(archive.problem(experiment)))
    at = int(np.argmin(np.abs(result.pruned - 0.9)))
    accuracies = zip(result.criteria, result.accuracy["val"][:, at], strict=True)
    text = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in accuracies)
    return Measured(f"accuracy on val with {100 * result.pruned[at]:.0f} % of the weights pruned by {text}", None)


def transformer(archive: Archive, experiment: str) -> Measured:
    percentage, totals = archive.helping(experiment)[0].percentage, archive.totals(experiment)[0]
    hurting = [name for name, total in zip(archive.layer_names(experiment), totals, strict=True) if total > 0]
    text = f"{percentage:.1f} % help; layers that hurt (above 0): {', '.join(hurting) or 'none'}"
    return Measured(f"{text}; common peaks: {layers_peak_together(archive, experiment).text}", None)
