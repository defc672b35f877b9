"""Intervals of a quantile from the ranks of what was measured: no distribution is assumed."""

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrik

_TAIL = 0.025


def rank_interval(values: npt.NDArray[np.float64], q: float) -> tuple[float, float]:
    """The 95 % interval of the quantile ``q``, values taken as independent.

    Where there are too few values to bound it, an end is the smallest or largest of them.
    """
    known = np.sort(values[~np.isnan(values)])
    n = len(known)
    if n == 0:
        return 0.0, 0.0
    low, high = (int(np.ceil(bdtrik(tail, n, q))) for tail in (_TAIL, 1 - _TAIL))
    return float(known[max(0, low - 1)]), float(known[min(n - 1, high)])
