"""What the plots draw: the requests of each option, thinned to what an eye can tell apart."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.option import Option

Floats = npt.NDArray[np.float64]

MOST_POINTS = 2_000
CURVE_POINTS = 300
TAIL_REQUESTS = 10
"""A percentile with fewer requests beyond it is drawn dotted: few requests decide it."""


@dataclass(frozen=True)
class Dots:
    """Requests as points, by kind; some may be left out."""

    due_s: Floats
    latency_s: Floats
    kind: npt.NDArray[np.int8]  # 0 warm, 1 cold, 2 failed
    of: int


@dataclass(frozen=True)
class Parts:
    """One cold start and where its time went."""

    name: str
    placement_s: float
    wait_s: float
    setup_s: float
    model_s: float
    other_s: float

    @property
    def total_s(self) -> float:
        """From due time to answer."""
        return self.placement_s + self.wait_s + self.setup_s + self.model_s + self.other_s


@dataclass(frozen=True)
class Series:
    """One option as the plots need it."""

    mode: str
    sorted_s: Floats  # latencies of answered requests, ascending
    dots: Dots
    cold: tuple[Parts, ...]


def series_of(option: Option) -> Series:
    """The requests of ``option``, read from its run folder."""
    requests = option.run.requests()
    due = requests["due_s"].to_numpy(np.float64)
    latency = requests["done_s"].to_numpy(np.float64) - due
    good = (requests["error"] == "").to_numpy(bool) & ~np.isnan(latency)
    cold = requests["cold"].to_numpy(bool)
    kind = np.where(good, np.where(cold, 1, 0), 2).astype(np.int8)
    started = np.flatnonzero(cold & good)
    parts = requests.iloc[started][["placement_s", "wait_s", "setup_s", "model_s"]].fillna(0.0)
    return Series(
        mode=option.mode,
        sorted_s=np.sort(latency[good]),
        dots=_thinned(due, latency, kind),
        cold=_examples(latency[started], parts.to_numpy(np.float64)),
    )


def curve(sorted_s: Floats) -> tuple[Floats, Floats]:
    """Points ``(1 / (1 - p), seconds)``, evenly spaced on a log axis, the largest last."""
    n = len(sorted_s)
    beyond = np.unique(np.geomspace(1, n, CURVE_POINTS).round().astype(np.int64))[::-1]
    # With k requests at or beyond it, a request sits at p = 1 - k / n.
    return n / beyond, sorted_s[n - beyond]


def _thinned(due: Floats, latency: Floats, kind: npt.NDArray[np.int8]) -> Dots:
    """At most `MOST_POINTS`: the slowest of each kind and moment, and an even sample."""
    known = np.flatnonzero(~np.isnan(latency))
    n = len(known)
    if n > MOST_POINTS:
        bins = MOST_POINTS // 6  # three kinds fill half of the points at most
        span = max(float(due[known].max()), 1e-9)
        cell = (due[known] / span * (bins - 1)).astype(np.int64) * 3 + kind[known]
        order = np.lexsort((latency[known], cell))
        ranked = cell[order]
        slowest = order[np.r_[ranked[1:] != ranked[:-1], True]]
        sample = np.linspace(0, n - 1, MOST_POINTS // 2).astype(np.int64)
        known = known[np.unique(np.concatenate([slowest, sample]))]
    return Dots(due[known], latency[known], kind[known], n)


def _examples(latency: Floats, parts: Floats) -> tuple[Parts, ...]:
    """The fastest, the median and the slowest cold start, so that the parts of each add up."""
    order = np.argsort(latency, kind="stable")
    n = len(order)
    wanted = {"only": 0} if n == 1 else {"fastest": 0, "median": (n - 1) // 2, "slowest": n - 1}
    found = []
    for name, rank in wanted.items() if n else ():
        row = order[rank]
        placement, wait, setup, model = (float(value) for value in parts[row])
        other = max(0.0, float(latency[row]) - placement - wait - setup - model)
        found.append(Parts(name, placement, wait, setup, model, other))
    return tuple(found)
