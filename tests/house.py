"""A real-time endpoint for tests: on a clock that skips, with instances that are none."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.clock import Clock
from bench.events import EventLog
from bench.target import Realtime
from servers.client_connection import Broken, Received
from servers.endpoint import Invocation, Means, Served
from servers.instance import InstanceFailed, InstanceLost, InvocationTimeout, Startup
from servers.layout import Blueprint, known_as
from servers.profile import profile_for
from servers.realtime import RealtimeEndpoint
from servers.timers import Timers
from servers.wire import Answer

LAUNCH = {"launch_median_s": 100.0, "launch_sigma": 0.0}


@dataclass(eq=False)
class Pretended:
    """An instance that answers at once, or when it is let, or not at all."""

    name: str
    model: str | None
    house: "House"
    alive: bool = False
    healthy: bool = True
    refuses: bool = False
    held: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Received] = field(default_factory=list)
    retired: int = 0

    async def start(self) -> Startup:
        if self.house.broken_starts > 0:
            self.house.broken_starts -= 1
            raise InstanceFailed("no weights")
        self.alive = True
        return Startup(0.5, 0.4, 0.1)

    async def invoke(self, body: bytes, _: dict[str, str], __: int) -> Answer:
        if self.refuses:
            raise InstanceLost("refused", sent=False)
        self.held += 1
        self.house.most_held = max(self.house.most_held, self.held)
        gone = asyncio.ensure_future(self.gone.wait())
        let = asyncio.ensure_future(self.house.let.wait())
        await asyncio.wait([gone, let], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        let.cancel()
        self.held -= 1
        if self.gone.is_set():
            raise InstanceLost("it died")
        return Answer(200, (self.model or "").encode() + body, self.house.answer_headers)

    async def stream(self, body: bytes, headers: dict[str, str]) -> Any:
        raise NotImplementedError

    def begin(self, _: bytes, __: dict[str, str], received: Received) -> Any:
        """It must be waited for, unless the house is prompt: then a test says what comes back."""
        if not self.house.prompt or self.refuses:
            return None
        self.asked.append(received)
        return self

    def retire(self) -> None:
        """As the connection that `begin` returns."""
        self.retired += 1

    async def failure(self, error: Exception) -> Exception:
        sent = error.sent if isinstance(error, Broken) else True
        timeout = isinstance(error, TimeoutError)
        return InvocationTimeout() if timeout else InstanceLost(str(error), sent)

    async def ping(self) -> bool:
        return self.healthy and self.alive

    async def ended(self) -> int:
        await self.gone.wait()
        return -9

    async def stop(self) -> None:
        assert not self.held, "it was stopped at work"
        await self.kill()

    async def kill(self) -> None:
        self.alive = False
        self.gone.set()


class House:
    """The endpoint and all that it has started."""

    def __init__(self, target: Realtime, timers: Timers, metrics: EventLog) -> None:
        self.timers = timers
        self.caller = timers.clock.join(timers.log)
        """Holds the clock but while it waits."""
        self.caller.update(work=1)
        self.instances: list[Pretended] = []
        self.let = asyncio.Event()
        self.let.set()
        self.broken_starts = 0
        self.most_held = 0
        self.answer_headers: dict[str, str] = {}
        self.prompt = False
        means = Means(
            profile_for(target),
            lambda name: self.new(name, None),
            timers,
            asyncio.Semaphore(8),
            seed=5,
            metrics=metrics,
        )
        named = [*target.variants, *([target.shadow] if target.shadow else [])]
        self.models = {known_as("e", variant): variant.model for variant in named}
        """By the name that callers know a model by; a test may add more."""

        def maker_of(model: str) -> Callable[[str], Pretended]:
            return lambda name: self.new(name, self.models.get(model))

        self.endpoint = RealtimeEndpoint(Blueprint("e", target, means, maker_of))

    def new(self, name: str, model: str | None) -> Pretended:
        self.instances.append(Pretended(name, model, self))
        return self.instances[-1]

    @property
    def alive(self) -> list[Pretended]:
        return [instance for instance in self.instances if instance.alive]

    async def ask(self, body: bytes = b"", **headers: str) -> Served:
        sent = {f"x-amzn-sagemaker-{name.replace('_', '-')}": v for name, v in headers.items()}
        return await self.endpoint.invoke(Invocation(body, sent, "id", self.timers.now()))

    async def wait(self, seconds: float) -> None:
        """Let the clock reach a moment, skipping what is silent."""
        passed = asyncio.Event()

        def wake() -> None:
            self.caller.update(work=1)
            passed.set()

        self.timers.call_at(self.timers.now() + seconds, wake)
        self.caller.update(work=-1)
        await passed.wait()

    async def traffic(self, minutes: int, a_minute: int) -> None:
        """So many requests at the beginning of each minute."""
        for _ in range(minutes):
            for _ in range(a_minute):
                await self.ask()
            await self.wait(60.0)


def live(
    folder: Path, target: Realtime, steps: Callable[[House], Awaitable[None]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run ``steps`` with an open endpoint; the events and the metrics that were written."""

    async def run() -> None:
        clock = Clock.create(folder, fast_forward=True)
        log, metrics = EventLog(folder / "events.jsonl"), EventLog(folder / "metrics.jsonl")
        timers = Timers(clock, log)
        house = House(target, timers, metrics)
        async with asyncio.timeout(30):
            with timers.working():
                await house.endpoint.open()
            await steps(house)
            await house.endpoint.close()
            await timers.close()
        assert not house.alive
        clock.close()
        log.close()
        metrics.close()

    asyncio.run(run())
    return _lines(folder / "events.jsonl"), _lines(folder / "metrics.jsonl")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def target(**settings: Any) -> Realtime:
    """A target as a file would give it."""
    return msgspec.convert({"profile": LAUNCH, **settings}, Realtime)
