"""Asynchronous: requests wait in a durable queue for instances that come and go.

An accepted job is on disk before its caller is told so. Instances take jobs while they have room;
`servers.worker` brings each to its one outcome.
"""

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.events import EventLog
from bench.target import Async
from servers.async_request import BODY_MAX_BYTES, Paths, PolicyTime, accepted, job_from
from servers.async_scaling import Scaler
from servers.backlog import Backlog, Lease, Outcome
from servers.endpoint import Invocation, Served
from servers.expiry import Expiry
from servers.fleet import Container, Fleet, Grounds, Member
from servers.measures import Measures
from servers.notices import Notifier, Topics, test_message
from servers.pages import Pages
from servers.parking import Parking
from servers.profile import Profile
from servers.store import Store, StoreError
from servers.subscribers import Subscribers
from servers.timers import Timer, Timers
from servers.transfer import healthy
from servers.wire import Answer, ApiError, content_too_long, unavailable, validation_error
from servers.worker import FIRST_RETRY_S, LAST_RETRY_S, Bench, Redeliver, Times, Worker

log = logging.getLogger(__name__)

POLL_S = 1.0
"""Real time between two looks for what other processes have put or left."""
HEARTBEAT_S = 5.0
AT_ONCE = 64
DRAIN_S = 10.0
"""How long running jobs may take when the endpoint closes; then they are put back."""


@dataclass(frozen=True)
class Plant:
    """What an asynchronous endpoint works with."""

    profile: Profile
    timers: Timers
    starts: asyncio.Semaphore
    new_container: Callable[[str], Container]
    store: Store
    backlog: Backlog
    seed: int = 1
    metrics: EventLog = EventLog(None)  # noqa: RUF009 - it writes nowhere


@dataclass
class _Open:
    """What exists only while the endpoint is open."""

    session: aiohttp.ClientSession
    bench: Bench
    fleet: Fleet
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class AsyncEndpoint:
    """Accepts, queues, works off, scales."""

    def __init__(self, name: str, target: Async, plant: Plant) -> None:
        self.name = name
        self.payload_max_bytes = BODY_MAX_BYTES
        self.measures = Measures(name, plant.metrics, plant.timers.now)
        self.books: list[Pages] = [self.measures.pages]
        self.finished = Subscribers()
        self.concurrency = target.max_concurrency or int(plant.profile["default_concurrency"])
        """Most jobs that an instance works on at once."""
        self._target = target
        self._plant = plant
        self._timers = plant.timers
        self._time = PolicyTime(plant.timers.now())
        self._scaler = Scaler(target, plant.profile)
        self._paths = Paths(target.output_path, target.failure_path)
        self._waiting = 0
        """Jobs that wait, as far as this process knows between two counts."""
        self._parking = Parking(plant.timers)
        self._leases: dict[int, Lease] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._pumping = self._pump_again = self._closing = False
        self._tick: Timer | None = None
        self._expiry = Expiry(plant.timers, lambda: self._begin(self._expire()))
        self._opened: _Open | None = None

    async def open(self) -> None:
        """Take up what the backlog holds; start the instances that are always there."""
        plant = self._plant
        connector = aiohttp.TCPConnector(limit=0)
        session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, trust_env=False, read_bufsize=1 << 18
        )
        target = self._target
        where = (target.success_topic, target.error_topic, target.sns_url)
        topics = Topics(*where, target.include_response_in)
        bench = Bench(
            self.name,
            plant.profile,
            plant.store,
            plant.backlog,
            session,
            Notifier(topics, session),
            self.measures,
            self.now_s,
        )
        limit_s = plant.profile["ping_timeout_s"]

        async def ping(container: Container) -> bool:
            return await healthy(session, container.address, limit_s)

        parts = (plant.profile, plant.timers, plant.starts, plant.new_container, ping, plant.seed)
        fleet = Fleet(Grounds(*parts), self.concurrency, self._capacity_changed)
        self._opened = _Open(session, bench, fleet)
        await plant.backlog.open()
        await fleet.open(target.min_instances)
        self._opened.tasks += [asyncio.create_task(self._keep_house())]
        self._opened.tasks += [asyncio.create_task(self._keep_leases())]
        for topic in {topics.success, topics.error} - {""}:
            if not await bench.notifier.deliver(topic, test_message(self.now_s())):
                self.measures.count("NotificationFailures")

    async def accept(self, headers: dict[str, str], body: bytes) -> Answer:
        """Put a request on disk and answer 202; ApiError when it is refused."""
        with self._timers.working():
            job = job_from(headers, body, self._paths, self.now_s())
            if self._closing or self._opened is None:
                raise unavailable("The endpoint is being closed. Try again.")
            if self._waiting >= self._plant.profile["backlog_max_requests"]:
                raise unavailable("The backlog is full. Try again later.")
            try:
                await self._plant.backlog.put(job, body if not job.input else None)
            except Exception as error:  # such as a full disk
                log.exception("a request could not be put into the backlog")
                raise unavailable("The request could not be stored. Try again.") from error
            self._waiting += 1
            self._parking.accept(job.id)
            self._expiry.arm(self._time.clock_s(job.expires_s))
            self._watch_backlog()
            self._pump()
            return accepted(job)

    async def invoke(self, _: Invocation) -> Served:
        """Never: an asynchronous endpoint accepts only asynchronous calls."""
        raise validation_error(
            f"Endpoint {self.name} is asynchronous. Use InvokeEndpointAsync instead."
        )

    async def close(self) -> None:
        """Let running jobs end, put back what takes longer, stop the instances."""
        self._closing = True
        if self._opened is None:
            return
        if self._running:
            await asyncio.wait(self._running, timeout=DRAIN_S)
        for task in [*self._running, *self._opened.tasks]:
            task.cancel()
        await asyncio.gather(*self._running, *self._opened.tasks, return_exceptions=True)
        self._timers.note("metrics", endpoint=self.name, metrics=self.measures.described())
        self.measures.pages.close()
        await self._opened.fleet.close()
        await self._plant.backlog.close()
        await self._opened.session.close()
        self.finished.close()

    @property
    def capacity(self) -> tuple[int, int]:
        """Instances in service, and those wanted."""
        fleet = self._opened.fleet if self._opened else None
        return fleet.in_service if fleet else 0, self._scaler.desired

    def oversize(self, _: str) -> ApiError:
        return content_too_long(self.payload_max_bytes)

    def status(self) -> dict[str, int]:
        instances = self._opened.fleet.size if self._opened else 0
        return {
            "instances": instances,
            "in_flight": len(self._leases),
            "backlog": max(0, self._waiting),
        }

    def now_s(self) -> float:
        """Seconds since 1970 as the run's clock counts them on."""
        return self._time.at(self._timers.now())

    # Taking jobs

    def _capacity_changed(self) -> None:
        self._watch_backlog()
        self._pump()

    def _pump(self) -> None:
        """Give waiting jobs to instances that have room, now and when this is asked meanwhile."""
        self._pump_again = True
        if not self._pumping and not self._closing and self._fleet.free:
            self._pumping = True
            self._timers.start(self._take_jobs())

    async def _take_jobs(self) -> None:
        try:
            while self._pump_again and not self._closing:
                self._pump_again = False
                while (free := self._fleet.free) and not self._closing:
                    leases = await self._plant.backlog.take(min(free, AT_ONCE))
                    for lease in leases:
                        await self._assign(lease)
                    if not leases:
                        break
        finally:
            self._pumping = False

    async def _assign(self, lease: Lease) -> None:
        self._waiting -= 1
        if self._waiting <= 0:
            self._expiry.disarm()
        if not self._fleet.free and lease.decided is None:  # the instance is gone meanwhile
            await self._plant.backlog.release(lease)
            self._waiting += 1
            return
        member = self._fleet.occupy() if lease.decided is None else None
        self._timers.start(self._work(lease, member))
        self._parking.unpark(lease.job.id)

    async def _work(self, lease: Lease, member: Member | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self._leases[lease.key] = lease
        received_s = self._time.clock_s(lease.job.received_s)
        times = Times.of((received_s, self._timers.now()), member)
        assert self._opened is not None
        worker = Worker(self._opened.bench, lease, times)
        try:
            outcome = lease.decided or await self._decided(worker, member)
            if outcome is not None and await worker.publish(outcome):
                self._finish(worker, outcome)
        except Redeliver as reason:
            self._timers.note("redelivery", job=lease.job.id, reason=str(reason)[:200])
            await self._put_back(lease, 0.0)
        except asyncio.CancelledError:
            await self._put_back(lease, 0.0)
            raise
        except Exception as error:  # whatever broke, the job must not be lost with it
            expected = isinstance(error, StoreError)
            log.error("job %s is put back: %s", lease.job.id, error, exc_info=not expected)
            await self._put_back(lease, min(LAST_RETRY_S, FIRST_RETRY_S * 2**lease.deliveries / 2))
        finally:
            self._running.discard(task)
            self._leases.pop(lease.key, None)
            if member is not None:
                await self._fleet.leave(member, worker.silent, worker.lost)
            self._pump()

    async def _decided(self, worker: Worker, member: Member | None) -> Outcome | None:
        lease = worker.lease
        if lease.job.expires_s <= self.now_s():
            return await self._expired(worker)
        most = self._plant.profile["max_deliveries"]
        if lease.deliveries > most:
            return await worker.failed(
                "ContainerLost", f"InternalServerError: Given up after {most:g} attempts."
            )
        assert member is not None
        assert member.container is not None
        return await worker.answered(member.container.address)

    async def _put_back(self, lease: Lease, delay_s: float) -> None:
        try:
            await self._plant.backlog.release(lease, delay_s)
        except Exception:  # the lease will end by itself
            log.exception("job %s could not be put back", lease.job.id)
        self._waiting += 1
        self._expiry.arm(self._time.clock_s(lease.job.expires_s))
        if not delay_s:
            self._parking.park(lease.job.id)

    def _finish(self, worker: Worker, outcome: Outcome) -> None:
        job = worker.lease.job
        self._parking.forget(job.id)
        told = {
            "inferenceId": job.inference_id,
            "status": outcome.code,
            "error": outcome.error,
            "bytes": outcome.size,
            "timing": worker.times.timing(),
        }
        self.finished.tell(json.dumps(told).encode() + b"\n")

    # Expiry

    async def _expire(self) -> None:
        while leases := await self._plant.backlog.expired(self.now_s(), AT_ONCE):
            for lease in leases:
                self._waiting -= 1
                self._timers.start(self._work(lease, None))
                self._parking.unpark(lease.job.id)
            await asyncio.sleep(0)  # the embedded queue answers at once, and others wait
            if self._closing:
                return
        next_s = await self._plant.backlog.next_expiry_s()
        if next_s is not None:
            self._expiry.arm(self._time.clock_s(max(next_s, self.now_s() + 1.0)))

    async def _expired(self, worker: Worker) -> Outcome | None:
        self.measures.count("ExpiredRequests")
        ttl_s = worker.lease.job.expires_s - worker.lease.job.received_s
        reason = f"ClientError: The request expired after {ttl_s:g} seconds in the queue."
        return await worker.failed("Expired", reason)

    # Scaling

    def _watch_backlog(self) -> None:
        """Take a datapoint each period, as long as there is anything to see."""
        if self._tick is not None or self._closing:
            return
        period_s = self._scaler.period_s
        next_s = (math.floor(self._timers.now() / period_s) + 1) * period_s
        self._tick = self._timers.call_at(next_s, lambda: self._begin(self._look()))

    async def _look(self) -> None:
        counts = await self._plant.backlog.counts()
        self._tick = None
        if self._closing:
            return
        self._waiting = counts.waiting
        fleet, before = self._fleet, self._scaler.desired
        self._scaler.show(self.measures, counts, fleet.in_service, self.now_s())
        desired = self._scaler.look(self._timers.now(), counts, fleet.in_service)
        if desired != before:
            reason = self._scaler.reason
            self._timers.note("scaling", desired=desired, before=before, reason=reason)
        fleet.resize(desired)
        # At rest nothing changes until the next request: no ticks, so a night can be skipped.
        if counts.all or fleet.size > self._target.min_instances:
            self._watch_backlog()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        if self._closing:  # a timer's, and the backlog may be closed
            work.close()
        else:
            self._timers.start(work)

    # Other processes

    async def _keep_house(self) -> None:
        """See what others have put, left behind or decided, and what waited when this began."""
        while not self._closing:
            try:
                await self._look_around()
            except Exception:  # such as a full disk: it may be better the next time
                log.exception("the backlog could not be looked at")
            await asyncio.sleep(POLL_S)

    async def _look_around(self) -> None:
        backlog = self._plant.backlog
        await backlog.free_dead()
        for lease in await backlog.decided(AT_ONCE):
            await self._assign(lease)
        counts = await backlog.counts()
        # None at all is believed only when nothing was taken while the count was on its way.
        if not self._pumping and (counts.waiting or not counts.taken):
            self._waiting = counts.waiting
        if counts.waiting and not self._pumping:
            self._watch_backlog()
            if not self._expiry.armed:
                next_s = await backlog.next_expiry_s()
                if next_s is not None:
                    self._expiry.arm(self._time.clock_s(next_s))
            self._pump()

    async def _keep_leases(self) -> None:
        while not self._closing:
            await asyncio.sleep(HEARTBEAT_S)
            held = list(self._leases.values())
            if held:
                with contextlib.suppress(Exception):  # what is lost is told when it is decided
                    await self._plant.backlog.extend(held)

    @property
    def _fleet(self) -> Fleet:
        assert self._opened is not None
        return self._opened.fleet
