"""The search for the highest rate, carried out: one load after the other on the same endpoint."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from bench.arrivals import Constant, Gamma, Poisson
from bench.capacity import (
    INVALID,
    MEETS,
    MISSES,
    Capacity,
    Search,
    Step,
    capacity,
    duration_s,
    next_rate,
)
from bench.documents import write_json
from bench.errors import ConfigError
from bench.measure import Order, Watcher, measure, served
from bench.run import Run
from bench.workload import Objective, Workload

LATENESS_S, LATENESS_SHARE = 0.005, 0.05
"""How late the generator may be at p99: the larger of these, of the latency objective."""

Rated = Constant | Poisson | Gamma


def find_capacity(order: Order, folder: Path, watcher: Watcher) -> Capacity:
    """Measure rate after rate, each into a run folder of its own; the result is capacity.json.

    ConfigError when the workload has no search or its arrivals have no rate.
    """
    search, arrivals = order.workload.search, order.workload.arrivals
    if search is None or not isinstance(arrivals, Rated):
        raise ConfigError(
            f"{order.workload.name}: a capacity search needs the table [search] and arrivals of "
            "kind constant, poisson or gamma, whose rate it changes."
        )
    objective, steps = order.workload.objective, list[Step]()
    folder.mkdir(parents=True)
    with served(order, folder, watcher) as site:
        while (rate_rps := next_rate(search, steps)) is not None:
            step_order = msgspec.structs.replace(order.workload, **_at(rate_rps, search, order))
            watcher.phase("capacity", f"{rate_rps:.4g} requests a second")
            run = measure(_with(order, step_order), folder / f"{len(steps) + 1:02}", watcher, site)
            steps.append(step_of(run, objective, search))
            found = capacity(objective.quantile, objective.latency_s, steps)
            write_json(folder / "capacity.json", msgspec.to_builtins(found))
    return found


def _at(rate_rps: float, search: Search, order: Order) -> dict[str, Any]:
    quantile = order.workload.objective.quantile
    return {
        "arrivals": msgspec.structs.replace(order.workload.arrivals, rate_rps=rate_rps),
        "duration_s": search.warm_up_s + duration_s(search, rate_rps, quantile),
        "fast_forward": False,
    }


def _with(order: Order, workload: Workload) -> Order:
    return Order(workload, order.target, order.model, order.payloads, order.command, order.workers)


def step_of(run: Run, objective: Objective, search: Search) -> Step:
    """How one rate went; what was due during the warm-up does not count."""
    requests = run.requests()
    counted = requests[requests["due_s"] >= search.warm_up_s]
    rate_rps = float(run.manifest["workload"]["arrivals"]["rate_rps"])
    if counted.empty:
        return Step(rate_rps, 0.0, None, None, 0, 1.0, INVALID, "Nothing was due in time.")
    good = counted["error"] == ""
    latency_s = np.where(good, counted["done_s"] - counted["due_s"], np.inf)
    # The order statistic, not a mean of two: one of them may be infinite.
    p50_s, at_s = np.quantile(latency_s, [0.5, objective.quantile], method="inverted_cdf")
    error_rate = 1 - float(good.mean())
    in_time = at_s <= objective.latency_s and error_rate <= objective.error_rate
    late = _late(counted, objective)
    return Step(
        rate_rps,
        float(good.sum()) / (run.duration_s - search.warm_up_s),
        _or_none(at_s),
        _or_none(p50_s),
        len(counted),
        error_rate,
        INVALID if late else MEETS if in_time else MISSES,
        late,
    )


def _or_none(value_s: float) -> float | None:
    return float(value_s) if np.isfinite(value_s) else None


def _late(requests: pd.DataFrame, objective: Objective) -> str:
    sent = requests["sent_s"].notna()
    if not sent.any():
        return "No request could be sent."
    late_s = float((requests["sent_s"] - requests["due_s"])[sent].quantile(0.99))
    allowed_s = max(LATENESS_S, LATENESS_SHARE * objective.latency_s)
    if late_s <= allowed_s:
        return ""
    return (
        f"The load generator was {late_s * 1000:.1f} ms late at p99, "
        f"where {allowed_s * 1000:.1f} ms are allowed: this machine could not send so much "
        "beside the server."
    )
