"""Stratified subsets of the examples, and the standard error of the mean loss over such a subset."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def draw_stratified(labels: NDArray[Any], n: int, seed: int) -> NDArray[np.int64]:
    """Draw n indices without replacement, stratified by label, and return them in ascending order.

    Each label gets its share of the n indices, rounded by the method of the largest remainder.
    """
    random = np.random.RandomState(seed)  # NumPy guarantees that its stream never changes
    found, counts = np.unique(labels, return_counts=True)
    shares = n * counts / len(labels)
    sizes = np.floor(shares).astype(int)
    by_remainder = np.argsort(sizes - shares, kind="stable")
    sizes[by_remainder[: n - sizes.sum()]] += 1
    drawn = [random.permutation(np.flatnonzero(labels == label))[:m] for label, m in zip(found, sizes, strict=True)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def estimate_standard_error(
    losses: NDArray[np.float64],
    weights: NDArray[np.float64],
    labels: NDArray[np.int64] | None,
    n_of_class: dict[int, int],
) -> float:
    """Return the standard error of L over a subset, Σ losses / Σ weights, as an estimate of L over the whole split.

    `losses` contains the weighted loss of each example, `weights` its weight, and `labels` its class. All three have
    shape (n,), and `labels` is None if there is a single class. `n_of_class` maps each label to its number of examples
    in the whole split. The classes are the strata:

        √(Σ_c (N_c/N)² (1 − n_c/N_c) s_c²/n_c)     [Cochran 1977, Sampling Techniques, eq. 5.9; for a ratio, eq. 6.13]

    s_c² is the variance of (loss − L · weight) / mean weight over the examples of class c. If a class has a single
    example in the subset, the variance over all examples is used.
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
