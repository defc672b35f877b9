"""What the load generator promises, beside the machine's floor, Locust's own pacing and wrk.

A part of ``make perf`` (``make perf ARGS=goals``) of about five minutes. Each goal is the median of
interleaved rounds against a server that tells how long it took. One of two cores is the server's,
the other the generator's. What is not installed (wrk) is left out, and that is said. Where other
work shares the machine, WEIGHBRIDGE_PERF_FIFO=1 has the timer's floor, the generator and its peers
go before it (but not beside the hog); it needs the right to do so.
"""

import contextlib
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.arrivals import Constant
from bench.loops import Closed
from tests.perf_engine import (
    SCENARIOS,
    SETTLING_S,
    floor,
    locust,
    peer,
    percentiles,
    sent,
    truth,
    untold,
)

ROUNDS = 3
CONNECTIONS = 16
CLOSED_S = 3.0
FREEZE_RPS, FREEZE_LOAD_S, FREEZE_S = 500.0, 9.0, 1.0
MILLION_RPS = 8_000.0
ENGINE = SCENARIOS / "sustained.py"

FAST = """
from locust import FastHttpUser, constant, events, task
import os, time
from pathlib import Path

BODY = Path(os.environ["BODY"]).read_bytes()

class Fast(FastHttpUser):
    wait_time = constant(0)

    @task
    def post(self):
        self.client.post("/", BODY, headers={"Content-Type": "application/json"})

@events.spawning_complete.add_listener
def begin(**_):
    global began
    began = time.process_time(), sum(e.num_requests for e in environment.stats.entries.values())

@events.init.add_listener
def keep(environment, **_):
    globals()["environment"] = environment

@events.test_stop.add_listener
def end(**_):
    count = sum(e.num_requests for e in environment.stats.entries.values()) - began[1]
    Path(os.environ["FOUND"]).write_text(str(count / (time.process_time() - began[0])))
"""
WRK = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*a")
"""

HOG = "while True: pass"
READER = """
import sys
from pathlib import Path
import psutil
from bench.process import peak_memory_bytes
from bench.raw import finish
from bench.documents import write_json
from bench.run import read_run
from reports.summary import summarise
from tests.make_runs import make_run, records

folder = Path(sys.argv[1])
manifest = make_run(folder / "like", "realtime", records(10, 1.0)).manifest
began = psutil.Process().memory_info().rss
manifest["load"].update(finish(folder, [], 100.0))
write_json(folder / "manifest.json", manifest)
found = summarise(read_run(folder))
assert found.answered + found.failed == 1_000_000
print(peak_memory_bytes() - began)
"""


@dataclass
class Goal:
    """One line of the table."""

    name: str
    limit: float
    least: bool = False
    """The limit is the least that will do, not the most."""
    unit: str = "ms"
    found: list[float] = field(default_factory=list)

    def line(self) -> str:
        bound = f"{'>=' if self.least else '<='} {self.limit:g} {self.unit}"
        if not self.found:
            return f"| {self.name} | {bound} | not measured | |"
        value = statistics.median(self.found)
        kept = value >= self.limit if self.least else value <= self.limit
        return f"| {self.name} | {bound} | {value:.3f} {self.unit} | {'pass' if kept else 'FAIL'} |"


class Table:
    """Goals by name, in the order in which they were first measured."""

    def __init__(self, rounds: int = ROUNDS) -> None:
        self._rounds = rounds
        self._goals: dict[str, Goal] = {}
        self._notes: dict[str, list[float]] = {}

    def add(self, goal: Goal, value: float) -> None:
        self._goals.setdefault(goal.name, goal).found.append(value)

    def note(self, name: str, value: float) -> None:
        """A figure that is no goal but belongs beside them."""
        self._notes.setdefault(name, []).append(value)

    def lines(self) -> list[str]:
        head = f"| goal, medians of {self._rounds} rounds | limit | found | |"
        notes = [f"* {name}: {statistics.median(found):.4g}" for name, found in self._notes.items()]
        goals = [goal.line() for goal in self._goals.values()]
        return [head, "|---|---|---|---|", *goals, "", "Beside them:", "", *notes]


def goals(folder: Path) -> list[str]:
    """The table of goals."""
    table = Table()
    try:
        for _ in range(ROUNDS):
            with _server(folder) as (url, pid):
                _punctuality(table, url, folder)
                _beside_a_hog(table, url, folder)
                _freeze(table, url, pid, folder)
                _agreement(table, url, folder)
            with _server(folder, 0.0) as (url, _):
                _closed_loops(table, url, folder)
        with _server(folder) as (url, _):
            _million(table, url, folder)
    finally:
        if CORES:
            os.sched_setaffinity(0, CORES)
    return table.lines()


def _punctuality(table: Table, url: str, folder: Path) -> None:
    for rate_rps in (1000.0, 5000.0):
        with before_others():
            around = [floor(rate_rps)["lateness p99"]]
            records, check = sent(url, folder, Constant(rate_rps), ENGINE)
            around.append(floor(rate_rps)["lateness p99"])
        least = statistics.mean(around)
        records = records[records["due_s"] >= SETTLING_S]
        late_s, at = records["sent_s"] - records["due_s"], f"at {rate_rps:g}/s"
        late = percentiles("p", late_s)
        error = percentiles("p", untold(records))
        over = Goal(f"lateness p99 over the timer's, {at}", 0.15)
        table.add(over, late["p p99"] - least)
        table.add(Goal(f"latency error p99 {at}", 0.25), error["p p99"])
        span_s = records["sent_s"][-1] - records["sent_s"][0]
        due_s = records["due_s"][-1] - records["due_s"][0]
        rate = Goal(f"achieved rate's error {at}", 0.1, unit="%")
        table.add(rate, abs(due_s / span_s - 1) * 100)
        table.note(f"timer's own lateness p99, ms, {at}", least)
        table.note(f"lateness p99.9, ms, {at}", late["p p99.9"])
        table.note(f"generator's share of a core {at}", check["cpu_s"] / check["real_s"])
    theirs = peer(url, folder, 1000.0)
    for name in ("lateness p99", "error p99"):
        table.note(f"Locust constant_throughput at 1000/s: {name}, ms", theirs[name])


def _beside_a_hog(table: Table, url: str, folder: Path) -> None:
    hog = subprocess.Popen([sys.executable, "-c", HOG])  # on the generator's core, as its parent
    try:
        records, _ = sent(url, folder, Constant(1000.0), ENGINE)
    finally:
        hog.kill()
        hog.wait()
    records = records[records["due_s"] >= SETTLING_S]
    error = percentiles("p", untold(records))
    table.add(Goal("latency error p99 beside a CPU hog, at 1000/s", 0.3), error["p p99"])
    late = percentiles("p", records["sent_s"] - records["due_s"])
    table.note("lateness p99 beside a CPU hog, ms", late["p p99"])


def _freeze(table: Table, url: str, pid: int, folder: Path) -> None:
    """The server stands still for a second: is the p99 what arithmetic says?"""
    frozen: list[float] = []

    (folder / "records").unlink(missing_ok=True)

    def freeze() -> None:
        while not (folder / "records").exists():
            time.sleep(0.05)
        time.sleep(2.0)
        os.kill(pid, signal.SIGSTOP)
        frozen.append(time.monotonic())
        time.sleep(FREEZE_S)
        os.kill(pid, signal.SIGCONT)
        frozen.append(time.monotonic())

    stopper = threading.Thread(target=freeze)
    stopper.start()
    records, _ = sent(url, folder, Constant(FREEZE_RPS), ENGINE, FREEZE_LOAD_S)
    stopper.join()
    latency_s = records["done_s"] - records["due_s"]
    base_s, length_s = float(np.median(latency_s)), frozen[1] - frozen[0]
    # Of all that is due in the freeze each waits for its end: the waits fall evenly to zero.
    rank = 0.01 * len(records) / FREEZE_RPS
    true_s = base_s + length_s - rank
    error = abs(float(np.quantile(latency_s, 0.99)) / true_s - 1) * 100
    table.add(Goal("p99 after a freeze of 1 s, off the analytic value", 5, unit="%"), error)


def _agreement(table: Table, url: str, folder: Path) -> None:
    """The same closed loop by wrk and by us: is the median the same?

    On one connection: of many that are answered together wrk reads one after the other and takes
    the time after each, so its median is 0.2 ms above the server's own where ours is not.
    """
    goal = Goal("p50 off wrk's, closed loop, 5 ms of service", 2, unit="%")
    with before_others():
        ours_s, theirs = _closed(url, folder, 1)[1], _wrk(url, folder, 1)
    if theirs is not None:
        table.add(goal, abs(ours_s / theirs[1] - 1) * 100)
        table.note("p50, ms, ours", ours_s * 1000)
        table.note("p50, ms, wrk", theirs[1] * 1000)


def _closed_loops(table: Table, url: str, folder: Path) -> None:
    with before_others():
        ours, fast = _closed(url, folder)[0], _fast(url, folder)
        theirs = _wrk(url, folder)
    table.add(Goal("requests a CPU-second, times FastHttpUser's", 8, True, "x"), ours / fast)
    table.note("requests a CPU-second, ours", ours)
    table.note("requests a CPU-second, FastHttpUser", fast)
    if theirs is not None:
        table.add(Goal("requests a CPU-second, times wrk's", 0.5, True, "x"), ours / theirs[0])
        table.note("requests a CPU-second, wrk", theirs[0])


def _closed(url: str, folder: Path, connections: int = CONNECTIONS) -> tuple[float, float]:
    """Requests a CPU-second and median seconds of a closed loop on our own engine.

    The seconds of the CPU are those of the loop, as with Locust's own user.
    """
    loop = Closed(users=connections, think_s=0.0)
    records, check = sent(url, folder, loop, ENGINE, CLOSED_S)
    return len(records) / check["cpu_s"], float(np.median(records["done_s"] - records["sent_s"]))


def _fast(url: str, folder: Path) -> float:
    (folder / "fast.py").write_text(FAST)
    found = folder / "fast"
    variables = {"BODY": str(folder / "body.json"), "FOUND": str(found)}
    users = ["--users", str(CONNECTIONS), "--spawn-rate", str(CONNECTIONS)]
    locust(folder / "fast.py", variables, "--host", url, *users, "--run-time", f"{CLOSED_S:g}s")
    return float(found.read_text())


def _wrk(url: str, folder: Path, connections: int = CONNECTIONS) -> tuple[float, float] | None:
    """The same by wrk; None where it is not installed."""
    if shutil.which("wrk") is None:
        print("wrk is not installed (Debian: apt-get install wrk): its rows are left out.")
        return None
    (folder / "post.lua").write_text(WRK)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{connections}", f"-d{CLOSED_S:g}s", "--latency"),
            *("-s", str(folder / "post.lua"), url),
        ],
        env={**os.environ, "BODY": str(folder / "body.json")},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    count = re.search(r"(\d+) requests in", done.stdout)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert count is not None, done.stdout
    assert median is not None, done.stdout
    unit_s = {"us": 1e-6, "ms": 1e-3, "s": 1.0}[median[2]]
    return int(count[1]) / cpu_s, float(median[1]) * unit_s


def _million(table: Table, url: str, folder: Path) -> None:
    """A million requests: what do the generator, and the process that reads them, hold?"""
    _, check = sent(url, folder, Constant(MILLION_RPS), ENGINE, 1e6 / MILLION_RPS)
    grown = Goal("memory of a million requests, generator", 300, unit="MB")
    table.add(grown, check["memory_growth_bytes"] / 1e6)
    environment = {**os.environ, "PYTHONPATH": str(SCENARIOS.parent)}
    (folder / "records").rename(folder / "requests.bin")
    (folder / "events").rename(folder / "events.jsonl")
    command = [sys.executable, "-c", READER, str(folder)]
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept = Goal("memory of a million requests, reading and summing up", 300, unit="MB")
    table.add(kept, float(text.stdout) / 1e6)


@contextlib.contextmanager
def _server(folder: Path, delay_s: float = 0.005) -> Iterator[tuple[str, int]]:
    """The truthful server, on a core of its own where there are two."""
    with contextlib.ExitStack() as stack:
        _pin(0)
        try:
            found = stack.enter_context(truth(folder, delay_s))
        finally:
            _pin(1)
        yield found


@contextlib.contextmanager
def before_others() -> Iterator[None]:
    """What is started in here does not wait for what else runs on its core, if that is wanted."""
    if "WEIGHBRIDGE_PERF_FIFO" not in os.environ:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _pin(number: int) -> None:
    """Keep this process, and what it starts from now on, on one core of two."""
    if len(CORES) > 1:
        os.sched_setaffinity(0, {CORES[number]})


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
