"""What the instrument itself costs: ``make perf``, or ``make perf ARGS=front`` for one part.

Every line is a ratio or a comparison within this run; PERFORMANCE.md keeps the last table.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from scipy import stats

from bench.arrivals import Bursts
from bench.machine import machine
from bench.measure import Model, Order, measure
from bench.record import Records
from bench.run import Run
from bench.session import sample_files
from bench.target import Serverless
from bench.workload import Objective, Workload
from servers.archive import fingerprint
from servers.digits.build import build
from servers.samples import samples
from tests.conftest import CACHE
from tests.perf_async import queue
from tests.perf_batch import batch
from tests.perf_clients import clients
from tests.perf_engine import exactness
from tests.perf_front import front
from tests.perf_goals import goals
from tests.perf_memory import memory
from tests.perf_model_server import MODEL_SERVER_PARTS
from tests.perf_report import report
from tests.perf_serverless import serverless

PAIRS = 6
PART = Workload(
    name="part",
    title="a part of six minutes of intermittent traffic",
    scenario="intermittent",
    duration_s=60.0,
    arrivals=Bursts(mean_gap_s=15.0, mean_size=2.0, mean_spacing_s=5.0),
    objective=Objective(latency_s=10.0),
)


class Silent:
    """A watcher that says nothing."""

    def expect(self, duration_s: float, scheduled: int | None) -> None: ...
    def phase(self, mode: str, text: str) -> None: ...
    def live(self, at_s: float, new: Records) -> None: ...


def fast_forward(folder: Path) -> list[str]:
    """Six minutes of traffic in parts, each in real time and skipped: do they differ?

    Requests of one run are alike because the machine was in one state: a test that takes them for
    independent tells identical runs apart. So the unit is the pair of runs, in random order.
    """
    archive = build(CACHE / "weighbridge")
    model = Model("digits", archive, fingerprint(archive))
    files = sample_files(samples(archive), folder / "payloads")
    target = Serverless(profile={"keep_alive_s": 12.0, "keep_alive_sigma": 0})

    def run(fast: bool, seed: int) -> tuple[Run, float]:
        workload = msgspec.structs.replace(PART, fast_forward=fast, seed=seed)
        began = time.monotonic()
        order = Order(workload, target, model, files, "make perf")
        return measure(order, folder / f"{seed}-{fast}", Silent()), time.monotonic() - began

    coin, pairs = random.Random(1), []
    for seed in range(1, PAIRS + 1):
        first = coin.random() < 0.5
        done = {fast: run(fast, seed) for fast in (first, not first)}
        pairs.append((done[True], done[False]))
    took = [sum(pair[side][1] for pair in pairs) for side in (0, 1)]
    rows = [_compared("warm", pairs), _compared("cold", pairs)]
    cold = [[int(pair[side][0].requests()["cold"].sum()) for pair in pairs] for side in (0, 1)]
    return [
        f"| fast-forward, {PAIRS} pairs of {PART.duration_s:g} s | skipped | real time | test |",
        "|---|---|---|---|",
        f"| cold starts in each | {cold[0]} | {cold[1]} | equal: {cold[0] == cold[1]} |",
        *rows,
        _pooled(pairs),
        f"| time it took | {took[0] / took[1]:.0%} | 100 % | |",
    ]


def _compared(kind: str, pairs: list[tuple[tuple[Run, float], tuple[Run, float]]]) -> str:
    """The medians of one kind of request, and the exact signed-rank test over the pairs."""
    medians = np.empty((len(pairs), 2))
    for number, pair in enumerate(pairs):
        for side, (run, _) in enumerate(pair):
            requests = run.requests()
            latency = (requests["done_s"] - requests["due_s"])[requests["cold"] == (kind == "cold")]
            medians[number, side] = latency.median()
    medians = medians[~np.isnan(medians).any(axis=1)]  # a part may have none of a kind
    test = stats.wilcoxon(np.log(medians[:, 0] / medians[:, 1]), method="exact")
    skipped, real = (f"{value:.4g} s" for value in np.median(medians, axis=0))
    return f"| median {kind} latency | {skipped} | {real} | signed-rank p = {test.pvalue:.2f} |"


def _pooled(pairs: list[tuple[tuple[Run, float], tuple[Run, float]]]) -> str:
    """All latencies of one kind of run against all of the other: the pairs share the states."""
    sides = [
        np.concatenate([(r["done_s"] - r["due_s"]).to_numpy(float) for r in side])
        for side in zip(*([run.requests() for run, _ in pair] for pair in pairs), strict=True)
    ]
    test = stats.ks_2samp(sides[0], sides[1])
    counts = " | ".join(f"{len(side)} requests" for side in sides)
    return f"| all latencies | {counts} | Kolmogorov-Smirnov p = {test.pvalue:.2f} |"


PARTS: dict[str, Callable[[Path], list[str]]] = {
    "front": front,
    "load": exactness,
    "clients": clients,
    "goals": goals,
    "fast-forward": fast_forward,
    "report": report,
    **MODEL_SERVER_PARTS,
    "memory": memory,
    "serverless": serverless,
    "async": queue,
    "batch": batch,
}


def main(names: list[str]) -> None:
    """Run the parts called ``names``, or all."""
    unknown = set(names) - set(PARTS)
    if unknown:
        sys.exit(f"There is no part {', '.join(unknown)}. Choose from {', '.join(PARTS)}.")
    host = machine()
    keys = ("cpu_model", "cpu_count", "kernel", "python", "torch")
    print(json.dumps({key: host[key] for key in keys}), time.strftime("%Y-%m-%d"))
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
        for name in names or list(PARTS):
            print("\n" + "\n".join(PARTS[name](Path(folder))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
