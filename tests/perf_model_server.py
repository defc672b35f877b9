"""The model server beside other servers: ``make perf ARGS=model-server``.

Server and load (wrk) have a core each. Every server computes the same model from the same body.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from servers.archive import unpack_model
from servers.digits.build import build
from tests.conftest import CACHE
from tests.perf_peers import PEERS, NotHere, Peer
from tests.test_model_server import free_port, serving

SECONDS, CONNECTIONS, ROUNDS = 6, 32, 5

MLP = """
import torch
def model_fn(model_dir):
    torch.manual_seed(1)
    layers = torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
    return torch.nn.Sequential(*layers).eval()
def input_fn(body, content_type):
    import json
    return torch.tensor(json.loads(body), dtype=torch.float32)
def predict_fn(data, model):
    with torch.inference_mode():
        return model(data).numpy()
"""
MLP_SIGNATURE = {
    "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 64]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
    "library": "torch",
}
BODY = orjson.dumps(
    {
        "inputs": [
            {
                "name": "images",
                "shape": [1, 64],
                "datatype": "FP32",
                "data": [float(n % 16) for n in range(64)],
            }
        ]
    }
)


def model_server(folder: Path) -> list[str]:
    """Requests a second at 32 connections, ours and the others', and what a batch cost alone."""
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        return ["| model server | skipped: wrk and taskset are needed (Debian: apt install wrk) |"]
    rows = [
        f"| {CONNECTIONS} connections | requests/s | p50 | p99 | CPU a request | ours is |",
        "|---|---|---|---|---|---|",
    ]
    for name, model in _models(folder).items():
        with _ours(model) as ours:
            rate, row = _measured(f"{name}: ours", ours, None)
            rows += [row, *_share(name, ours, model, rate)]
        for peer, serve in PEERS.items():
            place = folder / f"{name}-{peer.split(',')[0]}"
            try:
                with serve(model, place) as other:
                    rows.append(_measured(f"{name}: {peer}", other, rate)[1])
            except Exception as reason:  # noqa: BLE001 - whatever keeps it from running is printed
                kind = "" if isinstance(reason, NotHere) else f"{type(reason).__name__}: "
                rows.append(f"| {name}: {peer} | not here: {kind}{reason} | | | | |")
    return rows


def one_connection(folder: Path) -> list[str]:
    """The median of one caller with batching on and off, in interleaved rounds."""
    model = _models(folder)["digits"]
    medians: dict[str, list[float]] = {"on": [], "off": []}
    with _ours(model) as on, _ours(model, WEIGHBRIDGE_MAX_BATCH="1", path="/invocations") as off:
        urls = {"on": on.url.replace("/v2/models/model/infer", "/invocations"), "off": off.url}
        body = orjson.dumps([float(n % 16) for n in range(64)])
        for _ in range(ROUNDS):
            for name, url in urls.items():
                medians[name].append(_wrk(url, body, 1, 2)["p50_ms"])
    found = {name: float(np.median(values)) for name, values in medians.items()}
    return [
        f"| one connection, {ROUNDS} rounds | batching on | off | difference |",
        "|---|---|---|---|",
        f"| p50 | {found['on']:.3f} ms | {found['off']:.3f} ms "
        f"| {found['on'] - found['off']:+.3f} ms |",
    ]


def memory(folder: Path) -> list[str]:
    """Resident memory over 200 000 requests of 1 to 200 rows each."""
    model = _models(folder)["mlp"]
    bodies = [orjson.dumps(np.ones((rows, 64)).tolist()) for rows in (1, 3, 10, 50, 200)]
    sizes, sent = [], 0
    with _ours(model) as ours:
        url = ours.url.replace("/v2/models/model/infer", "/invocations")
        while sent < 200_000:
            for body in bodies:
                sent += int(_wrk(url, body, 8, 2)["requests"])
            sizes.append(psutil.Process(ours.pid).memory_info().rss / 2**20)
    middle = sizes[len(sizes) // 2]
    return [
        f"| {sent:,} requests of {len(bodies)} sizes | first round | half-way | end |",
        "|---|---|---|---|",
        f"| resident MiB | {sizes[0]:.0f} | {middle:.0f} | {sizes[-1]:.0f} |",
    ]


def grpc(folder: Path) -> list[str]:
    """Calls a second over gRPC at 32 in flight, with one Python client for all."""
    model, port = _models(folder)["mlp"], free_port()
    with _ours(model, WEIGHBRIDGE_GRPC_PORT=str(port)):
        rate = _grpc_rate(f"127.0.0.1:{port}")
    rows = ["| gRPC, 32 in flight | calls/s | ours is |", "|---|---|---|"]
    rows.append(f"| mlp: ours | {rate:,.0f} | |")
    for name in ("PyTriton", "Triton, Python"):
        try:
            with PEERS[name](model, folder / f"grpc-{name.split(',')[0]}") as peer:
                ports = {
                    connection.laddr.port
                    for process in (psutil.Process(peer.pid), *_children(peer.pid))
                    for connection in process.net_connections("tcp")
                    if connection.status == "LISTEN"
                }
                other = max(_try_grpc(f"127.0.0.1:{each}") for each in ports)
            rows.append(f"| mlp: {name} | {other:,.0f} | {rate / other:.1f} times |")
        except Exception as reason:  # noqa: BLE001 - whatever keeps it from running is printed
            rows.append(f"| mlp: {name} | not here: {reason} | |")
    return rows


def _models(folder: Path) -> dict[str, Path]:
    digits, mlp = folder / "digits" / "model", folder / "mlp" / "model"
    if not digits.exists():
        digits.parent.mkdir(parents=True)
        unpack_model(build(CACHE / "weighbridge"), digits)
        (mlp / "code").mkdir(parents=True)
        (mlp / "code" / "inference.py").write_text(MLP)
        (mlp / "signature.json").write_bytes(orjson.dumps(MLP_SIGNATURE))
        samples = [{"body": [[float(n % 7)] * 64]} for n in range(8)]
        (mlp / "samples.json").write_bytes(orjson.dumps(samples))
    return {"digits": digits, "mlp": mlp}


@contextlib.contextmanager
def _ours(model: Path, path: str = "/v2/models/model/infer", **more: str) -> Iterator[Peer]:
    with serving(model, WEIGHBRIDGE_THREADS="1", **more) as (process, port):
        for thread in psutil.Process(process.pid).threads():
            psutil.Process(thread.id).cpu_affinity([0])
        yield Peer(f"http://127.0.0.1:{port}{path}", process.pid)


def _measured(name: str, peer: Peer, ours: float | None) -> tuple[float, str]:
    _wrk(peer.url, BODY, CONNECTIONS, 2)
    before = _cpu_s(peer.pid)
    found = _wrk(peer.url, BODY, CONNECTIONS, SECONDS)
    cpu_us = (_cpu_s(peer.pid) - before) / max(1, found["requests"]) * 1e6
    rate = found["rate"]
    times = "" if ours is None else f"{ours / rate:.1f} times as fast"
    wrong = f", {found['wrong']:.0f} not 2xx" if found["wrong"] else ""
    return rate, (
        f"| {name} | {rate:,.0f}{wrong} | {found['p50_ms']:.2f} ms | {found['p99_ms']:.2f} ms "
        f"| {cpu_us:.0f} µs | {times} |"
    )


def _share(name: str, ours: Peer, model: Path, rate: float) -> list[str]:
    """What decode, forward and encode alone would do, at the batch size that formed and singly."""
    url = ours.url.replace("/infer", "/stats")
    with urllib.request.urlopen(url) as answer:
        stats = json.load(answer)["model_stats"][0]
    many = [each for each in stats["batch_stats"] if each["batch_size"] > 1]
    calls = sum(each["batch_size"] * each["compute_infer"]["count"] for each in many)
    batch = max(1, round(calls / max(1, sum(each["compute_infer"]["count"] for each in many))))
    program = str(Path(__file__).with_name("perf_bare.py"))
    rows = []
    for size in (batch, 1):  # one by one: how much of the wire's cost the batches bring back
        command = ["taskset", "-c", "0", sys.executable, program, str(model), str(size)]
        done = subprocess.run(command, input=BODY, capture_output=True, check=True)
        bare = float(done.stdout)
        rows.append(
            f"| {name}: bare torch, batches of {size} | {bare:,.0f} | | | {1e6 / bare:.0f} µs "
            f"| {rate / bare:.2f} of it |"
        )
    return rows


def _wrk(url: str, body: bytes, connections: int, seconds: int) -> dict[str, float]:
    script = Path(f"/tmp/weighbridge-wrk-{time.monotonic_ns()}.lua")
    script.write_bytes(
        b'wrk.method="POST"\nwrk.headers["Content-Type"]="application/json"\nwrk.body=[==['
        + body
        + b"]==]\n"
    )
    try:
        command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
        done = subprocess.run(
            [*command, "--latency", "-s", str(script), url],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        script.unlink()
    return parsed(done.stdout)


def parsed(text: str) -> dict[str, float]:
    """The figures in what wrk prints."""
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}

    def latency(quantile: str) -> float:
        found = re.search(rf"^\s+{quantile}%\s+([\d.]+)(us|ms|s|m)$", text, re.M)
        return float(found[1]) * units[found[2]] if found else float("nan")

    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    total = re.search(r"(\d+) requests in", text)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return {
        "rate": float(rate[1]) if rate else float("nan"),
        "requests": float(total[1]) if total else 0.0,
        "wrong": float(wrong[1]) if wrong else 0.0,
        "p50_ms": latency("50"),
        "p99_ms": latency("99"),
    }


def _children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _cpu_s(pid: int) -> float:
    times = [each.cpu_times() for each in (psutil.Process(pid), *_children(pid))]
    return float(sum(each.user + each.system for each in times))


def _grpc_rate(address: str) -> float:
    """Calls a second that a client in a process of its own gets answered."""
    program = str(Path(__file__).with_name("perf_grpc.py"))
    command = ["taskset", "-c", "1", sys.executable, program, address, str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)


def _try_grpc(address: str) -> float:
    try:
        return _grpc_rate(address)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return 0.0


MODEL_SERVER_PARTS: dict[str, Any] = {
    "model-server": model_server,
    "model-server-one": one_connection,
    "model-server-memory": memory,
    "model-server-grpc": grpc,
}
