"""Mean and spread over runs."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_and_deviation(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """values (run, …) -> the mean over runs and the sample standard deviation, which is NaN for a single run."""
    array = np.asarray(values, np.float64)
    deviation = array.std(axis=0, ddof=1) if len(array) > 1 else np.full(array.shape[1:], np.nan)
    return array.mean(axis=0), np.asarray(deviation)
