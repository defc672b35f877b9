"""Where the warm-up of a steady load ends, by MSER-5.

A load at a steady rate reaches a steady state after a while; what was measured before says more
about the start than about the option. MSER (Marginal Standard Error Rule) leaves out as much of the
beginning as makes the mean of the rest most certain: each cut is judged by the standard error of
what it leaves. "5" stands for the batches of five, here their medians, in which it looks.

It is used only where a beginning can be unlike the rest without being part of what callers feel:
arrivals at a constant mean rate, in real time, on an option where nobody waited for a cold start.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.run import Run
from reports.words import count, seconds

Floats = npt.NDArray[np.float64]

STEADY = ("constant", "poisson", "gamma")
BATCH = 5
MOST_BATCHES = 1000
FEWEST_BATCHES = 20
NOTABLE_ERRORS, NOTABLE_SHARE = 4.0, 0.1
"""So much slower, in standard errors and as a share, must a part be: no even load is cut."""


@dataclass(frozen=True)
class WarmUp:
    """What was left out of the latencies."""

    requests: int = 0
    until_s: float = 0.0
    """Requests due before this moment are left out."""
    settled: bool = True
    """False: the load was still settling in its second half, so nothing was left out."""


def mser(values: Floats) -> int | None:
    """How many of the first ``values`` to leave out; None when the rest would be under half."""
    n = len(values)
    # Sums from each place to the end give the standard error of every rest at once.
    left = np.arange(n, 0, -1)
    centred = values - values.mean()
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum(centred[::-1] ** 2)[::-1]
    variances = np.maximum(squares - sums**2 / left, 0.0)
    # Near the end a rest is too short to have a variance worth the name.
    usable = n - max(5, n // 20)
    cut = int(np.argmin(variances[:usable] / left[:usable] ** 2))
    return cut if cut <= n // 2 else None


def warm_up(latency_s: Floats, due_s: Floats) -> WarmUp:
    """The warm-up of requests in the order in which they were due."""
    size = max(BATCH, -(-len(latency_s) // MOST_BATCHES))
    number = len(latency_s) // size
    if number < FEWEST_BATCHES:
        return WarmUp()
    batches = np.median(latency_s[: number * size].reshape(number, size), axis=1)
    cut = mser(batches)
    if cut is None:
        first, second = batches[: number // 2], batches[number // 2 :]
        return WarmUp(settled=not _slower(first, second) and not _slower(second, first))
    if not cut or not _slower(batches[:cut], batches[cut:]):
        return WarmUp()
    return WarmUp(cut * size, float(due_s[cut * size]))


def warm_up_of(run: Run, latency_s: Floats, due_s: Floats, cold: int) -> WarmUp:
    """The warm-up to leave out of ``run``, where that is right at all."""
    workload = run.manifest["workload"]
    steady = workload["arrivals"]["kind"] in STEADY and not workload.get("fast_forward")
    return warm_up(latency_s, due_s) if steady and not cold else WarmUp()


def doubts(found: WarmUp) -> list[str]:
    """What the reader must know of it."""
    if not found.settled:
        return ["Latency was still changing in the second half of the run: it has no steady state."]
    if found.requests:
        return [
            f"The first {seconds(found.until_s)} ({count(found.requests)} requests) are left out "
            "of the latencies as warm-up (MSER-5); errors and cost count them."
        ]
    return []


def _slower(some: Floats, others: Floats) -> bool:
    # A single slow batch at the start has no spread of its own.
    error = max(some.std(), others.std()) * np.sqrt(1 / len(some) + 1 / len(others))
    notable = max(NOTABLE_ERRORS * error, NOTABLE_SHARE * others.mean())
    return bool(some.mean() - others.mean() > notable)
