"""What the plots draw: the requests of each option, thinned to what an eye can tell apart."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.fleets import stays
from reports.option import Option
from reports.timing import PARTS, Floats, Timing

QUEUED = ("async", "batch")
FLOW_STEPS = 240
MOST_WINDOWS, FEWEST_WINDOWS, FEWEST_IN_WINDOW = 40, 8, 20

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
class Flow:
    """What was under way, in steps of the simulated time."""

    at_s: Floats
    most: Floats  # requests under way at once, at most, in the step
    instances: Floats  # in service; empty where none is paid for


@dataclass(frozen=True)
class Windows:
    """Latency in windows of the simulated time; those with few requests are left out."""

    at_s: Floats
    p50_s: Floats
    p95_s: Floats
    n: Floats


@dataclass(frozen=True)
class Series:
    """One option as the plots need it."""

    mode: str
    sorted_s: Floats  # latencies of answered requests, ascending
    dots: Dots
    cold: tuple[Parts, ...]
    flow: Flow
    windows: Windows
    parts: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    """Of a typical and a slow request: its name, and where its time went."""


def series_of(option: Option) -> Series:
    """The requests of ``option``, read from its run folder."""
    timing = option.timing
    due, latency = timing.due_s, timing.latency_s
    good, cold = timing.answered, timing.cold
    kind = np.where(good, np.where(cold, 1, 0), 2).astype(np.int8)
    started = np.flatnonzero(cold & good)
    names = ("placement_s", "wait_s", "setup_s", "model_s")
    parts = np.stack([timing.parts[name][started] for name in names], axis=1)
    return Series(
        mode=option.mode,
        sorted_s=np.sort(latency[good]),
        dots=_thinned(due, latency, kind),
        cold=_examples(latency[started], parts),
        flow=_flow(option),
        windows=_windows(due[good], latency[good]),
        parts=_typical(timing) if option.mode in QUEUED else (),
    )


def _flow(option: Option) -> Flow:
    timing = option.timing
    if not len(timing.due_s):
        return Flow(np.zeros(0), np.zeros(0), np.zeros(0))
    end = np.where(np.isnan(timing.done_s), timing.due_s, timing.done_s)
    moments = np.concatenate([timing.due_s, end])
    steps = np.repeat([1, -1], len(end))
    order = np.lexsort((-steps, moments))
    under_way = np.cumsum(steps[order])
    last = max(float(moments.max()), option.run.duration_s)
    at = np.linspace(0, last, FLOW_STEPS + 1)
    first = np.searchsorted(moments[order], at[:-1])
    most = np.maximum.reduceat(under_way, np.minimum(first, len(under_way) - 1))
    before = np.r_[0, under_way][first]
    empty = first == np.r_[first[1:], len(under_way)]
    most = np.where(empty, before, np.maximum(most, before)).astype(np.float64)
    return Flow(at[:-1], most, _instances(option, at[:-1]))


def _instances(option: Option, at: Floats) -> Floats:
    if option.cost.fleet is None:
        return np.zeros(0)
    found = stays(option.run, always=option.cost.fleet.least > 0)
    step = float(at[1] - at[0])
    # There when the step begins; one that came and went within a step counts in it.
    inside = [
        ((at >= stay.from_s) & (at < stay.to_s)) | ((stay.from_s > at) & (stay.to_s <= at + step))
        for stay in found
    ]
    return np.sum(inside, axis=0).astype(np.float64) if inside else np.zeros(len(at))


def _windows(due: Floats, latency: Floats) -> Windows:
    wanted = min(MOST_WINDOWS, len(due) // (2 * FEWEST_IN_WINDOW))
    if wanted < FEWEST_WINDOWS:
        none = np.zeros(0)
        return Windows(none, none, none, none)
    edges = np.linspace(0, float(due.max()) * (1 + 1e-9), wanted + 1)
    cell = np.searchsorted(edges, due, side="right") - 1
    rows = []
    for number in range(wanted):
        mine = latency[cell == number]
        if len(mine) >= FEWEST_IN_WINDOW:
            low, high = np.quantile(mine, (0.5, 0.95), method="inverted_cdf")
            middle = (edges[number] + edges[number + 1]) / 2
            rows.append((middle, low, high, len(mine)))
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Windows(*table.T)


def _typical(timing: Timing) -> tuple[tuple[str, tuple[tuple[str, float], ...]], ...]:
    """The request at the median of all latencies and that at p95, each with its own parts."""
    answered = np.flatnonzero(timing.answered)
    if not len(answered):
        return ()
    order = answered[np.argsort(timing.latency_s[answered], kind="stable")]
    rest = timing.rest_s()
    found = []
    for name, q in (("median", 0.5), ("p95", 0.95)):
        row = order[min(len(order) - 1, int(q * len(order)))]
        each = [(label, float(timing.parts[key][row])) for label, key in PARTS]
        each.append(("the rest", float(rest[row])))
        found.append((name, tuple((label, value) for label, value in each if value > 0)))
    return tuple(found)


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
