"""The finding on layers that hurt: which layers raised the loss overall, and whether this is more than an error."""

from collections.abc import Sequence

import numpy as np

from lca.figures.axes import Floats
from lca.figures.report_evidence import Evidence
from lca.figures.report_sentences import Finding, enumerate_some, significant, spread


def describe_hurting(runs: Sequence[Evidence]) -> Finding:
    """Describe which layers hurt overall, and whether their LCA exceeds the error that the audit suggests."""
    names, totals = runs[0].layers.layers, np.array([run.layers.total for run in runs])
    mean = totals.mean(axis=0)
    hurting = [int(i) for i in np.argsort(-mean, kind="stable") if mean[i] > 0]
    average = f", on average over {len(runs)} runs" if len(runs) > 1 else ""
    is_whole = all(run.layers.iterations.mask.all() for run in runs)
    when = ("overall" if is_whole else "over the iterations used") + average

    def describe(i: int) -> str:
        n = int((totals[:, i] > 0).sum())
        often = f", above 0 in {n} of {len(runs)} runs" if len(runs) > 1 else ""
        return f"{names[i]} ({spread(totals[:, i], signed=True)} {runs[0].unit}{often})"

    if hurting:
        verb = "hurts" if len(hurting) == 1 else "hurt"
        text = f"{len(hurting)} of {len(names)} layers {verb} {when}: {enumerate_some(list(map(describe, hurting)))}."
    else:
        every = "the LCA of every layer is below 0" if (mean < 0).all() else "no layer has an LCA above 0"
        text = f"No layer hurts {when}: {every}."
    return Finding(text + _describe_certainty(runs, mean, hurting), "layers", "hurting", bool(hurting))


def _describe_certainty(runs: Sequence[Evidence], mean: Floats, hurting: Sequence[int]) -> str:
    """Say for which layers the sign of the LCA is known. `hurting` lists the indices of the layers with LCA above 0."""
    errors = np.mean([run.errors for run in runs], axis=0)
    names = runs[0].layers.layers
    chosen = hurting or [int(i) for i in np.argsort(-mean)]
    unknown = [i for i in chosen if np.isnan(errors[i])]
    within = [i for i in chosen if mean[i] and abs(mean[i]) <= errors[i]]
    beyond = [i for i in hurting if mean[i] > errors[i]]

    def name(which: Sequence[int]) -> str:
        return "" if len(which) == len(chosen) else f" for {enumerate_some([names[i] for i in which])}"

    sentences = []
    if beyond:
        limits = enumerate_some([significant(errors[i], 2) for i in beyond])
        sentences.append(
            f"This exceeds the error estimated from the audit{name(beyond)} (up to {limits} {runs[0].unit})."
        )
    if within:
        limits = enumerate_some([significant(errors[i], 2) for i in within])
        limit = f"the error estimated from the audit is up to {limits} {runs[0].unit}"
        sentences.append(f"The sign is uncertain{name(within)}, because {limit}.")
    if unknown:
        what = "this exceeds the error" if hurting else "an error hides the opposite sign"
        why = _explain_unknown_errors(runs, len(unknown))
        sentences.append(f"It is unknown whether {what}{name(unknown)}, because {why}.")
    return "".join(f" {sentence}" for sentence in sentences)


def _explain_unknown_errors(runs: Sequence[Evidence], n: int) -> str:
    """Return the reason why the errors of n layers are unknown, as a clause."""
    unknown = next(run for run in runs if np.isnan(run.errors).any())
    if unknown.summary.audit is None:
        return "the allocation was not audited"
    if unknown.helping is None:
        return "the LCA of single parameters was not stored"
    return f"{'the layer' if n == 1 else 'these layers'} hardly moved in the audited iterations"
