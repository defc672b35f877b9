"""When requests are due: pure functions from an arrival process and a seed to seconds."""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from bench.errors import ConfigError
from bench.loops import Closed, Users
from bench.rates import AnyRate, Daily, Ramp, Spike, Steps, flat, points
from bench.replay import Replay
from bench.together import Together
from bench.units import MAX_REQUESTS, DueTimes, Rate, Seconds


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


class Gamma(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="gamma"):
    """Gaps more regular than Poisson's (cv below 1) or more clustered (cv above 1)."""

    rate_rps: Rate
    cv: Annotated[
        float,
        Meta(ge=0.01, le=20, description="standard deviation of the gaps over their mean"),
    ]

    def expected_count(self, duration_s: float) -> float:
        return self.rate_rps * duration_s

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        shape, scale_s = self.cv**-2, self.cv**2 / self.rate_rps
        # The run begins somewhere inside a gap, and rather inside a long one; so it has the
        # asked-for rate from its first second on.
        first_s = random.gamma(shape + 1, scale_s) * random.uniform()
        chunk = int(self.rate_rps * duration_s * 1.1) + 100
        parts = [np.array([first_s])]
        while (last_s := float(parts[-1][-1])) < duration_s:
            parts.append(last_s + np.cumsum(random.gamma(shape, scale_s, chunk)))
        due = np.concatenate(parts)
        return np.asarray(due[due < duration_s])


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


class OnOff(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="on-off"):
    """Busy and quiet phases of random length, Poisson inside each: a two-state MMPP."""

    on_rps: Annotated[Rate, Meta(description="requests per second in a busy phase")]
    mean_on_s: Annotated[Seconds, Meta(description="mean seconds of a busy phase")]
    mean_off_s: Annotated[Seconds, Meta(description="mean seconds of a quiet phase")]
    off_rps: Annotated[AnyRate, Meta(description="requests per second in a quiet phase")] = 0.0

    def expected_count(self, duration_s: float) -> float:
        cycle_s = self.mean_on_s + self.mean_off_s
        mean_rps = (self.on_rps * self.mean_on_s + self.off_rps * self.mean_off_s) / cycle_s
        return mean_rps * duration_s

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        cycle_s = self.mean_on_s + self.mean_off_s
        if duration_s / cycle_s > MAX_REQUESTS:
            raise ConfigError(
                f"arrivals: about {duration_s / cycle_s:,.0f} phases are more than the "
                f"{MAX_REQUESTS:,} that a run may hold. Raise mean_on_s or mean_off_s."
            )
        busy_first = random.uniform() < self.mean_on_s / cycle_s
        means_s = (self.mean_on_s, self.mean_off_s)[:: 1 if busy_first else -1]
        rates = (self.on_rps, self.off_rps)[:: 1 if busy_first else -1]
        chunk = int(duration_s / cycle_s * 1.1) + 10
        edges = np.zeros(1)
        while edges[-1] < duration_s:
            lengths = random.exponential(means_s, (chunk, 2)).ravel()
            edges = np.concatenate((edges, edges[-1] + np.cumsum(lengths)))
        edges = np.append(edges[edges < duration_s], duration_s)
        course = flat(edges, np.resize(np.array(rates), len(edges) - 1))
        due = course.when(points(float(course.counts()[-1]), "poisson", random))
        return np.asarray(due[due < duration_s])


Arrivals = (
    Constant
    | Poisson
    | Gamma
    | Bursts
    | OnOff
    | Ramp
    | Steps
    | Spike
    | Daily
    | Replay
    | Closed
    | Users
    | Together
)


def due_times(arrivals: Arrivals, duration_s: float, seed: int) -> DueTimes:
    """Seconds from the start at which each request is due, ascending, shape ``(n,)``.

    The same arguments always give the same schedule, on every machine. Of traffic that waits for
    answers it is no more than what is known beforehand.
    """
    return arrivals.due_times(duration_s, np.random.default_rng(seed))


def scheduled_count(arrivals: Arrivals, duration_s: float, seed: int) -> int | None:
    """How many requests there will be; None when only the run can tell."""
    if isinstance(arrivals, Closed | Users):
        return None
    return len(due_times(arrivals, duration_s, seed))
