"""When requests are due: pure functions from an arrival process and a seed to seconds."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

DueTimes = npt.NDArray[np.float64]

MAX_REQUESTS = 5_000_000
"""Most requests one schedule may hold: a typing error in a rate must not fill the memory."""

Rate = Annotated[float, Meta(gt=0, le=100_000, description="requests per second")]
Seconds = Annotated[float, Meta(gt=0, le=1e9, description="seconds")]


class Constant(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="constant"):
    """Evenly spaced requests."""

    rate_rps: Rate

    def expected_count(self, duration_s: float) -> float:
        return self.rate_rps * duration_s

    def due_times(self, duration_s: float, _: np.random.Generator) -> DueTimes:
        return np.arange(int(self.rate_rps * duration_s), dtype=np.float64) / self.rate_rps


class Poisson(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="poisson"):
    """Independent callers: exponential gaps between requests."""

    rate_rps: Rate

    def expected_count(self, duration_s: float) -> float:
        return self.rate_rps * duration_s

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        # Given their number, the points of a Poisson process are uniform and independent.
        count = random.poisson(self.rate_rps * duration_s)
        return np.sort(random.uniform(0, duration_s, count))


class Bursts(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bursts"):
    """Silence, then a short burst: Poisson burst starts, geometric burst sizes."""

    mean_gap_s: Annotated[Seconds, Meta(description="mean seconds between burst starts")]
    mean_size: Annotated[float, Meta(ge=1, le=10_000, description="mean requests in a burst")] = 1.0
    mean_spacing_s: Annotated[Seconds, Meta(description="mean seconds inside a burst")] = 1.0

    def expected_count(self, duration_s: float) -> float:
        return duration_s / self.mean_gap_s * self.mean_size

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        starts = np.sort(
            random.uniform(0, duration_s, random.poisson(duration_s / self.mean_gap_s))
        )
        if not len(starts):
            return np.empty(0)
        sizes = random.geometric(1 / self.mean_size, len(starts))
        gaps = random.exponential(self.mean_spacing_s, int(sizes.sum()))
        first = np.cumsum(sizes) - sizes
        gaps[first] = 0.0  # a burst begins with its first request
        within = np.cumsum(gaps)
        due = np.repeat(starts - within[first], sizes) + within
        return np.sort(due[due < duration_s])


Arrivals = Constant | Poisson | Bursts


def due_times(arrivals: Arrivals, duration_s: float, seed: int) -> DueTimes:
    """Seconds from the start at which each request is due, ascending, shape ``(n,)``.

    The same arguments always give the same schedule, on every machine.
    """
    return arrivals.due_times(duration_s, np.random.default_rng(seed))
