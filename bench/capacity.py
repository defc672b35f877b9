"""The highest rate that still meets the latency objective: which rate to try next, and the result.

Decided here, measured elsewhere: a `Step` is one rate that was tried.
"""

from collections.abc import Sequence
from math import ceil, log
from typing import Annotated

from msgspec import Meta, Struct

from bench.units import Rate, Seconds

MEETS, MISSES, INVALID = "meets", "misses", "invalid"

CONFIDENCE = 0.99
"""That a quantile is what the requests of a step show (the rule of MLPerf's early stopping)."""


class Search(Struct, frozen=True, forbid_unknown_fields=True):
    """How the highest rate is looked for."""

    start_rps: Annotated[Rate, Meta(description="first rate to try, in requests a second")] = 10.0
    max_rps: Annotated[Rate, Meta(description="no rate above this is tried")] = 20_000.0
    tolerance: Annotated[
        float,
        Meta(gt=0, le=1, description="stop when the highest rate is known to this share of it"),
    ] = 0.1
    step_s: Annotated[Seconds, Meta(description="least seconds of load at each rate")] = 10.0
    max_step_s: Annotated[Seconds, Meta(description="most seconds of load at each rate")] = 120.0
    max_steps: Annotated[int, Meta(ge=2, le=100, description="most rates to try")] = 16
    warm_up_s: Annotated[
        float, Meta(ge=0, le=3600, description="seconds at each rate before it counts")
    ] = 5.0


class Step(Struct, frozen=True):
    """One rate that was tried, and how it went."""

    rate_rps: float
    achieved_rps: float
    """Answered as they should be, a second; less than the rate when requests failed."""
    latency_s: float | None
    """At the objective's quantile, from the due time; None when too many failed for any."""
    median_s: float | None
    requests: int
    error_rate: float
    verdict: str
    """meets, misses or invalid (the load generator could not keep its schedule)."""
    because: str = ""


class Capacity(Struct, frozen=True):
    """What a search found. All of it is measured, on this machine."""

    quantile: float
    objective_s: float
    highest_rps: float | None
    """The highest rate that met the objective; None when none did."""
    bounded: bool
    """A higher rate missed the objective. If not, the capacity may be higher."""
    knee_rps: float | None
    """Where latency begins to rise faster than the rate; None with fewer than three rates."""
    steps: tuple[Step, ...]
    """By rate."""


def needed(quantile: float) -> int:
    """How many requests a step needs before its ``quantile`` may be stated, with 99 % confidence.

    The chance that all of them stay below the true quantile is at most 1 %: 459 for p99, 4603 for
    p99.9 (MLPerf Inference, early stopping).
    """
    return ceil(log(1 - CONFIDENCE) / log(quantile))


def duration_s(search: Search, rate_rps: float, quantile: float) -> float:
    """Seconds of load at ``rate_rps`` that are enough for ``quantile``, within the limits.

    The seconds that do not count come first and are not among them.
    """
    return min(search.max_step_s, max(search.step_s, needed(quantile) / rate_rps))


def next_rate(search: Search, steps: Sequence[Step]) -> float | None:
    """The rate to try after ``steps``; None when the search is over.

    Doubled while it goes well, halved while it does not, then the (geometric) middle of what is
    still open. A rate that the load generator could not keep is tried once more, for the machine
    may have had a slow moment; then it is an end like a miss.
    """
    if len(steps) >= search.max_steps:
        return None
    last = {step.rate_rps: step for step in steps}
    if steps and steps[-1].verdict == INVALID and _tries(steps, steps[-1].rate_rps) == 1:
        return steps[-1].rate_rps
    good = max((rate for rate, step in last.items() if step.verdict == MEETS), default=None)
    bad = min((rate for rate, step in last.items() if step.verdict != MEETS), default=None)
    if good is None and bad is None:
        return min(search.start_rps, search.max_rps)
    if bad is None:
        assert good is not None
        return min(good * 2, search.max_rps) if good < search.max_rps else None
    if good is None:
        # Below one request in a step nothing can be learned.
        return bad / 2 if bad / 2 * search.max_step_s >= 1 else None
    if good >= bad:  # a slow moment of the machine: the highest that met it counts, try above it
        above = [rate for rate in last if rate > good]
        if not above:
            return None
        bad = min(above)
    if bad / good <= 1 + search.tolerance:
        return None
    return float((good * bad) ** 0.5)


def _tries(steps: Sequence[Step], rate_rps: float) -> int:
    return sum(step.rate_rps == rate_rps for step in steps)


def capacity(quantile: float, objective_s: float, steps: Sequence[Step]) -> Capacity:
    """What ``steps`` show together; of a rate that was tried twice, the second time counts."""
    last = {step.rate_rps: step for step in steps}
    by_rate = tuple(last[rate] for rate in sorted(last))
    highest = max((step.rate_rps for step in by_rate if step.verdict == MEETS), default=None)
    bounded = any(
        step.verdict == MISSES and (highest is None or step.rate_rps > highest) for step in by_rate
    )
    return Capacity(quantile, objective_s, highest, bounded, knee_rps(by_rate), by_rate)


def knee_rps(steps: Sequence[Step]) -> float | None:
    """The rate farthest below the line from the first to the last point of the curve.

    Both axes are scaled to one, as in Kneedle (Satopaa et al., 2011); ``steps`` by rate. Steps
    that are invalid or had no latency are left out; None with fewer than three.
    """
    points = [
        (step.rate_rps, step.latency_s)
        for step in steps
        if step.verdict != INVALID and step.latency_s is not None
    ]
    if len(points) < 3:
        return None
    (x0, y0), (x1, y1) = points[0], points[-1]
    if x1 <= x0 or y1 <= y0:
        return None
    below = [(x - x0) / (x1 - x0) - (y - y0) / (y1 - y0) for x, y in points]
    best = max(range(len(points)), key=below.__getitem__)
    return points[best][0] if below[best] > 0 else None
