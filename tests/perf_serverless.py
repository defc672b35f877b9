"""What the emulator adds to serverless: ``make perf ARGS=serverless``.

Four rows: a cold start against the bare process, a warm request against its environment, a day
against the work in it, and a heavy model of one's own.
"""

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import numpy as np
import numpy.typing as npt

from bench.arrivals import Bursts
from bench.deployment import Deployment, Endpoint
from bench.measure import Model, Order, measure
from bench.record import Records
from bench.session import sample_files
from bench.target import Serverless
from bench.workload import Objective, Workload
from servers.archive import fingerprint, unpack_model
from servers.digits.build import build
from servers.limits import Caps, find_limiter
from servers.samples import samples
from tests.conftest import CACHE
from tests.heavy import heavy_model, why_not
from tests.serving import Serving, serving

ROUNDS = int(os.environ.get("ROUNDS", "9"))
CALLS = 400
MEMORY_MB = 2048

# The same as the container does, and nothing else: the user's program imported, its model loaded.
BARE = """
import importlib.util, sys
from pathlib import Path
sys.stdin.readline()
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder / "code"))
spec = importlib.util.spec_from_file_location("inference", folder / "code" / "inference.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.model_fn(str(folder))
print("ready", flush=True)
"""

DAY = Workload(
    name="day",
    title="a day of 500 requests, 150 of them cold",
    scenario="intermittent",
    duration_s=float(os.environ.get("DAY_S", "86400")),
    arrivals=Bursts(mean_gap_s=570.0, mean_size=3.3, mean_spacing_s=4.0),
    objective=Objective(latency_s=10.0),
    fast_forward=True,
)


class Silent:
    """A watcher that says nothing."""

    def expect(self, duration_s: float, scheduled: int | None) -> None: ...
    def phase(self, mode: str, text: str) -> None: ...
    def live(self, at_s: float, new: Records) -> None: ...


def serverless(folder: Path) -> list[str]:
    """The rows, with what each must stay below."""
    archive = build(CACHE / "weighbridge")
    rows = ["| serverless | bare | emulator | addition | limit |", "|---|---|---|---|---|"]
    rows.append(_cold(folder, archive, "cold start, digits"))
    if (reason := why_not()) is None:
        heavy = heavy_model(folder / "heavy")
        rows.append(_cold(folder / "of-heavy", heavy, "cold start, 500 MB of weights"))
    else:
        rows.append(f"| cold start, 500 MB of weights | not measured: {reason} | | | |")
    rows.append(_warm(folder, archive))
    rows.append(_day(folder, archive))
    return rows


def _cold(folder: Path, archive: Path, name: str) -> str:
    """From the request to the first inference, less that inference, against the bare process.

    In turns, so that both see the machine in the same states, and both under the same caps.
    """
    folder.mkdir(exist_ok=True)
    model = folder / "bare"
    unpack_model(archive, model)
    target = Serverless(memory_mb=MEMORY_MB, profile={"placement_median_s": 0, "pull_mb_per_s": 0})
    bare, ours = [], []
    with serving(Deployment([Endpoint("zero", target, str(archive))]), folder / "cold") as server:
        _cold_s(server)
        for _ in range(ROUNDS):
            bare.append(_bare_s(model))
            ours.append(_cold_s(server))
    one, other = float(np.median(bare)), float(np.median(ours))
    share = float(np.median(np.array(ours) / np.array(bare))) - 1
    return f"| {name}, p50 of {ROUNDS} | {one:.3f} s | {other:.3f} s | {share:+.1%} | 5 % |"


def _bare_s(model: Path) -> float:
    caps = Caps(MEMORY_MB, MEMORY_MB / 1769)
    threads = str(max(1, min(os.cpu_count() or 1, int(MEMORY_MB / 1769))))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", BARE, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **dict.fromkeys(names, threads), "WEIGHBRIDGE_DEVICE": "cpu"},
        cwd=Path(__file__).parent.parent,
    ) as process:
        group = find_limiter().hold(process.pid, caps)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        said = process.stdout.readline()
        took_s = time.perf_counter() - began
        process.kill()
    group.release()
    assert said == b"ready\n", said
    return took_s


def _cold_s(server: Serving) -> float:
    """The caller's time of a cold start, without the inference that follows it."""
    control = boto3.client(
        "sagemaker",
        endpoint_url=server.address,
        region_name="us-east-1",
        aws_access_key_id="perf",
        aws_secret_access_key="perf",
    )
    control.update_endpoint(EndpointName="zero", EndpointConfigName="next")
    while server.instances():
        time.sleep(0.01)
    client = server.client()
    began = time.perf_counter()
    answer = client.invoke_endpoint(
        EndpointName="zero", ContentType="application/json", Body=_body(server)
    )
    took_s = time.perf_counter() - began
    timing = answer["ResponseMetadata"]["HTTPHeaders"]["server-timing"]
    assert "setup;" in timing, "this one was not cold"
    [model_ms] = [each[10:] for each in timing.split(", ") if each.startswith("model;dur=")]
    return took_s - float(model_ms) / 1000


def _body(server: Serving) -> bytes:
    # Each model brings its samples.
    deployment = json.loads((Path(server.child.log).parent / "deployment.json").read_text())
    return samples(Path(deployment["endpoints"][0]["model"]))[0]


def _warm(folder: Path, archive: Path) -> str:
    """A warm request through the endpoint against one to the environment itself, in turns."""
    body = samples(archive)[0]
    target = Serverless(memory_mb=6144, profile={"placement_median_s": 0})
    with serving(Deployment([Endpoint("zero", target, str(archive))]), folder / "warm") as server:
        through = f"{server.address}/endpoints/zero/invocations"
        calls(through, body, 50)
        [direct] = [
            f"http://127.0.0.1:{connection.laddr.port}/invocations"
            for process in server.instances()
            for connection in process.net_connections()
            if connection.status == "LISTEN"
        ]
        calls(direct, body, 50)
        both: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            pair = (np.median(calls(direct, body, CALLS)), np.median(calls(through, body, CALLS)))
            both.append((float(pair[0]), float(pair[1])))
    one, other = np.median(both, axis=0) * 1e3
    added = float(np.median([b - a for a, b in both])) * 1e3
    return f"| warm request, p50 | {one:.2f} ms | {other:.2f} ms | {added:+.2f} ms | 0.5 ms |"


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


def _day(folder: Path, archive: Path) -> str:
    """A day's real time against the time in which a request was really worked on."""
    files = sample_files(samples(archive), folder / "payloads")
    order = Order(
        DAY,
        Serverless(memory_mb=MEMORY_MB),
        Model("digits", archive, fingerprint(archive)),
        files,
        "make perf",
    )
    run = measure(order, folder / "day", Silent())
    requests = run.requests()
    modelled = np.nan_to_num(requests["placement_s"].to_numpy(np.float64))
    ends = requests["done_s"].to_numpy(np.float64)
    work_s = _covered_s(requests["sent_s"].to_numpy(np.float64) + modelled, ends)
    real_s = float(run.manifest["load"]["real_s"])
    cold = int(requests["cold"].sum())
    name = f"{len(requests)} arrivals, {cold} cold starts in {DAY.duration_s / 3600:g} h"
    return f"| {name} | {work_s:.1f} s | {real_s:.1f} s | {real_s / work_s - 1:+.1%} | 10 % |"


def _covered_s(begins: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]) -> float:
    """Seconds in which at least one of the spans lay."""
    covered, until = 0.0, -np.inf
    for at in np.argsort(begins):
        begin, end = max(float(begins[at]), until), float(ends[at])
        covered += max(0.0, end - begin)
        until = max(until, end)
    return covered
