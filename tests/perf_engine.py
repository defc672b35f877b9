"""How exact the load generator is, beside the machine's own floor and beside its peers.

A part of ``make perf`` (``make perf ARGS=load``) of under three minutes. The truth is a server that
tells in each answer how long it took, by the same monotonic clock. Everything runs in rounds, one
after the other, and what is printed are medians.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bench.arrivals import Constant
from bench.loops import Closed
from bench.plan import PLAN_VARIABLE, Plan
from bench.record import Records, read_records
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
import asyncio, collections, ctypes, os, socket, sys, time
import uvloop

DELAY_S = float(sys.argv[2])
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
            if DELAY_S:
                later(self.answer, arrived_s)
            else:
                self.answer(arrived_s)

    def answer(self, arrived_s):
        if self.transport.is_closing():
            return
        service_ms = (time.monotonic() - arrived_s) * 1000
        self.transport.write(HEAD + b"%.6f" % service_ms + END + b"[]")

# The loop's own timers end on whole milliseconds: the median would depend on how many are sent
# together, and so on the client. All wait equally long, so the first in is the first out.
libc, waiting = ctypes.CDLL(None), collections.deque()
alarm = libc.timerfd_create(1, os.O_NONBLOCK)  # 1: CLOCK_MONOTONIC

def later(answer, arrived_s):
    waiting.append((answer, arrived_s))
    if len(waiting) == 1:
        wait()

def wait():
    due_ns = int((waiting[0][1] + DELAY_S) * 1e9)
    spec = (ctypes.c_long * 4)(0, 0, *divmod(due_ns, 1_000_000_000))
    libc.timerfd_settime(alarm, 1, spec, None)  # 1: TFD_TIMER_ABSTIME

def ring():
    os.read(alarm, 8)
    while waiting and waiting[0][1] + DELAY_S <= time.monotonic():
        answer, arrived_s = waiting.popleft()
        answer(arrived_s)
    if waiting:
        wait()

async def main():
    asyncio.get_running_loop().add_reader(alarm, ring)
    listener = socket.socket(fileno=int(sys.argv[1]))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Truth, sock=listener, backlog=4096)

    # Whoever sends to a sleeping server pays for waking it, which is no cost of sending; so a
    # client that is faster than the server would look better than it is beside a slower one.
    def stay_awake():
        loop.call_soon(stay_awake)

    if not DELAY_S:
        stay_awake()
    await server.serve_forever()

uvloop.run(main())
"""

GREENLETS = """
import msgspec
from bench.clients import FastHttp
from scenarios import engine
from scenarios.client import open_client
from scenarios.engine import OpenLoopUser

def compatible(plan, bodies, now):
    workload = msgspec.structs.replace(plan.workload, client=FastHttp())
    return open_client(msgspec.structs.replace(plan, workload=workload), bodies, now)

engine.open_client = compatible

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
    p50, p99, rare = np.percentile(values_s, [50, 99, 99.9]) * 1000
    return {f"{name} p50": p50, f"{name} p99": p99, f"{name} p99.9": rare}


def untold(records: Records) -> Times:
    """Latency that the server cannot have caused. It does not see a connection being opened."""
    own_s: Times = records["done_s"] - records["sent_s"] - records["model_s"]
    own_s -= np.nan_to_num(records["connect_s"])
    return own_s


def engine(url: str, folder: Path, rate_rps: float, locustfile: Path) -> Figures:
    """Our own load, as a measurement starts it."""
    found, check = sent(url, folder, Constant(rate_rps), locustfile)
    answered = int((found["status"] == 200).sum())
    found = found[found["due_s"] >= SETTLING_S]
    return {
        **lateness(found["sent_s"] - found["due_s"]),
        **percentiles("error", untold(found)),
        "achieved": answered / (LOAD_S * rate_rps),
        "cpu": check["cpu_s"] / check["real_s"],
    }


def sent(
    url: str, folder: Path, arrivals: Constant | Closed, locustfile: Path, load_s: float = LOAD_S
) -> tuple[Records, dict[str, Any]]:
    """The records of a load, and what the generator saw of itself."""
    workload = Workload("perf", "", "sustained", load_s, arrivals, Objective(1), max_in_flight=1000)
    records, events = folder / "records", folder / "events"
    for path in (records, events):
        path.unlink(missing_ok=True)
    body = str(folder / "body.json")
    plan = Plan(workload, url, [body], records=str(records), events=str(events))
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    locust(locustfile, {PLAN_VARIABLE: str(folder / "plan.json")}, "--users", "1")
    check: dict[str, Any] = next(
        event
        for event in map(json.loads, events.read_text().splitlines())
        if event["kind"] == "selfcheck"
    )
    return np.sort(read_records(records.read_bytes()), order="seq"), check


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
        [*command, "--skip-log-setup", "--only-summary", "--exit-code-on-error", "0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"Locust ended with {done.returncode}:\n{done.stderr[-2000:]}")


def exactness(folder: Path) -> list[str]:
    """How exact the load is, beside the machine's own timer and the peers."""
    (folder / "greenlets.py").write_text(GREENLETS)
    with truth(folder) as (url, _):
        return report(measure(url, folder))


@contextlib.contextmanager
def truth(folder: Path, delay_s: float = 0.005) -> Iterator[tuple[str, int]]:
    """The server that tells the truth about itself: its address and its process.

    The body that it understands is left in ``folder``.
    """
    (folder / "body.json").write_text(json.dumps([0.5] * 200))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", SERVER, str(listener.fileno()), str(delay_s)]
        server = subprocess.Popen(command, pass_fds=[listener.fileno()])
        # What else runs here must not delay the truth; the generator has no such privilege.
        with contextlib.suppress(AttributeError, PermissionError):
            os.sched_setscheduler(server.pid, os.SCHED_FIFO, os.sched_param(20))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server.pid
        finally:
            server.send_signal(signal.SIGCONT)
            server.terminate()
            server.wait()


def measure(url: str, folder: Path) -> dict[str, Figures]:
    """Medians over the rounds, by what was measured."""
    ours, greenlets = SCENARIOS / "sustained.py", folder / "greenlets.py"
    kinds: dict[str, Callable[[], Figures]] = {
        "floor: clock_nanosleep, 1000/s": lambda: floor(1000),
        "engine, 1000 rps": lambda: engine(url, folder, 1000, ours),
        "FastHttpSession path, 1000 rps": lambda: engine(url, folder, 1000, greenlets),
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
    for kind in ("FastHttpSession path, 1000 rps", "Locust constant_throughput, 1000 rps"):
        ours = medians["engine, 1000 rps"]
        ratios = [f"{name} {medians[kind][name] / ours[name]:.1f}" for name in columns[:4]]
        lines.append(f"* {kind} over engine: {', '.join(ratios)}")
    return lines
