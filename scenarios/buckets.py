"""Response times to the nearest 0.2 %, in place of Locust's two digits.

Locust keeps a count for each response time and makes every percentile from these, so it has to
round. Its own rounding is wrong by up to 50 % below 100 ms and 5 % above.
"""

import locust.stats
from locust.stats import StatsEntry

import math
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

WIDTH = 0.002
"""Relative; so a bucket is wrong by a thousandth at most, and a decade has 1151 of them."""
SMALLEST_MS = 0.001
DIGITS = 5

_CSV_PERCENTILES = "_percentile_fields"
_LOCUSTS = locust.stats.bucket_response_time


def bucket(response_time_ms: float) -> float:
    """The middle of the bucket that this time falls into."""
    return _middle(round(math.log(max(response_time_ms, SMALLEST_MS / 2)) / WIDTH))


def counted(values_ms: npt.NDArray[np.float64]) -> dict[Any, int]:
    """How many fall into each bucket, by whatever function Locust uses for it now."""
    if locust.stats.bucket_response_time is bucket:
        steps = np.rint(np.log(np.maximum(values_ms, SMALLEST_MS / 2)) / WIDTH).astype(np.int64)
        found, counts = np.unique(steps, return_counts=True)
        return dict(zip(map(_middle, found.tolist()), counts.tolist(), strict=True))
    return Counter(map(locust.stats.bucket_response_time, values_ms.tolist()))


@lru_cache(maxsize=32_768)
def _middle(step: int) -> float:
    middle_ms = math.exp(step * WIDTH)
    return float(f"{middle_ms:.{DIGITS}g}") if middle_ms >= SMALLEST_MS * (1 - WIDTH) else 0.0


def install() -> None:
    """Have Locust use these buckets, unless the user has put something else in their place."""
    if locust.stats.bucket_response_time is _LOCUSTS:
        locust.stats.bucket_response_time = bucket  # type: ignore[assignment]
        # Its CSV files would cut each percentile to whole milliseconds again.
        setattr(locust.stats.StatsCSV, _CSV_PERCENTILES, _percentile_fields)


def _percentile_fields(table: Any, entry: StatsEntry, use_current: bool = False) -> list[Any]:
    if not entry.num_requests:
        return list(table.percentiles_na)
    if use_current and entry.use_response_times_cache:
        percentile = entry.get_current_response_time_percentile
    else:
        percentile = entry.get_response_time_percentile
    return [percentile(share) or 0 for share in table.percentiles_to_report]
