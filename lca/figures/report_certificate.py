"""The finding on the certificate: whether the error bounds hold, and how exact the LCA of individual parameters is."""

from collections.abc import Sequence

import numpy as np

from lca.figures.report_evidence import Evidence
from lca.figures.report_sentences import Finding, enumerate_words, significant
from lca.store.summary import Summary
from lca.text import pluralize, plus_minus


def describe_certificate(runs: Sequence[Evidence]) -> Finding:
    """Describe whether the certificate holds, with the residuals, their bounds and the result of the audit."""
    summaries = [run.summary for run in runs]
    failed = [run for run in runs if not run.summary.within_bounds]
    if len(runs) == 1:
        text = _describe_failure(summaries[0]) if failed else "The certificate holds."
    elif failed:
        reasons = "; ".join(f"{run.name}: {enumerate_words(list_failures(run.summary))}" for run in failed)
        text = f"The certificate does not hold for {len(failed)} of {len(runs)} runs ({reasons})."
    else:
        text = f"The certificate holds for {'both' if len(runs) == 2 else f'all {len(runs)}'} runs."
    text += _describe_residuals(summaries) + _describe_sampling(summaries) + _describe_parts(runs)
    return Finding(text, "certificate", "certificate", bool(failed))


def list_failures(summary: Summary) -> list[str]:
    """List the reasons why a certificate does not hold. Each is a clause."""
    reasons = [f"{pluralize(summary.unconverged, 'iteration')} did not converge"] if summary.unconverged else []
    if summary.not_finite:
        are = "is" if summary.not_finite == 1 else "are"
        reasons.append(f"{pluralize(summary.not_finite, 'iteration')} {are} not finite")
    return [*reasons, *([] if summary.within_total else ["the cumulative residual exceeds its bound"])]


def _describe_failure(summary: Summary) -> str:
    return f"The certificate does not hold: {enumerate_words(list_failures(summary))}."


def _describe_residuals(summaries: Sequence[Summary]) -> str:
    """State the largest residuals over the runs, and their bounds."""
    worst = max(summaries, key=lambda s: np.nan_to_num(s.relative_residual))
    share = worst.relative_residual
    relative = f"{significant(100 * share, 2)} % of the loss change, " if np.isfinite(share) else ""
    largest = max(summaries, key=lambda s: s.largest_residual)
    at_most = "at most " if len(summaries) > 1 else ""
    return (
        f" Σ A differs from the loss change by {at_most}{significant(abs(worst.cumulative_residual), 2)} {worst.unit} "
        f"({relative}with a bound of {100 * worst.total_tolerance:g} %). The largest residual of an iteration is "
        f"{significant(largest.largest_residual, 2)} {worst.unit} (tolerance {largest.tolerance:.3g})."
    )


def _describe_sampling(summaries: Sequence[Summary]) -> str:
    """Say on how many examples the loss is measured, if not on the whole split."""
    sampled = next((s for s in summaries if s.examples < s.examples_in_split), None)
    if sampled is None:
        return ""
    error = sampled.standard_error
    of_change = f", which adds a standard error of {significant(error['change'], 2)} {sampled.unit}" if error else ""
    return f" The loss is measured on {sampled.examples:,} of {sampled.examples_in_split:,} examples{of_change}."


def _describe_parts(runs: Sequence[Evidence]) -> str:
    """State the error of the LCA of individual parameters, as far as it was audited."""
    audits = [run.summary.audit for run in runs if run.summary.audit is not None]
    if not audits:
        return " The error of the LCA of single parameters is unknown, because there was no audit."
    if all(run.helping is not None and np.isnan(run.errors).all() for run in runs):
        return (
            " The error of the LCA of single parameters is unknown, because hardly anything moved in the audited "
            "iterations."
        )
    if len(audits) == 1:
        mean, half = (100 * value for value in audits[0].mean())
        error, which = plus_minus(mean, half, 2), pluralize(len(audits[0].iterations), "audited iteration")
    else:
        error = f"{100 * np.mean([audit.mean().mean for audit in audits]):.2f}"
        which = f"the audited iterations of {len(audits)} runs"
    still = any(run.helping is not None and np.isnan(run.errors).any() for run in runs)
    caution = " Some layers hardly moved in these iterations, so their error may be larger in others." if still else ""
    return f" The LCA of single parameters is off by {error} % of Σ|A|, measured on {which}.{caution}"
