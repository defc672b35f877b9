"""The numbers of one run. Everything here can be made again from the run folder."""

from dataclasses import dataclass
from math import ceil, log, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.documents import write_json
from bench.run import Run
from bench.workload import Objective
from reports.doubts import Doubt, Health, doubts_of
from reports.warmup import WarmUp, warm_up_of

Floats = npt.NDArray[np.float64]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
THROTTLED = ("ThrottlingException", "TooManyRequestsException")
"""As SageMaker and AWS Lambda call it."""
TOP_ERRORS = 20
NOTABLE_WAIT_S = 0.1
ASSUMED_KEEP_ALIVE_S = 300.0
"""Idle seconds that an environment survives, where no profile says it; AWS publishes none."""

COLUMNS = (
    *("due_s", "sent_s", "done_s", "error", "cold", "model_s", "wait_s", "setup_s"),
    *("placement_s", "request_bytes", "response_bytes"),
)
"""All that is read of the records: a long run has millions."""

_Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Quantile:
    """A time that the share ``q`` of requests did not exceed."""

    q: float
    value_s: float
    supported: bool
    """Enough requests to state it with 99 % confidence."""


@dataclass(frozen=True)
class Spread:
    """How one kind of time was distributed."""

    n: int
    quantiles: tuple[Quantile, ...]
    max_s: float | None

    def at(self, q: float) -> float | None:
        """The quantile ``q`` in seconds; None when nothing was measured."""
        return next((each.value_s for each in self.quantiles if each.q == q), None)

    def supports(self, q: float) -> bool:
        """Whether there are enough requests to state the quantile ``q``."""
        return self.n >= needed_for(q)


@dataclass(frozen=True)
class Within:
    """How many requests met the latency objective; failed ones did not."""

    count: int
    of: int
    share: float
    low: float
    high: float
    """The Wilson interval of the share, 95 %, requests taken as independent."""
    quantile_s: float | None
    """The latency objective that would just be met; None: too many failed for any."""


@dataclass(frozen=True)
class Cold:
    """The requests that had to wait for an environment to start."""

    count: int
    share: float
    latency_s: Spread
    unhindered_s: Spread
    """The same without the wait for a core of this machine, which SageMaker does not have."""
    waited: int
    """Those that waited longer than `NOTABLE_WAIT_S` for a core of this machine."""
    longest_wait_s: float
    bearable_placement: float | None
    """How many times as long the modelled placement could take with the latency objective just
    met, all else alike; None: it does not decide."""
    placement_s: float | None  # medians of the parts; modelled
    setup_s: float | None  # measured
    model_s: float | None  # measured


@dataclass(frozen=True)
class Billable:
    """What an option that bills by use would count."""

    requests: int
    model_s: float  # each request rounded up to the millisecond
    setup_s: float
    request_bytes: int
    response_bytes: int


@dataclass(frozen=True)
class Traffic:
    """The shape of the traffic in time, as far as it decides between options."""

    busy_share: float
    """Share of the simulated time with at least one request under way."""
    silence_s: Spread
    """Idle time before each request but the first."""
    keep_alive_s: float
    after_keep_alive: float
    """Share of requests that came after more silence than an idle environment survives."""
    bearable_keep_alive_s: float | None
    """The keep-alive at which that share would equal the share allowed to be slow."""


@dataclass(frozen=True)
class Summary:
    """The numbers of one run, and its doubts: why it may not be trusted."""

    mode: str
    scheduled: int
    sent: int
    dropped: int
    answered: int
    failed: int
    throttled: int
    errors: tuple[tuple[str, int], ...]
    offered_rps: float
    achieved_rps: float
    latency_s: Spread  # from due time, answered requests: what the user feels
    service_s: Spread  # from send
    model_s: Spread  # the container alone
    lateness_s: Spread  # of the generator
    within: Within
    cold: Cold
    warm_s: Spread
    billable: Billable
    traffic: Traffic
    simulated_s: float
    real_s: float
    skipped_s: float
    completed_s: float | None
    """From the first due time to the last answer; None when nothing was answered."""
    warm_up: WarmUp
    """What is left out of latencies, service times, lateness and the share in time."""
    doubts: tuple[Doubt, ...]

    @property
    def valid(self) -> bool:
        """Whether the run may be judged at all."""
        return not any(doubt.invalid for doubt in self.doubts)

    @property
    def error_rate(self) -> float:
        """Share of requests without a good answer."""
        return self.failed / max(1, self.sent + self.dropped)


def needed_for(q: float) -> int:
    """Fewest requests that support the quantile ``q`` with 99 % confidence (MLPerf's rule)."""
    return ceil(log(0.01) / log(q))


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % Wilson interval of the share ``count / of``."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = count / of, _Z95**2
    centre = share + z2 / (2 * of)
    half = _Z95 * sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    scale = 1 + z2 / of
    # Rounding must not leave the share itself outside.
    return max(0.0, min(share, (centre - half) / scale)), min(
        1.0, max(share, (centre + half) / scale)
    )


def spread(values: Floats, quantiles: tuple[float, ...] = QUANTILES) -> Spread:
    """The distribution of ``values``; NaN is left out. Each quantile is a time that happened."""
    known = values[~np.isnan(values)]
    n = len(known)
    if n == 0:
        return Spread(0, (), None)
    found = np.quantile(known, quantiles, method="inverted_cdf")
    rows = zip(quantiles, found, strict=True)
    return Spread(
        n,
        tuple(Quantile(q, float(value), n >= needed_for(q)) for q, value in rows),
        float(known.max()),
    )


def tail_of(lateness: Spread) -> float:
    """0.99, or the largest quantile below it that there are requests enough for.

    A quantile that too few requests support is the latest of them, which proves nothing.
    """
    return max([q for q in QUANTILES if q <= 0.99 and lateness.supports(q)], default=0.5)


def summarise(run: Run) -> Summary:
    """The numbers of ``run``."""
    requests = run.requests(COLUMNS)
    load = run.manifest["load"]
    objective = msgspec.convert(run.manifest["workload"]["objective"], Objective)
    answered = (requests["error"] == "").to_numpy(bool)
    due, sent, done = (_column(requests, name) for name in ("due_s", "sent_s", "done_s"))
    latency = done - due
    is_cold = requests["cold"].to_numpy(bool)
    warming = warm_up_of(run, latency[answered], due[answered], int(is_cold.sum()))
    steady = due >= warming.until_s
    latencies = spread(latency[answered & steady])
    lateness = spread((sent - due)[steady])
    cold = _cold(requests, latency, answered, objective)
    failed = requests["error"][~answered].value_counts()
    duration = max(float(load["duration_s"]), 1e-9)
    dropped = max(int(load["dropped"]), int(np.isnan(sent).sum()))
    return Summary(
        mode=run.mode,
        scheduled=int(load["scheduled"]),
        sent=int(load["sent"]),
        dropped=dropped,
        answered=int(answered.sum()),
        failed=int((~answered).sum()),
        throttled=sum(int(failed.get(code, 0)) for code in THROTTLED),
        errors=tuple((str(code), int(n)) for code, n in failed.head(TOP_ERRORS).items()),
        offered_rps=len(requests) / duration,
        achieved_rps=int(answered.sum()) / duration,
        latency_s=latencies,
        service_s=spread((done - sent)[answered & steady]),
        model_s=spread(_column(requests, "model_s")[answered & steady]),
        lateness_s=lateness,
        within=_within(latency[steady], answered[steady], objective),
        cold=cold,
        warm_s=spread(latency[answered & steady & ~is_cold]),
        billable=_billable(requests),
        traffic=_traffic((due, done), run, objective.quantile),
        simulated_s=float(load["duration_s"]),
        real_s=float(load["real_s"]),
        skipped_s=float(load["skipped_s"]),
        completed_s=float(done[answered].max() - due.min()) if answered.any() else None,
        warm_up=warming,
        doubts=doubts_of(run, _health(latencies, lateness, (cold, dropped)), warming),
    )


def write_summary(summary: Summary, path: Path) -> None:
    """Write the summary to ``path``, normally ``summary.json`` in the folder of its run."""
    write_json(path, as_json(summary))


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as plain values, ``valid`` and ``error_rate`` included."""
    derived = {"valid": summary.valid, "error_rate": summary.error_rate}
    return {**msgspec.to_builtins(summary), **derived}


def _column(requests: pd.DataFrame, name: str) -> Floats:
    return requests[name].to_numpy(np.float64)


def _within(latency: Floats, answered: npt.NDArray[np.bool_], objective: Objective) -> Within:
    felt = np.where(answered, latency, np.inf)
    count, of = int((felt <= objective.latency_s).sum()), len(felt)
    low, high = wilson(count, of)
    just = float(np.quantile(felt, objective.quantile, method="inverted_cdf")) if of else np.inf
    return Within(
        count=count,
        of=of,
        share=count / max(1, of),
        low=low,
        high=high,
        quantile_s=just if np.isfinite(just) else None,
    )


def _bearable_placement(
    placement: Floats, latency: Floats, answered: npt.NDArray[np.bool_], objective: Objective
) -> float | None:
    slack = objective.latency_s - latency
    # The factor up to which each request is in time: the warm ones always are, or never.
    fixed = np.where(slack >= 0, np.inf, -np.inf)
    scaled = 1 + slack / np.where(placement > 0, placement, 1.0)
    factors = np.where(answered, np.where(placement > 0, scaled, fixed), -np.inf)
    needed = ceil(objective.quantile * len(factors))
    bearable = float(np.sort(factors)[len(factors) - needed]) if needed else np.inf
    return bearable if 0 < bearable < np.inf else None


def _cold(
    requests: pd.DataFrame,
    latency: Floats,
    answered: npt.NDArray[np.bool_],
    objective: Objective,
) -> Cold:
    cold = requests["cold"].to_numpy(bool)
    rows = requests[cold & answered]
    wait = np.nan_to_num(_column(rows, "wait_s"))

    def median(name: str) -> float | None:
        return spread(_column(rows, name), (0.5,)).at(0.5)

    return Cold(
        count=int(cold.sum()),
        share=float(cold.sum() / max(1, len(cold))),
        latency_s=spread(latency[cold & answered], (0.5, 0.95)),
        unhindered_s=spread(latency[cold & answered] - wait, (0.5, 0.95)),
        waited=int((wait > NOTABLE_WAIT_S).sum()),
        longest_wait_s=float(wait.max(initial=0.0)),
        bearable_placement=_bearable_placement(
            np.nan_to_num(_column(requests, "placement_s")), latency, answered, objective
        ),
        placement_s=median("placement_s"),
        setup_s=median("setup_s"),
        model_s=median("model_s"),
    )


def _billable(requests: pd.DataFrame) -> Billable:
    model = _column(requests, "model_s")
    served = ~np.isnan(model)
    # The column holds 32-bit floats: without rounding, 0.1 s would be billed as 101 ms.
    milliseconds = np.ceil(np.round(model[served] * 1000, 2))
    return Billable(
        requests=int(served.sum()),
        model_s=float(milliseconds.sum() / 1000),
        setup_s=float(np.nansum(_column(requests, "setup_s"))),
        request_bytes=int(requests["request_bytes"].to_numpy(np.int64)[served].sum()),
        response_bytes=int(requests["response_bytes"].to_numpy(np.int64)[served].sum()),
    )


def _traffic(times: tuple[Floats, Floats], run: Run, quantile: float) -> Traffic:
    due, done = times
    named = {item["name"]: item["value"] for item in run.manifest.get("profile", [])}
    keep_alive = float(named.get("keep_alive_s", ASSUMED_KEEP_ALIVE_S))
    busy_until = np.maximum.accumulate(np.fmax(done, due)) if len(due) else due
    silence = np.maximum(0.0, due[1:] - busy_until[:-1])
    covered = max(run.duration_s, float(busy_until[-1]) if len(due) else 0.0, 1e-9)
    idle = float(silence.sum()) + (float(due[0]) if len(due) else 0.0)
    idle += covered - (float(busy_until[-1]) if len(due) else 0.0)
    return Traffic(
        busy_share=min(1.0, max(0.0, 1 - idle / covered)),
        silence_s=spread(silence, (0.5, 0.95)),
        keep_alive_s=keep_alive,
        after_keep_alive=float((silence > keep_alive).mean()) if len(silence) else 0.0,
        bearable_keep_alive_s=spread(silence, (quantile,)).at(quantile),
    )


def _health(latency: Spread, lateness: Spread, counts: tuple[Cold, int]) -> Health:
    cold, dropped = counts
    tail = tail_of(lateness)
    return Health(
        tail=tail,
        answered=latency.n,
        dropped=dropped,
        lateness_s=(lateness.at(0.5) or 0.0, lateness.at(tail) or 0.0),
        latency_s=(latency.at(0.5) or 0.0, latency.at(tail) or 0.0),
        cold=cold.count,
        waited=cold.waited,
        longest_wait_s=cold.longest_wait_s,
        unsupported=tuple((q, needed_for(q)) for q in QUANTILES if not latency.supports(q)),
    )
