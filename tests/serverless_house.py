"""A serverless endpoint with instances that take no time, on a clock that skips."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.clock import Clock, Member
from bench.events import EventLog
from bench.target import Serverless
from servers.endpoint import Account, Invocation, Means, Served
from servers.instance import InstanceFailed, InvocationTimeout, Startup
from servers.profile import profile_for
from servers.serverless import ServerlessEndpoint
from servers.timers import Timers
from servers.wire import Answer


@dataclass
class FakeInstance:
    """An instance that starts at once and answers after ``takes_s`` on the clock."""

    name: str
    house: "House"
    alive: bool = False

    async def start(self) -> Startup:
        if self.house.broken:
            raise InstanceFailed("its process ended with exit status 1; its log says why")
        await asyncio.sleep(self.house.start_takes_s)
        self.alive = True
        return self.house.startup

    async def invoke(self, body: bytes, headers: dict[str, str], limit: int) -> Answer:
        del headers, limit
        if body == b"nan":
            raise InvocationTimeout
        await self.house.timers.sleep(float(body))
        return Answer(200, b"done")

    async def ended(self) -> int:
        return 0

    async def stop(self) -> None:
        self.alive = False

    async def kill(self) -> None:
        self.alive = False


@dataclass
class House:
    """An endpoint on a clock of its own, with everything that it started.

    ``caller`` is the clock's view of the test: at work but for when it waits.
    """

    target: Serverless
    timers: Timers
    caller: Member
    instances: list[FakeInstance] = field(default_factory=list)
    broken: bool = False
    start_takes_s: float = 0.0
    startup: Startup = Startup(0.5, 0.4, 0.1)  # noqa: RUF009 - it is frozen
    account: Account = field(default_factory=Account)
    package_bytes: int = 0
    metrics: EventLog = EventLog(None)  # noqa: RUF009 - it writes nowhere

    def __post_init__(self) -> None:
        means = Means(
            profile_for(self.target),
            self.new_instance,
            self.timers,
            asyncio.Semaphore(2),
            7,
            self.package_bytes,
            self.account,
            self.metrics,
        )
        self.endpoint = ServerlessEndpoint("e", self.target, means)

    def new_instance(self, name: str) -> FakeInstance:
        self.instances.append(FakeInstance(name, self))
        return self.instances[-1]

    async def ask(self, takes_s: float = 0.1) -> Served:
        self.caller.update(work=-1, awaiting=1)
        try:
            return await self.endpoint.invoke(Invocation(str(takes_s).encode(), {}, "id"))
        finally:
            self.caller.update(work=1, awaiting=-1)

    async def wait(self, seconds: float) -> None:
        with self.timers.working():
            self.caller.update(work=-1)
            await self.timers.sleep(seconds)
            self.caller.update(work=1)

    @property
    def alive(self) -> int:
        return sum(instance.alive for instance in self.instances)


def live(
    folder: Path, target: Serverless, steps: Callable[[House], Awaitable[None]], **more: Any
) -> list[Any]:
    """Run ``steps`` in a house that is open; its events."""

    async def run() -> None:
        clock = Clock.create(folder, fast_forward=True)
        log = EventLog(folder / "events.jsonl")
        timers = Timers(clock, log)
        house = House(target, timers, clock.join(), **more)
        house.caller.update(work=1)
        async with asyncio.timeout(20):
            await house.endpoint.open()
            await steps(house)
            await house.endpoint.close()
            await timers.close()
        assert house.alive == 0
        clock.close()
        log.close()

    asyncio.run(run())
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
