"""What each way to send costs the load generator, and what it adds to a latency.

A part of ``make perf`` (``make perf ARGS=clients``) of about a minute, against the server that says
how long it took.
"""

import json
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from bench.arrivals import Constant
from bench.clients import Boto3, Client, Direct, FastHttp, Function
from bench.plan import PLAN_VARIABLE, Plan
from bench.record import read_records
from bench.workload import Objective, Workload
from tests.perf_engine import SCENARIOS, SERVER, locust

ROUNDS, LOAD_S, RATE_RPS = 3, 3.0, 200.0

OWN = """
import requests

session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=100))

def send(request):
    answer = session.post(request.url, data=request.body, headers=request.headers)
    return answer.content
"""


def clients(folder: Path) -> list[str]:
    """A row for each client: CPU time a request, and how much longer it finds an answer to take."""
    body = folder / "body.json"
    body.write_text(json.dumps([0.5] * 200))
    (folder / "own.py").write_text(OWN)
    kinds: dict[str, Client] = {
        "direct": Direct(),
        "fasthttp": FastHttp(),
        "function (requests)": Function(f"{folder}/own.py:send"),
        "boto3": Boto3(),
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/endpoints/any/invocations"
        command = [sys.executable, "-c", SERVER, str(listener.fileno()), "0.005"]
        server = subprocess.Popen(command, pass_fds=[listener.fileno()])
        try:
            rounds = [
                {name: _once(url, folder, kinds[name]) for name in kinds} for _ in range(ROUNDS)
            ]
        finally:
            server.terminate()
            server.wait()
    columns = list(rounds[0]["direct"])
    lines = [
        f"| clients, {RATE_RPS:g} rps, {ROUNDS} rounds of {LOAD_S:g} s | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in kinds:
        medians = [statistics.median(each[name][column] for each in rounds) for column in columns]
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in medians) + " |")
    return lines


def _once(url: str, folder: Path, kind: Client) -> dict[str, float]:
    records, events = folder / "records", folder / "events"
    for path in (records, events):
        path.unlink(missing_ok=True)
    workload = Workload(
        "perf", "", "sustained", LOAD_S, Constant(RATE_RPS), Objective(1), client=kind
    )
    body = str(folder / "body.json")
    plan = Plan(workload, url, [body], records=str(records), events=str(events))
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    locust(SCENARIOS / "sustained.py", {PLAN_VARIABLE: str(folder / "plan.json")}, "--users", "1")
    found = read_records(records.read_bytes())
    told = [json.loads(line) for line in events.read_text().splitlines()]
    cpu_s = max(each.get("generator_cpu_s", each.get("cpu_s", 0.0)) for each in told)
    error_ms = (found["done_s"] - found["sent_s"] - found["model_s"])[len(found) // 6 :] * 1000
    if np.isnan(error_ms).any():  # a function's answer has no Server-Timing
        error_ms = (found["done_s"] - found["sent_s"])[len(found) // 6 :] * 1000 - 5
    return {
        "answered": float((found["error"] == b"").mean()),
        "CPU, us a request": cpu_s / len(found) * 1e6,
        "error p50, ms": float(np.quantile(error_ms, 0.5)),
        "error p99, ms": float(np.quantile(error_ms, 0.99)),
    }
