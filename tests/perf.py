"""What the instrument itself costs: ``make perf``, or ``make perf ARGS=front`` for one part.

Every line is a ratio or a comparison within this run; PERFORMANCE.md keeps the last table.
"""

import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
from scipy import stats

from bench.arrivals import Bursts
from bench.deployment import Deployment, Endpoint
from bench.machine import machine
from bench.measure import Model, Order, measure
from bench.record import Records
from bench.run import Run
from bench.session import sample_files
from bench.target import Realtime, Serverless
from bench.workload import Objective, Workload
from servers.archive import fingerprint
from servers.digits.build import build
from servers.samples import samples
from tests.conftest import CACHE
from tests.perf_engine import exactness
from tests.serving import serving

ROUNDS, CALLS = 7, 400

TEN_MINUTES = Workload(
    name="ten-minutes",
    title="ten minutes of intermittent traffic",
    scenario="intermittent",
    duration_s=600.0,
    arrivals=Bursts(mean_gap_s=40.0, mean_size=2.0, mean_spacing_s=5.0),
    objective=Objective(latency_s=10.0),
    seed=1,
    fast_forward=True,
)


class Silent:
    """A watcher that says nothing."""

    def phase(self, mode: str, text: str) -> None: ...
    def live(self, at_s: float, new: Records) -> None: ...


def fast_forward(folder: Path) -> list[str]:
    """The same ten minutes, once in real time and once skipped: do they differ?"""
    archive = build(CACHE / "weighbridge")
    model = Model("digits", archive, fingerprint(archive))
    files = sample_files(samples(archive), folder / "payloads")
    target = Serverless(profile={"keep_alive_s": 45.0})

    def run(fast: bool) -> tuple[Run, float]:
        workload = msgspec.structs.replace(TEN_MINUTES, fast_forward=fast)
        began = time.monotonic()
        order = Order(workload, target, model, files, "make perf")
        return measure(order, folder / f"fast-{fast}", Silent()), time.monotonic() - began

    (skipped, short_s), (real, long_s) = run(True), run(False)
    one, other = skipped.requests(), real.requests()
    first, second = (np.asarray(each["done_s"] - each["due_s"]) for each in (one, other))
    test = stats.ks_2samp(first, second)
    return [
        f"| fast-forward, {len(one)} requests in 600 s | skipped | real time |",
        "|---|---|---|",
        f"| cold starts | {one['cold'].sum()} | {other['cold'].sum()} |",
        f"| latency p50, s | {np.median(first):.4f} | {np.median(second):.4f} |",
        f"| latency p95, s | {np.quantile(first, 0.95):.3f} | {np.quantile(second, 0.95):.3f} |",
        f"| time it took, of the real-time run's | {short_s / long_s:.0%} | 100 % |",
        f"| two-sample Kolmogorov-Smirnov test | p = {test.pvalue:.2f} | |",
    ]


def front(folder: Path) -> list[str]:
    """What the front end adds to a call of the model server, in interleaved rounds."""
    archive = build(CACHE / "weighbridge")
    body = samples(archive)[0]
    kept = Serverless(profile={"placement_median_s": 0.0})
    deployment = Deployment(
        [Endpoint("kept", Realtime(), str(archive)), Endpoint("zero", kept, str(archive))]
    )
    with serving(deployment, folder / "front") as server:
        [direct] = [
            f"http://127.0.0.1:{connection.laddr.port}/invocations"
            for process in server.instances()
            for connection in process.net_connections()
            if connection.status == "LISTEN"
        ]
        ways = {
            "model server alone": direct,
            "real-time endpoint": f"{server.address}/endpoints/kept/invocations",
            "serverless endpoint, warm": f"{server.address}/endpoints/zero/invocations",
        }
        for url in ways.values():
            calls(url, body, 50)
        rounds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, url in ways.items():
                rounds[name].append(float(np.median(calls(url, body, CALLS))))
    base = float(np.median(rounds["model server alone"]))
    rows = [
        f"| {name} | {np.median(found) * 1e3:.2f} ms | {np.median(found) / base:.2f} |"
        for name, found in rounds.items()
    ]
    return [f"| one caller, {ROUNDS} rounds | p50 | ratio |", "|---|---|---|", *rows]


def calls(url: str, body: bytes, count: int) -> list[float]:
    """Seconds that each of ``count`` calls over one connection took."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - began)
        assert answer.status == 200, answer.status
    connection.close()
    return took


PARTS: dict[str, Callable[[Path], list[str]]] = {
    "front": front,
    "load": exactness,
    "fast-forward": fast_forward,
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
