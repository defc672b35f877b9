"""One batch job carried out: instances started, objects dealt to them, results noted."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from bench.events import EventLog
from bench.process import die_with_parent
from servers.agent import ObjectOrder, ObjectResult, ready, transform_object
from servers.bucket_view import BucketView
from servers.caller import CallOrder
from servers.instance import Instance, InstanceFailed, Startup
from servers.job_folder import InputObject, JobFolder
from servers.job_tally import Counts, Tally
from servers.job_usage import JobUsage, Metered
from servers.joining import Stamp
from servers.profile import Profile
from servers.timers import Timers
from servers.transform_request import (
    Effective,
    ModelClientConfig,
    TransformRequest,
    effective,
    filters_of,
)
from servers.wire import ApiError

MAX_LANES = 4
"""Objects that are one call each run side by side in an instance, up to so many agents."""
PARAMETERS_TIMEOUT_S = 2.0
MAX_PARAMETERS_BYTES = 65_536
ENDING_S = 0.25
"""A container that was killed is known to be gone so much later."""


class BatchInstance(Instance, Metered, Protocol):
    """An instance that agents in other processes call."""

    @property
    def address(self) -> str: ...


class JobFailed(Exception):
    """The job as a whole cannot go on; the text is its FailureReason."""


@dataclass(frozen=True)
class RunMeans:
    """What a job is carried out with."""

    view: BucketView
    profile: Profile
    timers: Timers
    starts: asyncio.Semaphore
    new_instance: Callable[[str], BatchInstance]
    metrics: EventLog
    new_executor: Callable[[int], Executor]
    """Makes what runs the agents of one instance, so many at a time."""
    elsewhere: bool = False
    """Agents may run on other machines: they have no part of the job's folder."""


@dataclass(frozen=True)
class Lane:
    """A place at an instance where one object at a time is transformed."""

    slot: int
    turn: int

    @property
    def name(self) -> str:
        return f"{self.slot}-{self.turn}"


def local_executor(agents: int) -> Executor:
    """Agents as processes of this machine, which end when this one does."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(agents, context, die_with_parent, (os.getpid(),))


class JobRun:
    """Carries out one job; what was finished before is not done again."""

    def __init__(
        self,
        request: TransformRequest,
        folder: JobFolder,
        objects: Sequence[InputObject],
        means: RunMeans,
    ) -> None:
        self._request = request
        self._folder = folder
        self._objects = objects
        self._means = means
        self._results = folder.finished()
        self._tally = Tally(objects, self._results.values())
        count, name = request.transform_resources.instance_count, request.transform_job_name
        self._instances = [means.new_instance(f"{name}-{n + 1}") for n in range(count)]
        self.usage = JobUsage(name, self._instances, means.metrics, means.timers.now)
        self._in_service: set[int] = set()
        self._agents: list[_Agents] = []
        self._busy: dict[Lane, int] = {}
        self._leaving = False
        self._started_s = 0.0
        folder.leave_file.unlink(missing_ok=True)
        self.startups: list[Startup] = []
        self.wait_s = 0.0
        """Longest wait for a core of this machine to start on, which SageMaker does not have."""

    @property
    def results(self) -> list[ObjectResult]:
        """What became of the objects so far, in their order."""
        return [self._results[number] for number in sorted(self._results)]

    @property
    def names(self) -> list[str]:
        """Of its instances."""
        return [instance.name for instance in self._instances]

    @property
    def instances(self) -> int:
        """Those in service."""
        return len(self._in_service)

    async def run(self, started: Callable[[], float]) -> None:
        """Transform every object that is not finished; JobFailed when nothing can be.

        ``started`` is called when all instances are in service; it tells when the job started, in
        seconds since 1970.
        """
        slots = range(len(self._instances))
        # An agent an instance; more where objects are one call each.
        alone = self._request.transform_input.split_type != "None"
        agents = 1 if alone else min(self._request.max_concurrent_transforms or 1, MAX_LANES)
        self._agents = [_Agents(self._means.new_executor, agents) for _ in slots]
        try:
            await _all([self._start(slot) for slot in slots])
            how = await self._parameters()
            self._started_s = started()
            self._tally.begin()
            async with self.usage.followed():
                await _all([self._serve(slot, how) for slot in slots])
        finally:
            for each in self._agents:
                each.close()
            await asyncio.gather(*(self._end(slot) for slot in slots))

    async def leave(self) -> None:
        """End the containers and give up what is under way; what is finished stays so."""
        self._leaving = True
        self._folder.leave_file.touch()
        await asyncio.gather(*(instance.kill() for instance in self._instances))

    def counts(self) -> Counts:
        """How far it is now."""
        live = [(number, self._folder.progress(lane.name)) for lane, number in self._busy.items()]
        return self._tally.counts(live)

    async def _start(self, slot: int) -> None:
        asked = time.monotonic()
        async with self._means.starts:
            self.wait_s = max(self.wait_s, time.monotonic() - asked)
            startup = await self._healthy(slot)
        self.startups.append(startup)
        self._in_service.add(slot)
        self._note("instance_started", slot, setup_s=startup.setup_s)

    async def _healthy(self, slot: int) -> Startup:
        """Start a container; again if it fails, for it may have been killed meanwhile."""
        instance, failure = self._instances[slot], InstanceFailed("it was told to leave")
        for _ in range(1 + int(self._means.profile["max_restarts"])):
            if self._leaving:
                break
            try:
                return await instance.start()
            except InstanceFailed as error:
                failure = error
                self._folder.log(f"[sagemaker logs]: {instance.name}: {error}")
                self._note("instance_failed", slot, reason=str(error))
        raise JobFailed(
            "AlgorithmError: Model container failed to respond to ping "
            f"({instance.name}: {failure})"
        )

    async def _end(self, slot: int, reason: str = "job ended") -> None:
        if slot in self._in_service:
            await self._instances[slot].stop()
            self._in_service.discard(slot)
            self._note("instance_stopped", slot, reason=reason)

    def _note(self, kind: str, slot: int, **more: object) -> None:
        self._means.timers.note(kind, instance=self._instances[slot].name, **more)

    async def _parameters(self) -> Effective:
        told = await asyncio.to_thread(execution_parameters, self._instances[0].address)
        try:
            how = effective(self._request, told)
        except ApiError as error:
            raise JobFailed(f"ClientError: {error.message}") from error
        self._folder.log(how.log_line())
        return how

    async def _serve(self, slot: int, how: Effective) -> None:
        """Transform an instance's share: objects are dealt by key, and never shared."""
        share = [
            number
            for number in range(slot, len(self._objects), len(self._instances))
            if number not in self._results
        ]
        whole = self._request.transform_input.split_type == "None" and how.payload_mb > 0
        lanes = min(how.concurrent, MAX_LANES, max(1, len(share))) if whole else 1
        waiting, agents = iter(share), self._agents[slot]
        await _all([self._lane(Lane(slot, turn), waiting, how, agents) for turn in range(lanes)])

    async def _lane(
        self, lane: Lane, share: Iterator[int], how: Effective, agents: "_Agents"
    ) -> None:
        for number in share:
            if self._leaving:
                return
            self._folder.forget_progress(lane.name)
            self._busy[lane] = number
            result = await self._transform(lane, number, how, agents)
            del self._busy[lane]
            if result.status == "stopped" or self._leaving:
                return
            if result.status == "failed":
                self._log(number, result.reason)
            self._folder.finish(result)
            self._results[number] = result
            self._tally.add(result)

    async def _transform(
        self, lane: Lane, number: int, how: Effective, agents: "_Agents"
    ) -> ObjectResult:
        """One object, tried again when its agent or its container has ended."""
        tries = 1 + int(self._means.profile["max_restarts"])
        for attempt in range(tries):
            if attempt:
                await self._revive(lane.slot)
            result = await agents.run(self._order(lane, number, how))
            if result.status != "lost" or self._leaving:
                return result
            self._log(number, result.reason)
        reason = f"AlgorithmError: {result.reason}; so it went {tries} times"
        return ObjectResult(number, "failed", reason=reason)

    async def _revive(self, slot: int) -> None:
        """Start the container again if it has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await self._instances[slot].ended()
        if self._leaving or self._instances[slot].alive:
            return
        await self._end(slot, "ended by itself")
        await self._start(slot)

    def _log(self, number: int, reason: str) -> None:
        self._folder.log(f"[sagemaker logs]: {self._objects[number].name}: {reason}")

    def _order(self, lane: Lane, number: int, how: Effective) -> ObjectOrder:
        request, each = self._request, self._objects[number]
        client = request.model_client_config or ModelClientConfig()
        source, target = request.transform_input, request.transform_output
        return ObjectOrder(
            number=number,
            source=self._means.view.location(*each.source),
            target=self._means.view.location(*each.target),
            call=CallOrder(
                self._instances[lane.slot].address,
                source.content_type,
                target.accept,
                client.invocations_timeout_in_seconds,
                client.invocations_max_retries,
            ),
            split=source.split_type,
            single=how.strategy == "SingleRecord",
            limit_bytes=how.limit_bytes,
            concurrent=how.concurrent,
            gzip=source.compression_type == "Gzip",
            assemble_lines=target.assemble_with == "Line",
            filters=filters_of(
                request, bool(self._means.profile["slice_end_included"]), self._stamp(number)
            ),
            **({} if self._means.elsewhere else self._files(lane)),
        )

    def _files(self, lane: Lane) -> dict[str, str]:
        """What an agent on this machine writes and watches beside the objects."""
        return {
            "draft": str(self._folder.drafts / lane.name),
            "progress": str(self._folder.progress_file(lane.name)),
            "stop": str(self._folder.leave_file),
        }

    def _stamp(self, number: int) -> Stamp | None:
        if not self._request.inference_ids:
            return None
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started_s))
        unique = f"{self._request.transform_job_name}/{self._started_s!r}/{number}"
        return Stamp(str(uuid.uuid5(uuid.NAMESPACE_URL, unique)), started)


class _Agents:
    """What runs the agents of one instance; made anew when one was killed."""

    def __init__(self, new_executor: Callable[[int], Executor], lanes: int) -> None:
        self._new_executor = new_executor
        self._lanes = lanes
        self._executor = self._opened()

    def _opened(self) -> Executor:
        executor = self._new_executor(self._lanes)
        # They import what they need while the containers start.
        for _ in range(self._lanes):
            executor.submit(ready)
        return executor

    async def run(self, order: ObjectOrder) -> ObjectResult:
        executor = self._executor
        try:
            future = executor.submit(transform_object, order)
            return await asyncio.wrap_future(future)
        except BrokenExecutor:
            if self._executor is executor:  # else another lane has replaced it
                executor.shutdown(wait=False)
                self._executor = self._opened()
            return ObjectResult(order.number, "lost", reason="the agent was killed")

    def close(self) -> None:
        self._executor.shutdown(wait=False)


def execution_parameters(address: str) -> dict[str, Any]:
    """What the container says of itself; nothing when it does not, for it need not."""
    with contextlib.suppress(OSError, ValueError):
        url = f"{address}/execution-parameters"
        with urllib.request.urlopen(url, timeout=PARAMETERS_TIMEOUT_S) as answer:
            told = json.loads(answer.read(MAX_PARAMETERS_BYTES))
            return told if isinstance(told, dict) else {}
    return {}


async def _all(work: Sequence[Any]) -> None:
    """Wait for all, then raise the first failure."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
