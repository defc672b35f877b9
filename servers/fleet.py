"""The instances of an asynchronous endpoint: launched, watched, filled up to a number, let go."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from servers.endpoint import instance_names
from servers.instance import Instance, InstanceFailed
from servers.profile import Profile
from servers.timers import Timers

RETRY_S = 10.0
"""Between two attempts to start a container that does not become healthy, on the clock."""
END_S = 1.0
"""How long after its connections a container that has ended may seem alive."""
UNHEALTHY_AFTER = 3
"""So many health checks in a row must fail."""


class Container(Instance, Protocol):
    """An instance with an address of its own."""

    address: str


@dataclass(frozen=True)
class Grounds:
    """What a fleet is made from."""

    profile: Profile
    timers: Timers
    starts: asyncio.Semaphore
    """A place for each container that this machine can start at full speed."""
    new_container: Callable[[str], Container]
    ping: Callable[[Container], Awaitable[bool]]
    seed: int = 1


@dataclass
class Member:
    """An instance, from the moment it is asked for."""

    name: str
    asked_s: float
    placed_s: float = float("inf")
    ready_s: float = float("inf")
    """When its machine was there, and when it was first in service; on the clock."""
    container: Container | None = None
    busy: int = 0
    leaving: bool = False
    watch: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def in_service(self) -> bool:
        return self.container is not None and self.container.alive and not self.leaving


class Fleet:
    """As many instances as are wanted, each with at most ``concurrency`` jobs."""

    def __init__(self, grounds: Grounds, concurrency: int, changed: Callable[[], None]) -> None:
        self._grounds = grounds
        self._timers = grounds.timers
        self._concurrency = concurrency
        self._changed = changed
        self._new_name = instance_names("instance")
        self._draw = random.Random(grounds.seed)
        self._members: list[Member] = []
        self._closing = False

    @property
    def in_service(self) -> int:
        return sum(member.in_service for member in self._members)

    @property
    def size(self) -> int:
        """Instances there are, also those being launched."""
        return sum(not member.leaving for member in self._members)

    @property
    def free(self) -> int:
        """How many more jobs can be taken on."""
        members = (each for each in self._members if each.in_service)
        return sum(max(0, self._concurrency - each.busy) for each in members)

    async def open(self, count: int) -> None:
        """Start ``count`` instances at once; InstanceFailed when one cannot be started."""
        for _ in range(count):
            member = Member(self._new_name(), self._timers.now())
            member.placed_s = member.asked_s
            self._members.append(member)
            with self._timers.working():
                await self._start(member)

    def resize(self, wanted: int) -> None:
        """Launch instances or let some go: those at rest first, the others when they are done."""
        while self.size < wanted:
            member = Member(self._new_name(), self._timers.now())
            self._members.append(member)
            self._timers.start(self._launch(member))
        staying = [each for each in self._members if not each.leaving]
        # Those that are not in service yet are of least use, then those that have least to do.
        staying.sort(key=lambda each: (each.in_service, each.busy))
        for member in staying[: max(0, len(staying) - wanted)]:
            self.retire(member, "scaled in")

    def occupy(self) -> Member:
        """A place on the instance that has least to do; there must be one that is `free`."""
        member = min((each for each in self._members if each.in_service), key=lambda e: e.busy)
        assert member.busy < self._concurrency
        member.busy += 1
        if member.busy == 1 and member.container is not None:
            member.watch = asyncio.create_task(self._check_health(member))
        return member

    async def leave(self, member: Member, silent: bool, lost: bool) -> None:
        """The job is over, and nothing else is sent to a container that has ended with it."""
        container = member.container
        if silent and member.busy == 1 and container is not None:
            # It may still be at work; as nobody else is, it starts anew.
            await container.kill()
        if lost and container is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(container.ended(), END_S)
        self._vacate(member)

    def retire(self, member: Member, reason: str) -> None:
        """Give it no more jobs, and end it when it has none."""
        if member.leaving:
            return
        member.leaving = True
        self._timers.note("instance_leaving", instance=member.name, reason=reason)
        if not member.busy:
            self._timers.start(self._end(member, reason))

    async def close(self) -> None:
        """End all instances."""
        self._closing = True
        for member in self._members:
            member.leaving = True
        await asyncio.gather(*(self._end(member, "closed") for member in list(self._members)))

    def _vacate(self, member: Member) -> None:
        member.busy -= 1
        if not member.busy:
            if member.watch is not None:
                member.watch.cancel()
            if member.leaving:
                self._timers.start(self._end(member, "drained"))

    async def _launch(self, member: Member) -> None:
        profile = self._grounds.profile
        placement_s = profile["placement_median_s"] * self._draw.lognormvariate(
            0.0, profile["placement_sigma"]
        )
        self._timers.note("instance_launched", instance=member.name, placement_s=placement_s)
        await self._timers.rest(placement_s)
        member.placed_s = self._timers.now()
        await self._keep_starting(member)

    async def _start(self, member: Member) -> None:
        container = self._grounds.new_container(member.name)
        asked = time.perf_counter()
        async with self._grounds.starts:
            wait_s = time.perf_counter() - asked
            startup = await container.start()
        if member.leaving:
            await container.stop()
            return
        first = member.ready_s == float("inf")
        member.container = container
        if first:
            member.ready_s = self._timers.now()
            self._timers.note(
                "instance_started", instance=member.name, setup_s=startup.setup_s, wait_s=wait_s
            )
        else:
            self._timers.note("container_restarted", instance=member.name, setup_s=startup.setup_s)
        asyncio.create_task(self._watch(member, container)).add_done_callback(_looked_at)
        self._changed()

    async def _watch(self, member: Member, container: Container) -> None:
        status = await container.ended()
        if member.leaving or self._closing:
            return
        # The instance stays; its container is started again, as SageMaker does.
        self._timers.note("container_ended", instance=member.name, status=status)
        self._timers.start(self._keep_starting(member))

    async def _keep_starting(self, member: Member) -> None:
        while not member.leaving:
            try:
                await self._start(member)
                return
            except InstanceFailed as failure:
                reason = str(failure)
                self._timers.note("instance_failed", instance=member.name, reason=reason)
                await self._timers.rest(RETRY_S)

    async def _check_health(self, member: Member) -> None:
        """While it works it must answer /ping, or it is ended and started again.

        In real time: work is never skipped. An instance at rest needs no check, for nothing that
        could stop it from answering happens there; its end is seen at once.
        """
        failed = 0
        while member.container is not None:
            await asyncio.sleep(self._grounds.profile["ping_interval_s"])
            failed = 0 if await self._grounds.ping(member.container) else failed + 1
            if failed >= UNHEALTHY_AFTER:
                self._timers.note("instance_unhealthy", instance=member.name)
                await member.container.kill()
                return

    async def _end(self, member: Member, reason: str) -> None:
        if member not in self._members:
            return
        self._members.remove(member)
        if member.watch is not None:
            member.watch.cancel()
        if member.container is not None:
            await member.container.stop()
        if member.ready_s < float("inf"):
            self._timers.note("instance_stopped", instance=member.name, reason=reason)
        self._changed()


def _looked_at(task: "asyncio.Task[None]") -> None:
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
