"""Timers of an asyncio program on the run's clock, and the account of its real work."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.clock import Clock, Member
from bench.events import EventLog


@dataclass
class Timer:
    """A call that is due; ``cancel`` prevents it."""

    callback: Callable[[], None] | None

    def cancel(self) -> None:
        self.callback = None


class Working:
    """What @contextmanager would give, at a third of its cost: it is on every request's path."""

    __slots__ = ("_member",)

    def __init__(self, member: Member) -> None:
        self._member = member

    def __enter__(self) -> None:
        self._member.update(work=1)

    def __exit__(self, *_: object) -> None:
        self._member.update(work=-1)


class Timers:
    """Calls back at moments on the clock, however far away, also when the clock is turned.

    Use from the event loop's thread only. The clock is not turned while work is on the account.
    """

    def __init__(self, clock: Clock, log: EventLog) -> None:
        self.clock = clock
        self.log = log
        self.now = clock.now
        """Seconds on the clock."""
        self._member = clock.join(log)
        self._working = Working(self._member)
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaiting_load: list[Callable[[float], None]] = []
        self._loop.add_reader(self._member.fileno(), self._woken)

    def note(self, kind: str, **fields: object) -> None:
        """Write an event of this moment to the run's log."""
        self.log.write(kind, self.now(), **fields)

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``when_s`` on the clock."""
        timer = Timer(callback)
        heapq.heappush(self._heap, (when_s, next(self._order), timer))
        self._arm()
        return timer

    def when_load_begins(self, callback: Callable[[float], None]) -> None:
        """Tell ``callback`` when the load begins: at once, and now, where none is awaited."""
        begin_s = self.clock.load_begin_s
        if math.isnan(begin_s):
            self._awaiting_load.append(callback)
            self._member.update(work=1)  # the clock is not turned before the callback is done
        else:
            callback(begin_s if math.isfinite(begin_s) else self.now())

    async def sleep(self, delay_s: float, sleepers: set[Callable[[], None]] | None = None) -> None:
        """Wait on the clock alone, inside `working`: what waits here does not hold the clock.

        Meanwhile ``sleepers`` has a function that ends the wait at once.
        """
        done: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if woken.is_set():
                return
            woken.set()
            # Work begins before the timer is off the account, so no jump can come between.
            self._member.update(work=1, parked=-1)
            if not done.done():
                done.set_result(None)

        woken = asyncio.Event()
        timer = self.call_at(self.now() + delay_s, wake)
        self._member.update(work=-1, parked=1)
        with _listed(sleepers, wake):
            await done
        timer.cancel()

    async def rest(self, delay_s: float) -> None:
        """As `sleep`, but on behalf of no request: what waits for it is parked by its owner."""
        done: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            timer.cancel()
            self._member.update(work=1)
            if not done.done():
                done.set_result(None)

        timer = self.call_at(self.now() + delay_s, wake)
        self._member.update(work=-1)
        try:
            await done
        finally:
            if timer.callback is not None:  # cancelled: the work of the caller goes on
                wake()

    async def together(self, works: Sequence[Coroutine[None, None, None]]) -> list[object]:
        """Run ``works`` beside each other, inside `working`; their outcomes, exceptions too.

        The caller's part in the account is split among them, and comes back with the last one: no
        jump can come between its end and what the caller does next.
        """
        left = len(works)
        if not left:
            return []

        def ended(_: object) -> None:
            nonlocal left
            left -= 1
            if left:
                self._member.update(work=-1)

        self._member.update(work=left - 1)
        tasks = [asyncio.ensure_future(work) for work in works]
        for task in tasks:
            task.add_done_callback(ended)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    def park(self, requests: int) -> None:
        """So many more requests (fewer if negative) wait here for a moment on the clock alone."""
        self._member.update(parked=requests)

    def working(self) -> "Working":
        """Real work: the clock is not turned inside."""
        return self._working

    def start(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        """Run ``work`` beside the caller; it is on the account from this moment to its end."""
        self._member.update(work=1)
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """End what was started, call back no more, leave the clock."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._loop.remove_reader(self._member.fileno())
        if self._alarm is not None:
            self._alarm.cancel()
        self._heap.clear()
        self._member.leave()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._member.update(work=-1)

    def _woken(self) -> None:
        self._member.drain()
        if self._awaiting_load and not math.isnan(begin_s := self.clock.load_begin_s):
            callbacks, self._awaiting_load = self._awaiting_load, []
            for callback in callbacks:
                callback(begin_s)
                self._member.update(work=-1)
        self._arm()

    def _fire(self) -> None:
        now = self.now()
        while self._heap and self._heap[0][0] <= now:
            callback = heapq.heappop(self._heap)[2].callback
            if callback is not None:
                callback()
        self._arm()

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        next_s = self._heap[0][0] if self._heap else math.inf
        if self._heap:
            self._alarm = self._loop.call_later(max(0.0, next_s - self.now()), self._fire)
        self._member.update(next_s=next_s)


@contextmanager
def _listed(sleepers: set[Callable[[], None]] | None, wake: Callable[[], None]) -> Iterator[None]:
    if sleepers is None:
        yield
        return
    sleepers.add(wake)
    try:
        yield
    finally:
        sleepers.discard(wake)
