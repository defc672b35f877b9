"""The instances of one variant: as many as wanted, checked, restarted, drained."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import cast

from servers.endpoint import Means
from servers.instance import InstanceFailed, Replica
from servers.routing import choose_instance
from servers.timers import Timer
from servers.wire import throttled, unavailable

RESTART_DELAY_S = 1.0


@dataclass(eq=False)
class Slot:
    """A place for one instance: another takes it when the first one ends."""

    replica: Replica
    outstanding: int = 0
    in_service: bool = False
    stopped: bool = False
    """The end of its instance has been noted; another is being started."""
    keeper: asyncio.Task[None] | None = None
    empty: asyncio.Event | None = None
    """Set when it holds no request; only while it is drained."""


@dataclass(frozen=True)
class ReplicasMeans:
    """What a replicas works with."""

    common: Means
    new_replica: Callable[[], Replica]
    """Makes an instance, not started, with a name of its own."""
    routing: str
    luck: random.Random
    delays: random.Random


class Replicas:
    """Keeps ``desired`` instances of a variant and says which one takes a request."""

    def __init__(self, variant: str, means: ReplicasMeans) -> None:
        self.variant = variant
        self.desired = 0
        self.outstanding = 0
        self._means = means
        self._timers = means.common.timers
        self._profile = means.common.profile
        self._most = self._profile["max_outstanding"]
        self._slots: list[Slot] = []
        self._ending: set[Slot] = set()
        self._launches: list[Timer] = []
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def routing(self) -> str:
        """How an instance is chosen."""
        return self._means.routing

    @property
    def in_service(self) -> int:
        """Instances that take requests."""
        count = 0
        for slot in self._slots:
            count += slot.in_service and slot.replica.alive
        return count

    @property
    def running(self) -> int:
        """Instances in any state: those in service, restarting or draining."""
        return len(self._slots) + len(self._ending)

    def holds(self, instance: str) -> bool:
        """Whether the instance of that name takes requests."""
        return any(slot.in_service and slot.replica.name == instance for slot in self._slots)

    async def open(self, count: int) -> None:
        """Start ``count`` instances; InstanceFailed when one does not become healthy."""
        self.desired = count
        await asyncio.gather(*(self._add() for _ in range(count)))

    async def launch(self, count: int) -> None:
        """Start what is missing to ``count``, each after the modelled delay.

        InstanceFailed when one does not become healthy. Call inside `Timers.working`.
        """
        if (missing := count - self._coming) <= 0:
            return
        self.desired = count
        outcomes = await self._timers.together([self._placed() for _ in range(missing)])
        for failure in outcomes:
            if isinstance(failure, BaseException):
                raise failure

    def take(self, tried: Collection[Slot] = (), home: str | None = None) -> Slot:
        """A place for one more request, to be given back; none of those ``tried``.

        On the instance called ``home`` if it is in service. ServiceUnavailable while none is,
        ThrottlingException while all are full.
        """
        healthy = [
            slot
            for slot in self._slots
            if slot.in_service and slot.replica.alive and slot not in tried
        ]
        if not healthy:
            raise unavailable(f"Variant {self.variant} has no healthy instance. Try again.")
        wanted = [slot for slot in healthy if slot.replica.name == home] if home else healthy
        most = self._most
        free = [slot for slot in wanted or healthy if slot.outstanding < most]
        if not free:
            raise throttled()
        slot = choose_instance(self._means.routing, free, self._means.luck)
        slot.outstanding += 1
        self.outstanding += 1
        return slot

    def give_back(self, slot: Slot) -> None:
        """The request has ended."""
        slot.outstanding -= 1
        self.outstanding -= 1
        if slot.empty is not None and not slot.outstanding:
            slot.empty.set()

    def suspect(self, slot: Slot) -> None:
        """A connection broke: no more requests until a health check passes."""
        if slot.in_service and len(self._slots) > 1:
            slot.in_service = False
            self._timers.start(self._check(slot, slot.replica))

    def resize(self, count: int) -> None:
        """Want ``count`` instances: launch after the modelled delay, or drain at once."""
        for _ in range(count - self._coming):
            self._launch()
        self._let_go(count, "scaled in")

    async def shrink(self, count: int, reason: str) -> None:
        """Keep at most ``count`` instances; the others answer what they hold, and have ended.

        They end also when who waits for it is cancelled.
        """
        if ending := self._let_go(min(count, self.desired), reason):
            await asyncio.wait(ending)

    async def close(self, reason: str = "closed") -> None:
        """Stop every instance, letting each finish what it holds."""
        for launch in self._launches:
            launch.cancel()
        self._launches.clear()
        for task in list(self._starting):
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        slots = list(self._slots)
        for slot in slots:
            self._retire(slot)
        await asyncio.gather(*(self._drain(slot, reason) for slot in slots))

    @property
    def _coming(self) -> int:
        """Instances that there are or will be."""
        return len(self._slots) + len(self._launches) + len(self._starting)

    def _let_go(self, count: int, reason: str) -> list[asyncio.Task[None]]:
        """Want ``count`` from now on: launch no more than these, and drain what is too much."""
        self.desired = count
        surplus = self._coming - count
        while surplus > 0 and self._launches:
            self._launches.pop().cancel()
            surplus -= 1
        # What is still starting takes nobody's place before it is in service.
        surplus = min(surplus, len(self._slots) - count)
        # Those that would finish soonest; of equals the youngest.
        youngest_first = self._slots[::-1]
        youngest_first.sort(key=lambda slot: (slot.in_service, slot.outstanding))
        retired = youngest_first[: max(0, surplus)]
        for slot in retired:
            self._retire(slot)
        return [self._timers.start(self._drain(slot, reason)) for slot in retired]

    def _placement_s(self) -> float:
        """The modelled delay of an instance that is asked for now."""
        placement_s = self._profile["launch_median_s"] * self._means.delays.lognormvariate(
            0.0, self._profile["launch_sigma"]
        )
        self._timers.note("instance_launched", variant=self.variant, placement_s=placement_s)
        return placement_s

    async def _placed(self) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._starting.add(task)
        try:
            await self._timers.rest(self._placement_s())
            await self._add()
        except InstanceFailed as failure:
            self._timers.note("instance_failed", variant=self.variant, reason=str(failure))
            raise
        finally:
            self._starting.discard(task)

    def _launch(self) -> None:
        placement_s = self._placement_s()

        def due() -> None:
            self._launches.remove(timer)
            self._starting.add(self._timers.start(self._start()))

        timer = self._timers.call_at(self._timers.now() + placement_s, due)
        self._launches.append(timer)

    async def _start(self) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            await self._add()
        except InstanceFailed as failure:
            self._timers.note("instance_failed", variant=self.variant, reason=str(failure))
        finally:
            self._starting.discard(task)
        self.resize(self.desired)  # another try, or one too many: it may have changed meanwhile

    async def _add(self) -> None:
        slot = Slot(await self._started())
        slot.in_service = True
        self._slots.append(slot)
        slot.keeper = asyncio.create_task(self._keep(slot))

    async def _started(self) -> Replica:
        replica = self._means.new_replica()
        async with self._means.common.starts:
            with self._timers.working():
                startup = await replica.start()
        self._timers.note(
            "instance_started",
            instance=replica.name,
            variant=self.variant,
            setup_s=startup.setup_s,
        )
        return replica

    async def _keep(self, slot: Slot) -> None:
        """Put another instance in the place whenever the one there has ended or is unhealthy."""
        while True:
            reason = await self._end_of(slot)
            slot.in_service, slot.stopped = False, True
            with self._timers.working():
                await slot.replica.kill()
            self._note_stopped(slot, reason)
            while not slot.in_service:
                try:
                    slot.replica = await self._started()
                    slot.in_service, slot.stopped = True, False
                except InstanceFailed as failure:
                    self._timers.note("instance_failed", variant=self.variant, reason=str(failure))
                    await asyncio.sleep(RESTART_DELAY_S)

    async def _end_of(self, slot: Slot) -> str:
        """Why the instance cannot stay, when that is known."""
        ended = asyncio.create_task(slot.replica.ended())
        sick = asyncio.create_task(self._sick(slot))
        try:
            await asyncio.wait([ended, sick], return_when=asyncio.FIRST_COMPLETED)
            return f"ended with status {ended.result()}" if ended.done() else sick.result()
        finally:
            for task in (ended, sick):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(ended, sick, return_exceptions=True)

    async def _sick(self, slot: Slot) -> str:
        """Return when the health checks have failed too often.

        In real time: a process does not age while the clock skips.
        """
        failed, most = 0, max(1, int(self._profile["unhealthy_after"]))
        while failed < most:
            await asyncio.sleep(self._profile["health_check_interval_s"])
            healthy = await slot.replica.ping()
            failed = 0 if healthy else failed + 1
            if healthy:
                slot.in_service = slot.empty is None
        return f"unhealthy: {failed} health checks failed in a row"

    async def _check(self, slot: Slot, replica: Replica) -> None:
        healthy = await replica.ping()
        if healthy and slot.replica is replica and slot.empty is None:
            slot.in_service = True

    def _retire(self, slot: Slot) -> None:
        """No more requests for it."""
        self._slots.remove(slot)
        self._ending.add(slot)
        slot.in_service = False
        slot.empty = asyncio.Event()

    async def _drain(self, slot: Slot, reason: str) -> None:
        """End a retired instance when it has answered what it holds."""
        if slot.keeper is not None:
            slot.keeper.cancel()
            await asyncio.gather(slot.keeper, return_exceptions=True)
        if slot.empty is not None and slot.outstanding and slot.replica.alive:
            await slot.empty.wait()
        await slot.replica.stop()
        self._ending.discard(slot)
        if not slot.stopped:
            self._note_stopped(slot, reason)

    def _note_stopped(self, slot: Slot, reason: str) -> None:
        self._timers.note(
            "instance_stopped", instance=slot.replica.name, variant=self.variant, reason=reason
        )
