"""How exact the load generator is, beside the machine's own floor and beside its peers.

A part of ``make perf`` (``make perf ARGS=load``) of under three minutes. The truth is a server that
tells in each answer how long it took, by the same monotonic clock. Everything runs in rounds, one
after the other, and what is printed are medians.
"""

import ctypes
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from bench.arrivals import Constant
from bench.plan import PLAN_VARIABLE, Plan
from bench.record import read_records
from bench.workload import Objective, Workload

ROUNDS = 5
LOAD_S = 3.0
FLOOR_S = 1.0
SETTLING_S = 0.5
"""Left out at the beginning of each load: connections are opened then."""
PEER_USERS, PEER_SPAWN_S = 100, 2.0

SCENARIOS = Path(__file__).parent.parent / "scenarios"
ROOT = SCENARIOS.parent

SERVER = """
import asyncio, socket, sys, time
import uvloop

HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nServer-Timing: model;dur="
END = b"\\r\\n\\r\\n"

class Truth(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
        self.loop = asyncio.get_running_loop()

    def data_received(self, data):
        arrived_s = time.monotonic()
        self.data += data
        if self.data.endswith(b"]"):  # the last byte of each body
            self.data = b""
            self.loop.call_later(0.005, self.answer, arrived_s)

    def answer(self, arrived_s):
        service_ms = (time.monotonic() - arrived_s) * 1000
        self.transport.write(HEAD + b"%.6f" % service_ms + END + b"[]")

async def main():
    listener = socket.socket(fileno=int(sys.argv[1]))
    server = await asyncio.get_running_loop().create_server(Truth, sock=listener)
    await server.serve_forever()

uvloop.run(main())
"""

GREENLETS = """
from scenarios import engine
from scenarios.client import GreenletClient
from scenarios.engine import OpenLoopUser

engine.open_client = GreenletClient

class Greenlets(OpenLoopUser):
    pass
"""

PEER = """
from locust import FastHttpUser, constant_throughput, events, task

import os, time
from pathlib import Path
import numpy as np

BODY = Path(os.environ["BODY"]).read_bytes()
HEADERS = {"Content-Type": "application/json"}
ROWS = []

class Peer(FastHttpUser):
    wait_time = constant_throughput(float(os.environ["EACH_RPS"]))

    @task
    def post(self):
        self.sent_s = time.monotonic()
        self.client.post("/", BODY, headers=HEADERS, context={"user": self})

@events.request.add_listener
def note(response_time, response, context, **_):
    user = context["user"]
    served_ms = float(response.headers["server-timing"].partition("dur=")[2])
    ROWS.append((id(user), user.sent_s, response_time / 1000, served_ms / 1000))

@events.test_start.add_listener
def begin(**_):
    global began
    began = time.process_time(), time.monotonic()

@events.test_stop.add_listener
def end(**_):
    share = (time.process_time() - began[0]) / (time.monotonic() - began[1])
    np.savez(os.environ["ROWS"], rows=np.array(ROWS), cpu=share)
"""

Times = npt.NDArray[np.float64]
Figures = dict[str, float]


def floor(rate_rps: float) -> Figures:
    """How late this machine wakes a process that does nothing else."""
    ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK
    start_s, late_s = time.monotonic() + 0.01, []
    for number in range(int(FLOOR_S * rate_rps)):
        due_s = start_s + number / rate_rps
        if (wait_s := due_s - time.monotonic()) > 0:
            time.sleep(wait_s)
        late_s.append(time.monotonic() - due_s)
    return lateness(np.array(late_s))


def lateness(late_s: Times) -> Figures:
    return percentiles("lateness", late_s)


def percentiles(name: str, values_s: Times) -> Figures:
    """In milliseconds."""
    p50, p99 = np.percentile(values_s, [50, 99]) * 1000
    return {f"{name} p50": p50, f"{name} p99": p99}


def engine(url: str, folder: Path, rate_rps: float, locustfile: Path) -> Figures:
    """Our own load, as a measurement starts it."""
    workload = Workload(
        "perf", "", "sustained", LOAD_S, Constant(rate_rps), Objective(1), max_in_flight=1000
    )
    records, events = folder / "records", folder / "events"
    for path in (records, events):
        path.unlink(missing_ok=True)
    body = str(folder / "body.json")
    plan = Plan(workload, url, [body], records=str(records), events=str(events))
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    locust(locustfile, {PLAN_VARIABLE: str(folder / "plan.json")}, "--users", "1")
    found = read_records(records.read_bytes())
    answered = int((found["status"] == 200).sum())
    end = next(
        event
        for event in map(json.loads, events.read_text().splitlines())
        if event.get("name") == "end"
    )
    found = found[found["due_s"] >= SETTLING_S]
    return {
        **lateness(found["sent_s"] - found["due_s"]),
        **percentiles("error", found["done_s"] - found["sent_s"] - found["model_s"]),
        "achieved": answered / (LOAD_S * rate_rps),
        "cpu": end["generator_cpu_s"] / end["real_s"],
    }


def peer(url: str, folder: Path, rate_rps: float) -> Figures:
    """Locust's own ``constant_throughput``; lateness is against each user's earliest pace."""
    rows, load = folder / "rows.npz", folder / "peer.py"
    load.write_text(PEER)
    variables = {
        "BODY": str(folder / "body.json"),
        "ROWS": str(rows),
        "EACH_RPS": str(rate_rps / PEER_USERS),
    }
    users = ["--users", str(PEER_USERS), "--spawn-rate", str(PEER_USERS)]
    locust(load, variables, "--host", url, *users, "--run-time", f"{PEER_SPAWN_S + LOAD_S:g}s")
    noted = np.load(rows)
    user, sent_s, latency_s, served_s = noted["rows"].T
    late_s = np.concatenate([_late(sent_s[user == each], rate_rps) for each in set(user)])
    window = sent_s >= sent_s.max() - LOAD_S
    return {
        **lateness(late_s),
        **percentiles("error", (latency_s - served_s)[window]),
        "achieved": float(window.sum()) / (LOAD_S * rate_rps),
        "cpu": float(noted["cpu"]),
    }


def _late(sent_s: Times, rate_rps: float) -> Times:
    late_s: Times = sent_s - np.arange(len(sent_s)) * PEER_USERS / rate_rps
    late_s = late_s[len(late_s) // 3 :]
    late_s -= late_s.min()
    return late_s


def locust(locustfile: Path, variables: dict[str, str], *options: str) -> None:
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", *options]
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--skip-log-setup", "--only-summary"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"Locust ended with {done.returncode}:\n{done.stderr[-2000:]}")


def exactness(folder: Path) -> list[str]:
    """How exact the load is, beside the machine's own timer and the peers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (folder / "body.json").write_text(json.dumps([0.5] * 200))
        (folder / "greenlets.py").write_text(GREENLETS)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-c", SERVER, str(listener.fileno())]
        server = subprocess.Popen(command, pass_fds=[listener.fileno()])
        try:
            return report(measure(url, folder))
        finally:
            server.terminate()
            server.wait()


def measure(url: str, folder: Path) -> dict[str, Figures]:
    """Medians over the rounds, by what was measured."""
    ours, greenlets = SCENARIOS / "sustained.py", folder / "greenlets.py"
    kinds: dict[str, Callable[[], Figures]] = {
        "floor: clock_nanosleep, 1000/s": lambda: floor(1000),
        "engine, 1000 rps": lambda: engine(url, folder, 1000, ours),
        "geventhttpclient path, 1000 rps": lambda: engine(url, folder, 1000, greenlets),
        "Locust constant_throughput, 1000 rps": lambda: peer(url, folder, 1000),
        "floor: clock_nanosleep, 5000/s": lambda: floor(5000),
        "engine, 5000 rps": lambda: engine(url, folder, 5000, ours),
        "engine, 10000 rps": lambda: engine(url, folder, 10_000, ours),
    }
    rounds = [{kind: run() for kind, run in kinds.items()} for _ in range(ROUNDS)]
    return {
        kind: {name: statistics.median(each[kind][name] for each in rounds) for name in first}
        for kind, first in rounds[0].items()
    }


def report(medians: dict[str, Figures]) -> list[str]:
    """The table, and the ratios that it is read by."""
    columns = ["lateness p50", "lateness p99", "error p50", "error p99", "achieved", "cpu"]
    lines = [
        f"| load, {ROUNDS} rounds of {LOAD_S:g} s, medians in ms | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for kind, figures in medians.items():
        cells = [f"{figures[name]:.3f}" if name in figures else "" for name in columns]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines += ["", "Ratios of lateness to the floor, and of error to the engine's:", ""]
    for rate in (1000, 5000):
        ours, least = medians[f"engine, {rate} rps"], medians[f"floor: clock_nanosleep, {rate}/s"]
        late = [f"{name} {ours[name] / least[name]:.2f}" for name in columns[:2]]
        lines.append(f"* engine over floor at {rate}/s: {', '.join(late)}")
    for kind in ("geventhttpclient path, 1000 rps", "Locust constant_throughput, 1000 rps"):
        ours = medians["engine, 1000 rps"]
        ratios = [f"{name} {medians[kind][name] / ours[name]:.1f}" for name in columns[:4]]
        lines.append(f"* {kind} over engine: {', '.join(ratios)}")
    return lines
