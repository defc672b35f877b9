"""One job from its lease to its outcome.

The order is what makes nothing be lost or told twice: the answer is staged, the outcome decided in
the backlog, the object published, the message sent, the job forgotten. Killed between any two,
whoever takes the job next goes on from there.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from servers.backlog import Backlog, Lease, Outcome
from servers.fleet import Member
from servers.inputs import Unreadable, opened
from servers.measures import Measures
from servers.notices import INCLUDED_MAX_BYTES, Notifier, message
from servers.profile import Profile
from servers.store import Staged, Store, StoreError, described, location, pieces_of
from servers.transfer import Call, ContainerLost, ContainerSilent, Heard, TooLong, invoke

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""Real time until a job whose outcome could not be published is tried again."""


@dataclass(frozen=True)
class Bench:
    """What every job of an endpoint is worked on with."""

    endpoint: str
    profile: Profile
    store: Store
    backlog: Backlog
    session: aiohttp.ClientSession
    notifier: Notifier
    measures: Measures
    now_s: Callable[[], float]
    """Seconds since 1970 on the run's clock."""


@dataclass
class Times:
    """The parts of a job's time, in seconds."""

    backlog_s: float = 0.0
    placement_s: float = 0.0
    setup_s: float = 0.0
    download_s: float = 0.0
    model_s: float = 0.0
    store_s: float = 0.0
    instance: str = ""
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, waited: tuple[float, float], member: Member | None) -> "Times":
        """How a wait, from and to, divides into the launch that it was for, and the rest."""
        times = cls(backlog_s=max(0.0, waited[1] - waited[0]))
        if member is not None:
            times.instance = member.name
            times.placement_s = _overlap(waited, (member.asked_s, member.placed_s))
            times.setup_s = _overlap(waited, (member.placed_s, member.ready_s))
            times.backlog_s = max(0.0, times.backlog_s - times.placement_s - times.setup_s)
        return times

    def timing(self) -> str:
        """As a Server-Timing header (W3C)."""
        parts = {"backlog": self.backlog_s, "download": self.download_s, "model": self.model_s}
        if self.placement_s + self.setup_s > 0:
            parts |= {"placement": self.placement_s, "setup": self.setup_s}
        parts["store"] = self.store_s
        known = self.download_s + self.model_s + self.store_s
        parts["overhead"] = max(0.0, time.perf_counter() - self.began - known)
        texts = [f"{name};dur={value * 1e3:.3f}" for name, value in parts.items()]
        return ", ".join([*texts, f'instance;desc="{self.instance}"'])


class Redeliver(Exception):
    """The job is to be taken again: the container was lost before it answered."""


@dataclass
class Worker:
    """Works on one leased job."""

    bench: Bench
    lease: Lease
    times: Times = field(default_factory=Times)
    silent: bool = False
    """The container did not answer in time and may still be at work."""
    lost: bool = False
    """The container's connection ended before its answer."""

    async def answered(self, address: str) -> Outcome | None:
        """Call the container and decide; None when the lease is lost.

        Redeliver when the container ended: another one, or a restarted one, must try.
        """
        job, bench = self.lease.job, self.bench
        bench.measures.took("TimeInBacklog", max(0.0, bench.now_s() - job.received_s))
        try:
            await bench.store.check(location(job.output))
            outcome = await self._invoked(address)
        except Unreadable as error:
            bench.measures.count("RequestDownloadFailures")
            outcome = await self.failure("Unreadable", f"ClientError: {error}")
        except ContainerSilent:
            self.silent = True
            limit = f"{job.timeout_s:g} seconds"
            reason = f"ClientError: Model did not answer within {limit}."
            outcome = await self.failure("TimedOut", reason)
        except ContainerLost as error:
            self.lost = True
            if self.lease.deliveries < bench.profile["max_deliveries"]:
                raise Redeliver(str(error)) from error
            outcome = await self.failure(
                "ContainerLost",
                f"InternalServerError: The container ended {self.lease.deliveries} times while it "
                "worked on this request.",
            )
        except StoreError as error:
            if error.status >= 500:  # such as a full disk: it may be better later
                raise
            bench.measures.count("ResponseUploadFailures")
            outcome = await self.failure("Unwritable", _unwritable(error))
        if not await bench.backlog.decide(self.lease, outcome):
            await self._discard(outcome)
            return None
        return outcome

    async def failed(self, error: str, reason: str) -> Outcome | None:
        """Decide that the job has failed without calling the model; None: the lease is lost."""
        outcome = await self.failure(error, reason)
        return outcome if await self.bench.backlog.decide(self.lease, outcome) else None

    async def publish(self, outcome: Outcome) -> bool:
        """Show the object, send the message, forget the job; false when the lease is lost."""
        job, bench = self.lease.job, self.bench
        where = job.output if outcome.status == "Completed" else job.failure
        if outcome.staged and where:
            began = time.perf_counter()
            about = described(outcome.content_type)
            try:
                await bench.store.publish(location(where), outcome.staged, about)
            except StoreError as error:
                bench.measures.count("ResponseUploadFailures")
                if error.status >= 500:  # such as a full disk: it may be better later
                    raise
                if outcome.status == "Completed":
                    return await self._unpublished(outcome, error)
                log.warning("job %s: the failure object: %s", job.id, error)
            took_s = time.perf_counter() - began
            self.times.store_s += took_s
            bench.measures.took("ResponseUploadLatency", took_s)
        await self._notify(outcome)
        if not await bench.backlog.finish(self.lease):
            return False
        self._count(outcome)
        return True

    async def _unpublished(self, outcome: Outcome, error: StoreError) -> bool:
        """The result has no place to be: that is the outcome then."""
        await self._discard(outcome)
        instead = await self.failure("Unwritable", _unwritable(error))
        if not await self.bench.backlog.decide(self.lease, instead, again=True):
            return False
        return await self.publish(instead)

    async def failure(
        self, error: str, reason: str, body: bytes | None = None, code: int = 0
    ) -> Outcome:
        """The outcome of a job that has failed, its object staged where one is asked for."""
        staged = ""
        if self.lease.job.failure:
            content = reason.encode() if body is None else body
            staged = (await self.bench.store.stage(pieces_of(content))).ref
        size = len(reason.encode() if body is None else body)
        return Outcome("Failed", reason, staged, "text/plain", code, size, error)

    async def _invoked(self, address: str) -> Outcome:
        job, bench = self.lease.job, self.bench
        limit = int(bench.profile["payload_max_bytes"])
        staged: list[Staged] = []

        async def keep(pieces: object) -> None:
            began = time.perf_counter()
            staged.append(await bench.store.stage(pieces))  # type: ignore[arg-type]
            self.times.store_s += time.perf_counter() - began

        async with opened(self.lease, bench.store, bench.session, limit) as source:
            call = Call(source, job.headers, job.timeout_s, limit)
            try:
                heard = await invoke(bench.session, address, call, keep)
            except (StoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
                if source.failure is not None:
                    raise Unreadable(f"Unable to read the input: {error}") from error
                raise
            except TooLong:
                return await self._model_failure(Heard(500), f"the answer exceeds {limit} bytes")
            finally:
                self.times.download_s = source.waited_s
        self.times.model_s = heard.model_s
        bench.measures.took("RequestDownloadLatency", source.waited_s)
        bench.measures.took("ModelLatency", heard.model_s)
        if 200 <= heard.status < 300:
            kind = heard.headers.get("content-type", "application/octet-stream")
            return Outcome("Completed", "", staged[0].ref, kind, 200, heard.size)
        return await self._model_failure(heard, "", staged[0].ref)

    async def _model_failure(self, heard: Heard, text: str, staged: str = "") -> Outcome:
        """The container's own error: its body is the failure object, and it is not asked again."""
        kind = "ClientError" if 400 <= heard.status < 500 else "InternalServerError"
        self.bench.measures.count(f"Invocation{'4' if kind[0] == 'C' else '5'}XXErrors")
        reason = (
            f"ClientError: Received {'client' if kind[0] == 'C' else 'server'} error "
            f"({heard.status}) from model. See the SageMaker Endpoint logs in your account for "
            "more information."
        )
        if not staged:
            return await self.failure("ModelError", reason, text.encode(), heard.status)
        content_type = heard.headers.get("content-type", "text/plain")
        found = (heard.status, heard.size, "ModelError")
        return Outcome("Failed", reason, staged, content_type, *found)

    async def _notify(self, outcome: Outcome) -> None:
        bench = self.bench
        topic = bench.notifier.topic(outcome.status)
        if not topic:
            return
        content = message(bench.endpoint, self.lease.job, outcome, bench.now_s())
        if bench.notifier.includes(outcome.status):
            included = await self._included(outcome)
            if included is not None:
                content["responseBody"] = included
        if not await bench.notifier.deliver(topic, content):
            bench.measures.count("NotificationFailures")

    async def _included(self, outcome: Outcome) -> dict[str, str] | None:
        """The response for the message, when it is small enough."""
        job = self.lease.job
        where = job.output if outcome.status == "Completed" else job.failure
        if not where:
            return None
        try:
            about, reading = await self.bench.store.read(location(where))
        except StoreError:
            return None
        try:
            if about.size > INCLUDED_MAX_BYTES:
                return None
            content = b"".join([piece async for piece in reading])
        finally:
            await reading.aclose()
        return {"content": content.decode("utf-8", "replace"), "encoding": "UTF-8"}

    async def _discard(self, outcome: Outcome) -> None:
        if outcome.staged:
            await self.bench.store.discard(outcome.staged)

    def _count(self, outcome: Outcome) -> None:
        bench = self.bench
        bench.measures.count("InvocationsProcesssed")
        if outcome.status == "Failed":
            bench.measures.count("InvocationFailures")
        received_s = self.lease.job.received_s
        bench.measures.took("TotalProcessingTime", max(0.0, bench.now_s() - received_s))


def _unwritable(error: StoreError) -> str:
    return f"ClientError: Unable to write the response: {error}"


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
