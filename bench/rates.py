"""Traffic whose rate changes in a known way: ramp, steps, spike, daily curve.

A rate over time is a `Course` of straight pieces. Its integral, the number of requests expected so
far, is inverted exactly: evenly spaced counts give even traffic, the points of a Poisson process of
rate 1 give Poisson traffic.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from bench.units import DueTimes, Rate, Seconds

DAY_S = 86_400.0

AnyRate = Annotated[float, Meta(ge=0, le=100_000, description="requests per second, may be 0")]
Randomness = Annotated[
    Literal["poisson", "even"],
    Meta(description="poisson: independent callers; even: as regular as the rate allows"),
]


@dataclass(frozen=True, eq=False)
class Course:
    """A rate over time: from ``first_rps[i]`` to ``last_rps[i]`` between ``edges_s[i]`` and the
    next edge, straight in between."""

    edges_s: DueTimes
    first_rps: DueTimes
    last_rps: DueTimes

    def counts(self) -> DueTimes:
        """Requests expected until each edge."""
        pieces = np.diff(self.edges_s) * (self.first_rps + self.last_rps) / 2
        return np.concatenate(([0.0], np.cumsum(pieces)))

    def when(self, counts: DueTimes) -> DueTimes:
        """The moments at which so many requests are expected; the inverse of the integral."""
        before = self.counts()
        piece = np.searchsorted(before, counts, side="right") - 1
        piece = np.clip(piece, 0, len(self.first_rps) - 1)
        rest = counts - before[piece]
        start = self.first_rps[piece]
        rise, width_s = self.last_rps - self.first_rps, np.diff(self.edges_s)
        slope = np.divide(rise, width_s, out=np.zeros_like(rise), where=width_s > 0)[piece]
        # The quadratic formula in the form that also holds for a slope of 0.
        root = start + np.sqrt(np.maximum(start**2 + 2 * slope * rest, 0.0))
        within = np.divide(2 * rest, root, out=np.zeros_like(rest), where=root > 0)
        return np.asarray(self.edges_s[piece] + within)


def flat(edges_s: DueTimes, rates_rps: DueTimes) -> Course:
    """A rate that jumps at the edges and stays in between."""
    return Course(edges_s, rates_rps, rates_rps)


def points(expected: float, randomness: str, random: np.random.Generator) -> DueTimes:
    """Counts below ``expected``, ascending, at each of which one request is due."""
    if randomness == "even":
        return np.arange(int(expected + 1e-9), dtype=np.float64)
    # Given their number, the points of a Poisson process are uniform and independent.
    return np.sort(random.uniform(0, expected, random.poisson(expected)))


class Ramp(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ramp"):
    """A rate that rises or falls steadily from the start to the end of the run."""

    from_rps: AnyRate
    to_rps: AnyRate
    randomness: Randomness = "poisson"

    def expected_count(self, duration_s: float) -> float:
        return (self.from_rps + self.to_rps) / 2 * duration_s

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        course = Course(
            np.array([0.0, duration_s]), np.array([self.from_rps]), np.array([self.to_rps])
        )
        return _due_times(course, duration_s, self.randomness, random)


class Steps(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="steps"):
    """Rates one after the other, each for an equal part of the run."""

    rates_rps: Annotated[
        tuple[AnyRate, ...], Meta(max_length=10_000, description="list of requests per second")
    ] = ()
    start_rps: Annotated[
        AnyRate | None, Meta(description="instead of the list: the first rate")
    ] = None
    step_rps: Annotated[float, Meta(description="with start_rps: what each step adds")] = 0.0
    number: Annotated[
        int, Meta(ge=0, le=10_000, description="with start_rps: the number of steps")
    ] = 0
    randomness: Randomness = "poisson"

    def __post_init__(self) -> None:
        if bool(self.rates_rps) == (self.start_rps is not None):
            raise ValueError("give either rates_rps or start_rps, step_rps and number")
        if self.start_rps is not None and not self.number:
            raise ValueError("number, how many steps there are, must be given with start_rps")
        if not all(0 <= rate <= 100_000 for rate in self._rates()):
            raise ValueError("with this step_rps and number a step leaves 0 to 100,000 rps")

    def _rates(self) -> tuple[float, ...]:
        if self.start_rps is None:
            return self.rates_rps
        return tuple(self.start_rps + step * self.step_rps for step in range(self.number))

    def expected_count(self, duration_s: float) -> float:
        return float(np.mean(self._rates())) * duration_s

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        rates = np.array(self._rates(), dtype=np.float64)
        course = flat(np.linspace(0.0, duration_s, len(rates) + 1), rates)
        return _due_times(course, duration_s, self.randomness, random)


class Spike(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="spike"):
    """A steady rate, and once a higher one for a while."""

    base_rps: AnyRate
    peak_rps: Rate
    at_s: Annotated[float, Meta(ge=0, le=1e9, description="seconds from the start to the spike")]
    lasting_s: Annotated[Seconds, Meta(description="seconds that the spike lasts")]
    randomness: Randomness = "poisson"

    def expected_count(self, duration_s: float) -> float:
        spike_s = min(duration_s, self.at_s + self.lasting_s) - min(duration_s, self.at_s)
        return self.base_rps * (duration_s - spike_s) + self.peak_rps * spike_s

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        edges = np.array([0.0, self.at_s, self.at_s + self.lasting_s, np.inf])
        edges = np.minimum(edges, duration_s)
        rates = np.array([self.base_rps, self.peak_rps, self.base_rps])
        kept = np.diff(edges) > 0
        course = flat(np.concatenate(([0.0], edges[1:][kept])), rates[kept])
        return _due_times(course, duration_s, self.randomness, random)


class Daily(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="daily"):
    """A curve that repeats every day: one peak, and quiet hours opposite; the run starts at 0:00.

    The logarithm of the rate is a cosine, so the night is quiet but never silent.
    """

    mean_rps: Annotated[Rate, Meta(description="requests per second, mean over a day")]
    peak_ratio: Annotated[
        float, Meta(ge=1, le=10, description="rate at the peak as a multiple of the mean")
    ] = 2.0
    peak_hour: Annotated[float, Meta(ge=0, lt=24, description="hour of the day of the peak")] = 15.0
    randomness: Randomness = "poisson"

    def expected_count(self, duration_s: float) -> float:
        days, rest_s = divmod(duration_s, DAY_S)
        course = self._day()
        counts = course.counts()
        # The integral at rest_s: whole minutes, and the straight piece that it lies in.
        piece = min(int(np.searchsorted(course.edges_s, rest_s, side="right")) - 1, _KNOTS - 1)
        within_s = rest_s - course.edges_s[piece]
        first, last = course.first_rps[piece], course.last_rps[piece]
        width_s = course.edges_s[piece + 1] - course.edges_s[piece]
        rest = counts[piece] + within_s * (first + (last - first) * within_s / width_s / 2)
        return float(days * counts[-1] + rest)

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        course = self._day()
        counts = points(self.expected_count(duration_s), self.randomness, random)
        days, rest = np.divmod(counts, course.counts()[-1])
        due = days * DAY_S + course.when(rest)
        return np.asarray(due[due < duration_s])

    def _day(self) -> Course:
        edges, shape = _day_shape(self.peak_ratio)
        hours = (edges / 3600 - self.peak_hour) % 24
        rates = self.mean_rps * np.interp(hours, edges / 3600, shape)
        # Interpolating between knots may change the mean by a hair; the mean is a promise.
        rates *= self.mean_rps / float(np.mean((rates[1:] + rates[:-1]) / 2))
        return Course(edges, rates[:-1], rates[1:])


_KNOTS = 1440
"""Straight pieces in a day: one a minute."""


@lru_cache(maxsize=8)
def _day_shape(peak_ratio: float) -> tuple[DueTimes, DueTimes]:
    """Edges of the pieces, and rates with mean 1 at them, for a day that peaks at hour 0."""
    edges = np.linspace(0.0, DAY_S, _KNOTS + 1)
    depth = np.cos(2 * np.pi * edges / DAY_S) - 1
    low, high = 0.0, 1000.0
    for _ in range(100):  # bisection: the sharper, the higher the peak
        sharpness = (low + high) / 2
        ratio = 1 / float(np.mean(np.exp(sharpness * depth[:-1])))
        low, high = (sharpness, high) if ratio < peak_ratio else (low, sharpness)
    shape = np.exp(low * depth)
    return edges, shape / float(np.mean(shape[:-1]))


def _due_times(
    course: Course, duration_s: float, randomness: str, random: np.random.Generator
) -> DueTimes:
    due = course.when(points(float(course.counts()[-1]), randomness, random))
    return np.asarray(due[due < duration_s])
