"""What the front end costs: a part of ``make perf`` (``make perf ARGS=front``).

The servers have one core and the client another, where there are two. Ways are measured in turn, in
rounds, so that the machine's moods hit all alike; what is printed are medians over the rounds.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import uvloop

from bench.deployment import Deployment, Endpoint
from bench.target import Realtime, Serverless
from servers.channel import Call, Channel
from servers.digits.build import build
from servers.instance import server_timing
from servers.samples import samples
from tests.conftest import CACHE
from tests.serving import Serving, serving

ROUNDS = 5
CONNECTIONS = 32
CALLS = 300
FULL_S, HALF_S = 1.5, 2.0


@dataclass(frozen=True)
class Way:
    """How the model is reached."""

    name: str
    url: str


@dataclass(frozen=True)
class Full:
    """As much as the way carries."""

    rate_rps: float
    front_cpu_s: float
    """CPU time of the front end's process for each request: hardly moved by other load."""


@dataclass(frozen=True)
class Half:
    """A load of half the capacity: what a call took beside the model, in seconds."""

    rate_rps: float
    own_s: Sequence[float]
    """The front's own account: from the request's arrival to its answer, without the model."""
    beside_s: Sequence[float]
    """As the client saw it: everything but the model, the client's own work included."""


def front(folder: Path) -> list[str]:
    """One caller, full load and half load, through each way."""
    archive = str(build(CACHE / "weighbridge"))
    body = samples(Path(archive))[0]
    two = Realtime(instance_count=2, routing="LEAST_OUTSTANDING_REQUESTS")
    deployment = Deployment(
        [
            Endpoint("one", Realtime(), archive),
            Endpoint("two", two, archive),
            Endpoint("zero", Serverless(profile={"placement_median_s": 0.0}), archive),
        ]
    )
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])  # inherited by what starts now
    try:
        with serving(deployment, folder / "front") as server:
            os.sched_setaffinity(0, cores[1:] or cores)
            ways = _ways(server)
            alone = {way.name: _alone(way, body) for way in ways}
            used = psutil.Process(server.child.pid)
            full = {way.name: uvloop.run(_full(way, body, used)) for way in ways[:3]}
            half = [uvloop.run(_half(way, body, full[way.name].rate_rps / 2)) for way in ways[1:3]]
    finally:
        os.sched_setaffinity(0, cores)
    return [*_alone_rows(alone), "", *_full_rows(full), "", *_half_rows(ways[1:3], half)]


def _ways(server: Serving) -> list[Way]:
    first = min(server.instances(), key=lambda process: process.create_time())
    [port] = {
        connection.laddr.port
        for connection in first.net_connections()
        if connection.status == "LISTEN"
    }
    path = f"{server.address}/endpoints"
    return [
        Way("model server alone", f"http://127.0.0.1:{port}/invocations"),
        Way("real-time endpoint", f"{path}/one/invocations"),
        Way("real-time, two replicas", f"{path}/two/invocations"),
        Way("serverless endpoint, warm", f"{path}/zero/invocations"),
    ]


def _open(way: Way, body: bytes) -> tuple[Channel, Call]:
    parts = urlsplit(way.url)
    channel = Channel(parts.hostname or "", parts.port or 0, 5.0)
    return channel, Call("POST", parts.path, {"content-type": "application/json"}, body)


def _alone(way: Way, body: bytes) -> list[float]:
    """The median of each round, with one caller that asks again and again."""

    async def rounds() -> list[float]:
        channel, call = _open(way, body)
        await _calls(channel, call, 50)
        found = [statistics.median(await _calls(channel, call, CALLS)) for _ in range(ROUNDS)]
        channel.close()
        return found

    return uvloop.run(rounds())


async def _calls(channel: Channel, call: Call, count: int) -> list[float]:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        answer = await channel.ask(call, 2**20, 10.0)
        took.append(time.perf_counter() - began)
        assert answer.status == 200, answer
    return took


async def _full(way: Way, body: bytes, front: psutil.Process) -> Full:
    """`CONNECTIONS` callers that ask again and again: medians of the rounds."""
    channel, call = _open(way, body)
    rates, costs = [], []
    for _ in range(ROUNDS):
        until, before = time.perf_counter() + FULL_S, front.cpu_times()

        async def caller(until: float = until) -> int:
            count = 0
            while time.perf_counter() < until:
                answer = await channel.ask(call, 2**20, 10.0)
                assert answer.status == 200, answer
                count += 1
            return count

        counts = await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
        after = front.cpu_times()
        rates.append(sum(counts) / FULL_S)
        costs.append((after.user + after.system - before.user - before.system) / sum(counts))
    channel.close()
    return Full(statistics.median(rates), statistics.median(costs))


async def _half(way: Way, body: bytes, rate_rps: float) -> Half:
    """Calls at random moments, at half of what the way carries."""
    channel, call = _open(way, body)
    gaps = np.random.default_rng(1).exponential(1 / rate_rps, int(rate_rps * HALF_S))
    own: list[float] = []
    beside: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        answer = await channel.ask(call, 2**20, 10.0)
        took_s = time.perf_counter() - began
        parts = server_timing(answer.headers["server-timing"])
        own.append(parts["overhead"])
        beside.append(took_s - parts["model"])

    due, running = time.perf_counter(), set()
    for gap in gaps:
        due += gap
        while (left_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(left_s if left_s > 0.002 else 0)
        running.add(asyncio.create_task(one()))
    await asyncio.gather(*running)
    channel.close()
    return Half(rate_rps, own, beside)


def _alone_rows(alone: dict[str, list[float]]) -> list[str]:
    base = statistics.median(alone["model server alone"])
    return [
        f"| one caller, {ROUNDS} rounds | p50 | ratio | added |",
        "|---|---|---|---|",
        *(
            f"| {name} | {np.median(found) * 1e3:.3f} ms | {np.median(found) / base:.2f} "
            f"| {(np.median(found) - base) * 1e3:+.3f} ms |"
            for name, found in alone.items()
        ),
    ]


def _full_rows(full: dict[str, Full]) -> list[str]:
    base = full["model server alone"].rate_rps
    return [
        f"| {CONNECTIONS} callers, servers on one core | answers a second | ratio | front's CPU |",
        "|---|---|---|---|",
        *(
            f"| {name} | {one.rate_rps:,.0f} | {one.rate_rps / base:.2f} "
            f"| {one.front_cpu_s * 1e6:.0f} us a request |"
            for name, one in full.items()
        ),
    ]


def _half_rows(ways: Sequence[Way], half: Sequence[Half]) -> list[str]:
    return [
        "| half load, without the model | rate | front's own p50 | p99 | client's view p50 | p99 |",
        "|---|---|---|---|---|---|",
        *(
            f"| {way.name} | {one.rate_rps:,.0f}/s | {_ms(one.own_s)} | {_ms(one.beside_s)} |"
            for way, one in zip(ways, half, strict=True)
        ),
    ]


def _ms(values_s: Sequence[float]) -> str:
    middle, tail = np.quantile(values_s, [0.5, 0.99]) * 1e3
    return f"{middle:.3f} ms | {tail:.3f} ms"
