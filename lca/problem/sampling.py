"""Subsets of the examples: how they are drawn, and how well a mean over one estimates the mean over all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def draw_stratified(labels: NDArray[Any], n: int, seed: int) -> NDArray[np.int64]:
    """n ascending indices, drawn without replacement, with each label as often as its share of all, up to rounding."""
    random = np.random.RandomState(seed)  # whose stream numpy keeps the same for good
    found, counts = np.unique(labels, return_counts=True)
    shares = n * counts / len(labels)
    wanted = np.floor(shares).astype(int)
    largest_rests = np.argsort(wanted - shares, kind="stable")
    wanted[largest_rests[: n - wanted.sum()]] += 1
    drawn = [random.permutation(np.flatnonzero(labels == label))[:m] for label, m in zip(found, wanted, strict=True)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def estimate_standard_error(
    losses: NDArray[np.float64],
    weights: NDArray[np.float64],
    labels: NDArray[np.int64] | None,
    n_of_class: dict[int, int],
) -> float:
    """The standard error of L = Σ losses / Σ weights over a subset, as an estimate of L over the whole split.

    losses: (n,) of each example, weighted; weights: (n,), what each weighs. Where these are 1, L is their mean.
    labels: (n,), the class of each; None if all are in one. n_of_class: by label, the examples of the whole split.
    Strata are the classes: √(Σ_c (N_c/N)² (1 − n_c/N_c) s_c²/n_c), with s_c² of the example's part in the deviation
    from L, (loss − L · weight) / mean weight     [Cochran 1977, Sampling Techniques, eq. 5.9; of a ratio, eq. 6.13]
    A class with a single example in the subset is given the variance of all of them.
    """
    labels = np.zeros(len(losses), np.int64) if labels is None else labels
    deviations = (losses - losses.sum() / weights.sum() * weights) / weights.mean()
    total, N = 0.0, sum(n_of_class.values())
    for label, N_c in n_of_class.items():
        part = deviations[labels == label]
        n_c = len(part)
        if n_c == 0:
            continue
        variance = float(np.var(part if n_c > 1 else deviations, ddof=1)) if len(losses) > 1 else np.nan
        total += (N_c / N) ** 2 * (1 - n_c / N_c) * variance / n_c
    return float(np.sqrt(total))
