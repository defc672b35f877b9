"""What the emulator adds to serverless: ``make perf ARGS=serverless``, with the goal of each.

A cold start against the bare process, also of a heavy model of one's own; a warm request against
its environment; simulated hours against the work in them: three, or with
``WEIGHBRIDGE_SERVERLESS_DAY=1`` a day of 500 requests and 150 cold starts, which takes as long as
those starts do: ten minutes or so. Where other work shares the machine, WEIGHBRIDGE_PERF_FIFO=1 has
the caller and the front end of warm requests go before it; it needs the right to do so.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from bench.arrivals import Bursts
from bench.deployment import Deployment, Endpoint
from bench.measure import Model, Order, measure
from bench.plan import Plan
from bench.record import Records
from bench.run import Run
from bench.session import sample_files
from bench.target import Serverless
from bench.workload import Objective, Workload
from servers.archive import fingerprint, unpack_model
from servers.digits.build import build
from servers.limits import Caps, find_limiter
from servers.samples import samples
from tests.conftest import CACHE
from tests.heavy import heavy_model, why_not
from tests.perf_goals import Goal, Table, before_others
from tests.serving import Serving, serving

ROUNDS = int(os.environ.get("ROUNDS", "9"))
CALLS = 400
MEMORY_MB = 2048
ROOT = Path(__file__).parent.parent
HOURS = 24 if os.environ.get("WEIGHBRIDGE_SERVERLESS_DAY") else 3

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

# Asks of each address in turn, one request after the other, by the load generator's client.
CALLER = """
import json, sys, time
from gevent.event import AsyncResult
import msgspec
from bench.plan import Plan
from scenarios.bodies import bodies_of
from scenarios.client import open_client

plans = msgspec.json.decode(sys.argv[1], type=list[Plan])
took_s = [[] for _ in plans]
with bodies_of(plans[0]) as bodies:
    clients = [open_client(plan, bodies, time.monotonic) for plan in plans]
    for _ in range(int(sys.argv[2])):
        for client, found in zip(clients, took_s):
            answered = AsyncResult()
            client.send(0, answered.set)
            outcome = answered.get()
            assert outcome.status == 200, outcome
            found.append(outcome.done_s - outcome.sent_s)
print(json.dumps(took_s))
"""

DAY = Workload(
    name="day",
    title="requests of a day, of which every third is cold",
    scenario="intermittent",
    duration_s=HOURS * 3600.0,
    arrivals=Bursts(mean_gap_s=570.0, mean_size=3.3, mean_spacing_s=4.0),
    objective=Objective(latency_s=10.0),
    fast_forward=True,
    seed=97,
)


class Silent:
    """A watcher that says nothing."""

    def expect(self, duration_s: float, scheduled: int | None) -> None: ...
    def phase(self, mode: str, text: str) -> None: ...
    def live(self, at_s: float, new: Records) -> None: ...


def serverless(folder: Path) -> list[str]:
    """The goals, and what was found."""
    archive = build(CACHE / "weighbridge")
    table = Table(ROUNDS)
    _cold(table, folder / "of-digits", archive, "digits")
    heavy, reason = "a model of 500 MB", why_not()
    if reason is None:
        _cold(table, folder / "of-heavy", heavy_model(folder / "heavy"), heavy)
    _warm(table, folder, archive)
    _day(table, folder, archive)
    left_out = [f"* cold start of {heavy} not measured: {reason}"] if reason else []
    return table.lines() + left_out


def _cold(table: Table, folder: Path, archive: Path, name: str) -> None:
    """From the request to the first inference, less that inference, against the bare process.

    In turns, so that both see the machine in the same states, and both under the same caps.
    """
    folder.mkdir()
    model = folder / "bare"
    unpack_model(archive, model)
    target = Serverless(memory_mb=MEMORY_MB, profile={"placement_median_s": 0, "pull_mb_per_s": 0})
    goal = Goal(f"added to a cold start of {name}", 5, unit="%")
    with serving(Deployment([Endpoint("zero", target, str(archive))]), folder / "cold") as server:
        _cold_s(server)
        for _ in range(ROUNDS):
            bare_s, ours_s = _bare_s(model), _cold_s(server)
            table.add(goal, (ours_s / bare_s - 1) * 100)
            table.note(f"{name}: spawned, imported and loaded by a bare script, s", bare_s)
            table.note(f"{name}: started by the endpoint, s", ours_s)


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
        cwd=ROOT,
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
    server.client("sagemaker").update_endpoint(EndpointName="zero", EndpointConfigName="zero")
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


def _warm(table: Table, folder: Path, archive: Path) -> None:
    """A warm request through the endpoint against one to the environment itself, in turns.

    With the memory of one vCPU the model has one thread, which need not wait for others of its own.
    """
    body = folder / "warm.json"
    body.write_bytes(samples(archive)[0])
    target = Serverless(memory_mb=MEMORY_MB, profile={"placement_median_s": 0})
    with serving(Deployment([Endpoint("zero", target, str(archive))]), folder / "warm") as server:
        through = f"{server.address}/endpoints/zero/invocations"
        _calls([through], body, 50)
        if "WEIGHBRIDGE_PERF_FIFO" in os.environ:  # the environment has started without it
            os.sched_setscheduler(server.child.pid, os.SCHED_FIFO, os.sched_param(10))
        [port] = [
            connection.laddr.port
            for process in server.instances()
            for connection in process.net_connections()
            if connection.status == "LISTEN"
        ]
        direct = f"http://127.0.0.1:{port}/invocations"
        for _ in range(ROUNDS):
            one, other = np.median(_calls([direct, through], body, CALLS), axis=1) * 1e3
            table.add(Goal("added to a warm request, p50", 0.5), float(other - one))
            table.note("warm request, ms, straight to the environment", float(one))
            table.note("warm request, ms, through the endpoint", float(other))


def _calls(urls: list[str], body: Path, count: int) -> npt.NDArray[np.float64]:
    """Seconds that each of ``count`` calls took: a row for each address."""
    plans = [Plan(DAY, url, [str(body)]) for url in urls]
    command = [sys.executable, "-c", CALLER, msgspec.json.encode(plans).decode(), str(count)]
    with before_others():
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=300, check=True)
    return np.array(json.loads(done.stdout))


def _day(table: Table, folder: Path, archive: Path) -> None:
    """The real time of simulated hours against the time in which a request was worked on."""
    files = sample_files(samples(archive), folder / "payloads")
    model = Model("digits", archive, fingerprint(archive))
    order = Order(DAY, Serverless(memory_mb=MEMORY_MB), model, files, "make perf")
    run = measure(order, folder / "day", Silent())
    work_s, real_s = _worked_s(run), float(run.manifest["load"]["real_s"])
    requests = run.requests()
    name = f"added to {HOURS} h of {len(requests)} requests, {int(requests['cold'].sum())} cold"
    table.add(Goal(name, 10, unit="%"), (real_s / work_s - 1) * 100)
    table.note("real work in these hours, s", work_s)
    table.note("real time that they took, s", real_s)


def _worked_s(run: Run) -> float:
    """Seconds in which a request was on its way and not waiting for a modelled delay alone."""
    requests = run.requests()
    modelled_s = np.nan_to_num(requests["placement_s"].to_numpy(np.float64))
    begins_s = requests["sent_s"].to_numpy(np.float64) + modelled_s
    return _covered_s(begins_s, requests["done_s"].to_numpy(np.float64))


def _covered_s(begins: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]) -> float:
    """Seconds in which at least one of the spans lay."""
    covered, until = 0.0, -np.inf
    for at in np.argsort(begins):
        begin, end = max(float(begins[at]), until), float(ends[at])
        covered += max(0.0, end - begin)
        until = max(until, end)
    return covered
