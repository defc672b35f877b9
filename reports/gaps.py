"""Cold starts by how long the endpoint was idle before: what is held against the keep-alive."""

from dataclasses import dataclass
from itertools import pairwise
from math import inf, log
from statistics import NormalDist

import numpy as np

from reports.option import Option
from reports.summary import ASSUMED_KEEP_ALIVE_S, wilson
from reports.timing import Floats
from reports.words import seconds

FEWEST_GAPS = 20
_FACTORS = (0.0, 0.1, 0.5, 0.8, 1.0, 1.25, 2.0, 6.0, inf)
"""Edges of the ranges of idle time, in keep-alives: narrow where the answer changes."""
_ENOUGH = 1000
"""Idle times of which the expected share is taken; more change nothing that can be seen."""


@dataclass(frozen=True)
class KeepAlive:
    """The time that an idle environment is kept, as it was configured: log-normal."""

    median_s: float
    sigma: float

    def expired(self, idle_s: float) -> float:
        """The share of environments that are gone after ``idle_s`` without a request."""
        if min(self.sigma, self.median_s, idle_s) <= 0:
            return float(idle_s >= self.median_s)
        return NormalDist(log(self.median_s), self.sigma).cdf(log(idle_s))


@dataclass(frozen=True)
class Bin:
    """Requests after about the same idle time."""

    idle_s: float  # the median of them
    from_s: float
    to_s: float
    requests: int
    cold: int
    low: float
    high: float
    """The Wilson interval of the share that started cold, 95 %."""
    expected: float
    """The share that the configured keep-alive gives for the same idle times."""

    @property
    def share(self) -> float:
        return self.cold / self.requests

    @property
    def agrees(self) -> bool:
        """Whether the interval holds what was configured."""
        return self.low <= self.expected <= self.high


@dataclass(frozen=True)
class Gaps:
    """The requests of one option that found it idle, in ranges of idle time."""

    mode: str
    keep_alive: KeepAlive
    bins: tuple[Bin, ...]


def gaps_of(option: Option) -> Gaps | str:
    """The cold starts of ``option`` by idle time, or why they cannot be told."""
    if option.run.manifest["target"].get("provisioned_concurrency"):
        return "some environments are always kept ready, so no silence ends them all"
    idle, cold = _idle(option)
    if len(idle) < FEWEST_GAPS:
        return f"only {len(idle)} requests found it idle, and {FEWEST_GAPS} are needed"
    keep = keep_alive_of(option)
    if idle.max() < _FACTORS[2] * keep.median_s:
        return (
            f"the longest silence was {seconds(float(idle.max()))}, and environments are kept "
            f"about {seconds(keep.median_s)}"
        )
    edges = [factor * max(keep.median_s, 1e-3) for factor in _FACTORS]
    bins = []
    for low, high in pairwise(edges):
        chosen = (idle > low) & (idle <= high)
        if chosen.any():
            bins.append(_bin(idle[chosen], int(cold[chosen].sum()), keep))
    return Gaps(option.mode, keep, tuple(bins))


def keep_alive_of(option: Option) -> KeepAlive:
    """What the profile of the run says; equally long for all where it names no spread."""
    named = {item["name"]: item["value"] for item in option.run.manifest.get("profile", [])}
    median, sigma = named.get("keep_alive_s", ASSUMED_KEEP_ALIVE_S), named.get("keep_alive_sigma")
    return KeepAlive(_number(median, ASSUMED_KEEP_ALIVE_S), _number(sigma, 0.0))


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0 else otherwise


def _idle(option: Option) -> tuple[Floats, Floats]:
    """Idle seconds before each request that found nothing under way, and whether it was cold."""
    timing = option.timing
    due = timing.due_s
    if len(due) < 2:
        return np.zeros(0), np.zeros(0)
    ended = np.where(np.isnan(timing.done_s), due, timing.done_s)
    silence = due[1:] - np.maximum.accumulate(ended)[:-1]
    chosen = (silence > 0) & timing.answered[1:]
    return silence[chosen], timing.cold[1:][chosen].astype(np.float64)


def _bin(idle: Floats, cold: int, keep: KeepAlive) -> Bin:
    low, high = wilson(cold, len(idle))
    few = idle if len(idle) <= _ENOUGH else np.quantile(idle, np.linspace(0, 1, _ENOUGH))
    return Bin(
        idle_s=float(np.median(idle)),
        from_s=float(idle.min()),
        to_s=float(idle.max()),
        requests=len(idle),
        cold=cold,
        low=low,
        high=high,
        expected=float(np.mean([keep.expired(each) for each in few])),
    )
