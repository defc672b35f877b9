"""The model server and the endpoint front beside other servers: ``make perf ARGS=model-server``.

Servers have one core and the load the other. Every server computes the same model; all of them run
side by side and are measured in turn, in rounds, so that the machine's moods hit all alike. What is
printed are medians over the rounds. Ratios are of requests a second, and in brackets of CPU time.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from bench.deployment import Deployment, Endpoint
from bench.target import Realtime
from servers.archive import unpack_model
from servers.digits.build import build
from servers.samples import samples
from tests import serving as servers_under_test
from tests.conftest import CACHE
from tests.perf_peers import GRPC_PEERS, PEERS, NotHere, Peer, make_environments
from tests.test_model_server import free_port, serving

SECONDS, CONNECTIONS, ROUNDS = 4, 32, 3
OURS, FRONT = "ours", "ours, through the front"
INFER = "/v2/models/model/infer"

GOALS = {
    OURS: {"LitServe": 10.0, "MLServer": 10.0, "PyTriton": 3.0, "Triton, Python": 1.5},
    FRONT: {"LitServe": 5.0, "MLServer": 5.0, "Triton, Python": 1.0},
}
GRPC_GOALS = {OURS: {"KServe": 2.0, "PyTriton": 2.0}}
SHARE_GOAL = 0.79
"""Of what one process does with decode, forward and encode of one request at a time."""

MLP = """
import torch
def model_fn(model_dir):
    torch.manual_seed(1)
    layers = torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
    return torch.nn.Sequential(*layers).eval()
def predict_fn(data, model):
    with torch.inference_mode():
        return model(torch.as_tensor(data, dtype=torch.float32)).numpy()
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


@dataclass(frozen=True)
class Found:
    """What one server did in one round, or the medians of its rounds."""

    rate: float
    cpu_us: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0


Serve = Callable[[Path, Path], contextlib.AbstractContextManager[Peer]]
Load = Callable[[Peer, float], dict[str, float]]


def model_server(folder: Path) -> list[str]:
    """Requests a second at 32 connections: ours, through the front, the others; then gRPC."""
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return ["| model server | skipped: taskset and two cores are needed |"]
    missing = [f"{name} is not here: {why}" for name, why in make_environments().items()]
    rows = missing + [""] * bool(missing)
    for name, model in models(folder).items():
        rows += [*_http(name, model, folder), ""]
    return [*rows, *_grpc(models(folder)["mlp"], folder)]


def _http(name: str, model: Path, folder: Path) -> list[str]:
    """The table of one model, and its share of bare torch."""
    bodies = {FRONT: samples(model)[0]}
    alone: dict[str, list[tuple[int, Found]]] = {"one by one": [], "the batch that formed": []}

    def load(peer: Peer, seconds: float) -> dict[str, float]:
        return put_load(peer.url, bodies.get(peer.name, BODY), CONNECTIONS, seconds)

    def beside(peers: Mapping[str, Peer]) -> None:
        if OURS in peers:
            for each, size in zip(alone.values(), (1, _formed(peers[OURS])), strict=True):
                each.append((size, _bare(model, size)))

    serves: dict[str, Serve] = {OURS: _ours, FRONT: _fronted, **PEERS}
    found = _rounds(serves, (model, folder / f"peers-{name}"), load, beside)
    rows = _table(f"{name}, {CONNECTIONS} connections", found, GOALS)
    ours = found[OURS]
    return [*rows, "", *_share_rows(name, ours, alone)] if isinstance(ours, Found) else rows


def _grpc(model: Path, folder: Path) -> list[str]:
    """The same over gRPC, with one Python client for all; its own work limits the fast ones."""

    def load(peer: Peer, seconds: float) -> dict[str, float]:
        program = str(Path(__file__).with_name("perf_grpc.py"))
        command = [sys.executable, program, f"127.0.0.1:{peer.grpc_port}", str(seconds)]
        return _client(command, b"")

    serves: dict[str, Serve] = {OURS: _ours, **GRPC_PEERS}
    found = _rounds(serves, (model, folder / "peers-grpc"), load, lambda _: None)
    return _table("mlp over gRPC, 32 in flight", found, GRPC_GOALS)


def _rounds(
    serves: Mapping[str, Serve],
    where: tuple[Path, Path],
    load: Load,
    beside: Callable[[Mapping[str, Peer]], None],
) -> dict[str, Found | str]:
    """The medians of each server that can be had, and of the others why not."""
    (model, folder), peers, reasons = where, {}, {}
    with contextlib.ExitStack() as stack:
        for name, serve in serves.items():
            try:
                place = folder / name.replace(", ", "-").replace(" ", "-")
                peer = stack.enter_context(serve(model, place))
                peers[name] = Peer(peer.url, peer.pid, peer.grpc_port, name)
                load(peers[name], 1.0)
            except Exception as reason:  # noqa: BLE001 - whatever keeps it from running is printed
                kind = "" if isinstance(reason, NotHere) else f"{type(reason).__name__}: "
                reasons[name] = f"{kind}{reason}"
                peers.pop(name, None)
        rounds: dict[str, list[Found]] = {name: [] for name in peers}
        for _ in range(ROUNDS):
            for name in [name for name in peers if name not in reasons]:
                try:
                    rounds[name].append(_once(peers[name], load))
                except (NotHere, psutil.Error, subprocess.TimeoutExpired) as reason:
                    reasons[name] = f"failed under load: {reason}"
            beside(peers)
    return {**{name: _medians(each) for name, each in rounds.items() if each}, **reasons}


def _once(peer: Peer, load: Load) -> Found:
    before = _cpu_s(peer.pid)
    found = load(peer, SECONDS)
    if found.get("wrong"):
        raise NotHere(f"{found['wrong']:.0f} answers were not 200")
    cpu_us = (_cpu_s(peer.pid) - before) / max(1, found["requests"]) * 1e6
    return Found(found["rate"], cpu_us, found.get("p50_ms", 0.0), found.get("p99_ms", 0.0))


def _medians(rounds: list[Found]) -> Found:
    middle = statistics.median
    return Found(
        middle(each.rate for each in rounds),
        middle(each.cpu_us for each in rounds),
        middle(each.p50_ms for each in rounds),
        middle(each.p99_ms for each in rounds),
    )


def _table(
    title: str, found: Mapping[str, Found | str], goals: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """A row for each server, and for each of ours a column of how many times as fast it is."""
    rows = [
        f"| {title} | requests/s | p50, ms | p99, ms | CPU, µs | "
        + " | ".join(f"{mine} is" for mine in goals)
        + " |",
        "|---" * (5 + len(goals)) + "|",
    ]
    for name, each in found.items():
        if isinstance(each, str):
            rows.append(f"| {name} | not here: {each} |" + " |" * (3 + len(goals)))
            continue
        verdicts = [_verdict(found[mine], each, wanted.get(name)) for mine, wanted in goals.items()]
        latency = f"{each.p50_ms:.2f} | {each.p99_ms:.2f}" if each.p50_ms else " | "
        rows.append(
            f"| {name} | {each.rate:,.0f} | {latency} | {each.cpu_us:.0f} | "
            + " | ".join("" if name in (OURS, FRONT) else verdict for verdict in verdicts)
            + " |"
        )
    return rows


def _verdict(mine: Found | str, other: Found, goal: float | None) -> str:
    if isinstance(mine, str):
        return ""
    times = mine.rate / other.rate
    text = f"{times:.1f} times ({other.cpu_us / mine.cpu_us:.1f})"
    if goal is None:
        return text
    return f"{text}, goal {goal:g}: {'pass' if times >= goal else 'FAIL'}"


def _share_rows(name: str, ours: Found, alone: Mapping[str, list[tuple[int, Found]]]) -> list[str]:
    """Our requests a second over those of bare torch, which has no server to run.

    The goal is the prototype's share, which was of requests taken one by one; that of the batches
    that really formed is the harsher one.
    """
    rows = [
        f"| {name}: decode, forward and encode alone | at once | a second | CPU, µs | ours is |",
        "|---|---|---|---|---|",
    ]
    for what, rounds in alone.items():
        size = statistics.median(size for size, _ in rounds)
        bare = _medians([each for _, each in rounds])
        share = f"{ours.rate / bare.rate:.2f} ({bare.cpu_us / ours.cpu_us:.2f})"
        if size == 1:
            verdict = "pass" if ours.rate / bare.rate >= SHARE_GOAL else "FAIL"
            share += f", goal {SHARE_GOAL}: {verdict}"
        rows.append(f"| {what} | {size:.0f} | {bare.rate:,.0f} | {bare.cpu_us:.0f} | {share} |")
    return rows


def _formed(ours: Peer) -> int:
    """The size of the batch that a request was in, on average over the requests."""
    with urllib.request.urlopen(ours.url.replace("/infer", "/stats")) as answer:
        batches = json.load(answer)["model_stats"][0]["batch_stats"]
    calls: dict[int, int] = {each["batch_size"]: each["compute_infer"]["count"] for each in batches}
    requests = sum(size * count for size, count in calls.items())
    return max(2, round(sum(size * size * count for size, count in calls.items()) / requests))


def _bare(model: Path, batch: int) -> Found:
    program = str(Path(__file__).with_name("perf_bare.py"))
    command = ["taskset", "-c", "0", sys.executable, program, str(model), str(batch)]
    done = subprocess.run(command, input=BODY, capture_output=True, check=True)
    return Found(**json.loads(done.stdout))


def one_connection(folder: Path) -> list[str]:
    """The median of one caller with batching on and off, in interleaved rounds."""
    model = models(folder)["digits"]
    medians: dict[str, list[float]] = {"on": [], "off": []}
    path = "/invocations"
    with (
        _ours(model, folder, path) as on,
        _ours(model, folder, path, WEIGHBRIDGE_MAX_BATCH="1") as off,
    ):
        urls = {"on": on.url, "off": off.url}
        body = orjson.dumps([float(n % 16) for n in range(64)])
        for _ in range(ROUNDS):
            for name, url in urls.items():
                medians[name].append(put_load(url, body, 1, 2)["p50_ms"])
    found = {name: statistics.median(values) for name, values in medians.items()}
    return [
        f"| one connection, {ROUNDS} rounds | batching on | off | difference |",
        "|---|---|---|---|",
        f"| p50 | {found['on']:.3f} ms | {found['off']:.3f} ms "
        f"| {found['on'] - found['off']:+.3f} ms |",
    ]


def models(folder: Path) -> dict[str, Path]:
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
def _ours(
    model: Path, _: Path, path: str = "/v2/models/model/infer", **more: str
) -> Iterator[Peer]:
    """The model server by itself, as a caller of the Open Inference Protocol meets it."""
    grpc_port = free_port()
    more = {"WEIGHBRIDGE_THREADS": "1", "WEIGHBRIDGE_GRPC_PORT": str(grpc_port)} | more
    with _on_core(0), serving(model, **more) as (process, port):
        yield Peer(f"http://127.0.0.1:{port}{path}", process.pid, grpc_port)


@contextlib.contextmanager
def _fronted(model: Path, folder: Path) -> Iterator[Peer]:
    """The same behind a real-time endpoint of one instance: both processes share the core."""
    deployment = Deployment([Endpoint("one", Realtime(), str(model))])
    folder.mkdir(parents=True)
    with _on_core(0), servers_under_test.serving(deployment, folder) as server:
        yield Peer(f"{server.address}/endpoints/one/invocations", server.child.pid)


@contextlib.contextmanager
def _on_core(core: int) -> Iterator[None]:
    """What starts inside stays on the core; this process too, which only waits meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def put_load(url: str, body: bytes, connections: int, seconds: float) -> dict[str, float]:
    program = str(Path(__file__).with_name("perf_load.py"))
    return _client([sys.executable, program, url, str(connections), str(seconds)], body)


def _client(command: list[str], body: bytes) -> dict[str, float]:
    """What a client on the other core found."""
    done = subprocess.run(
        ["taskset", "-c", "1", *command], input=body, capture_output=True, check=False, timeout=90
    )
    if done.returncode:
        raise NotHere(done.stderr.decode().strip().splitlines()[-1])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _cpu_s(pid: int) -> float:
    every = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    times = [each.cpu_times() for each in every]
    return float(sum(each.user + each.system for each in times))


MODEL_SERVER_PARTS: dict[str, Any] = {
    "model-server": model_server,
    "model-server-one": one_connection,
}
