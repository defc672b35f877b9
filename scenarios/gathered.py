"""Requests gathered and transformed together, as batch jobs: how a plan for batch is carried out.

Started by ``weighbridge run … --modes batch``, whatever the scenario. A request is handed over
when it is due; every ``every_s`` seconds those that have come are put into the store and a job is
made of them. Its answer is there when the output of its job is.
"""

from locust import User, task

import contextlib
import gc
import logging
import math
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gevent
import numpy as np
from gevent.pool import Group

from bench.arrivals import due_times
from bench.clock import Clock
from bench.errors import INVALID, ConfigError, MeasurementError, WeighbridgeError
from bench.events import EventLog
from bench.plan import Plan, plan_from_environment
from bench.record import RECORD, Records
from bench.units import DueTimes
from scenarios.bodies import SMALL_BYTES, bodies_of
from scenarios.dataset import Format
from scenarios.engine import HOUR_S, START_DELAY_S, end_test
from scenarios.jobs_api import ENDED, JobRefused, JobsApi
from scenarios.pacer import Pacer
from scenarios.selfcheck import SelfCheck

log = logging.getLogger(__name__)

BUCKET = "weighbridge-jobs"
POLL_S = 0.02
KNOWN_BODIES = 256
"""So many small bodies are kept as lines."""
SPOOL_BYTES = 1 << 24
"""A larger object is made on the disk."""
NOTED = 100_000
"""Records that are made at once."""
CHECKED = ("real_s", "cpu_s", "steal_share", "waited_for_core_s", "memory_growth_bytes")
"""What is told of the generator itself."""


class Gathered(User):
    """Carries out the plan that it was started with."""

    fixed_count = 1

    @task
    def send_schedule(self) -> None:
        """Gather, submit, wait for the last job, end the test."""
        try:
            plan = plan_from_environment()
            if plan is None or plan.batch is None:
                raise MeasurementError("Start this with: weighbridge run SCENARIO --modes batch.")
            with contextlib.closing(Gathering(plan)) as gathering:
                gathering.run()
        except WeighbridgeError as error:
            log.error("%s", error)
            self.environment.process_exit_code = error.exit_code
        except JobRefused as error:
            log.error("The jobs could not be submitted: %s.", error)
            self.environment.process_exit_code = INVALID
        except Exception:
            # Locust would start the task again; jobs submitted twice are no measurement.
            log.exception("the jobs could not be submitted")
            self.environment.process_exit_code = INVALID
        end_test(self.environment)
        gevent.sleep(HOUR_S)


@dataclass(frozen=True)
class Part:
    """The requests of one job: places in the schedule, and when the job was submitted."""

    name: str
    seqs: slice
    lines: list[int]
    """How many records each request is."""
    submitted_s: float
    upload_s: float


def boundaries_s(due_s: DueTimes, every_s: float, duration_s: float) -> list[float]:
    """When jobs are submitted: after each span in which something came; 0: once, with the last."""
    if not len(due_s):
        return []
    if not every_s:
        return [float(due_s[-1])]
    last = min(math.floor(float(due_s[-1]) / every_s) + 1, math.ceil(duration_s / every_s) + 1)
    spans = np.unique(np.floor(due_s / every_s).astype(int) + 1)
    return [float(span * every_s) for span in spans if span <= last]


class Gathering:
    """Carries out one plan."""

    def __init__(self, plan: Plan) -> None:
        assert plan.batch is not None
        workload = plan.workload
        self._plan = plan
        self._every_s = plan.batch.every_s
        self._format = Format(workload.payload, plan.batch)
        self._due_s = due_times(workload.arrivals, workload.duration_s, workload.seed)
        self._api = JobsApi(plan.url.split("/endpoints/")[0])
        self._start_s = 0.0
        self._sent = self._open = 0
        self._following = Group()
        self._check: SelfCheck | None = None
        with contextlib.ExitStack() as stack:
            self._events = EventLog(Path(plan.events) if plan.events else None)
            stack.callback(self._events.close)
            assert plan.clock is not None, "a measurement has a clock"
            self._clock = Clock(Path(plan.clock))
            stack.callback(self._clock.close)
            self._member = self._clock.join(self._events)
            self._member.update(work=1)
            self._pacer = Pacer(self._clock, self._member)
            stack.callback(self._pacer.close)
            self._bodies = stack.enter_context(bodies_of(plan))
            self._known = lru_cache(maxsize=KNOWN_BODIES)(self._lined)
            self._resources = stack.pop_all()

    def run(self) -> None:
        """Submit every job when it is due; returns when the last has ended."""
        gc.freeze()
        self._check = SelfCheck()
        self._api.make_bucket(BUCKET)
        self._start_s = start_s = self._clock.now() + START_DELAY_S
        self._events.write("phase", start_s, name="load")
        begin = 0
        moments = boundaries_s(self._due_s, self._every_s, self._plan.workload.duration_s)
        for number, moment_s in enumerate(moments):
            self._wait_until(start_s + moment_s)
            # At a boundary of a span the request that is due just then belongs to the next one.
            end = int(np.searchsorted(self._due_s, moment_s, "left" if self._every_s else "right"))
            part = self._submit(f"job-{number + 1}", slice(begin, end))
            self._following.spawn(self._follow, part)
            begin = end
        self._wait_until(start_s + self._plan.workload.duration_s)
        self._member.update(work=-1, next_s=math.inf)
        self._following.join(raise_error=True)
        self._events.write("phase", self._clock.now(), name="end")

    def close(self) -> None:
        """Write how it was measured, also after an interruption."""
        with self._resources:
            self._following.kill()
            if self._check is not None:
                report = self._report(self._check)
                self._events.write("selfcheck", self._clock.now(), **report)

    def _report(self, check: SelfCheck) -> dict[str, Any]:
        # Nothing leaves when it is due, so no pause of this process makes anything late.
        seen = check.stop()
        return {
            "scheduled": len(self._due_s),
            "sent": self._sent,
            "dropped": 0,
            "unsent": len(self._due_s) - self._sent,
            "in_flight": self._open,
            **{name: seen[name] for name in CHECKED},
        }

    def _wait_until(self, when_s: float) -> None:
        self._member.update(work=-1, next_s=when_s)
        self._pacer.wait_until(when_s)
        self._member.update(work=1)

    def _submit(self, name: str, seqs: slice) -> Part:
        """Put the requests into the store and create the job; real work, so the clock stands."""
        began_s = self._clock.now()
        lines: list[int] = []
        for number, places in enumerate(self._format.objects(seqs.stop - seqs.start)):
            bodies = [self._bodies.body_of(seqs.start + place) for place in places]
            lines += self._upload(f"{name}/in/{number:08}", bodies)
        upload_s = self._clock.now() - began_s
        request = self._format.request()
        request["TransformInput"]["DataSource"] = {
            "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/in/"}
        }
        request["TransformOutput"]["S3OutputPath"] = f"s3://{BUCKET}/{name}/out"
        model = self._plan.url.split("/endpoints/")[1].split("/")[0]
        self._api.call("CreateTransformJob", TransformJobName=name, ModelName=model, **request)
        # One awaited request: the server parks it while it only waits for modelled machines.
        self._member.update(awaiting=1)
        self._sent += len(lines)
        self._open += len(lines)
        return Part(name, seqs, lines, self._clock.now(), upload_s)

    def _upload(self, key: str, bodies: list[int]) -> list[int]:
        """Make one object of the bodies; how many records each is."""
        if not self._format.by_line:
            (body,) = bodies
            content = self._bodies.body(body)
            self._api.put(BUCKET, key, content, len(content))
            return [1]
        counts = []
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
            for body in bodies:
                small = self._bodies.size(body) <= SMALL_BYTES
                content, count = self._known(body) if small else self._lined(body)
                file.write(content)
                counts.append(count)
            size = file.tell()
            file.seek(0)
            self._api.put(BUCKET, key, file, size)
        return counts

    def _lined(self, body: int) -> tuple[bytes, int]:
        try:
            return self._format.lined(self._bodies.content(body))
        except ValueError as error:
            kind = self._plan.workload.payload.content_type
            raise ConfigError(
                f"Body {body} of the payload cannot be a record of a job as {kind}: {error}. Name "
                "others with --payload, or their type with payload.content_type."
            ) from error

    def _follow(self, part: Part) -> None:
        """Wait for the job's end, read its outputs, note every request of it."""
        try:
            while True:
                job = self._api.call("DescribeTransformJob", TransformJobName=part.name)
                if job["TransformJobStatus"] in ENDED:
                    break
                gevent.sleep(POLL_S)
            done_s = self._clock.now()
            self._note(part, job, done_s)
            self._open -= len(part.lines)
        finally:
            self._member.update(awaiting=-1)

    def _records(self, part: Part, at: slice, job: dict[str, object], done_s: float) -> Records:
        """Those of the requests ``at`` in the schedule, all but what their answers tell."""
        records = np.zeros(at.stop - at.start, RECORD)
        seqs = np.arange(at.start, at.stop)
        due_s = self._due_s[at]
        launch = job["LaunchSeconds"]
        assert isinstance(launch, dict)
        for name in ("first_byte_s", "model_s", "overhead_s", "download_s", "store_s", "connect_s"):
            records[name] = math.nan
        records["seq"] = seqs
        # A request is handed over when it is due: nothing of it leaves at that moment.
        records["due_s"] = records["sent_s"] = due_s
        records["done_s"] = done_s - self._start_s
        records["backlog_s"] = part.submitted_s - self._start_s - due_s
        records["upload_s"] = part.upload_s
        for name in ("placement", "wait", "setup"):
            records[f"{name}_s"] = launch.get(name, math.nan)
        records["cold"] = True
        records["instance"] = part.name.encode()
        bodies = [self._bodies.body_of(seq) for seq in seqs.tolist()]
        records["request_bytes"] = [self._bodies.size(body) for body in bodies]
        return records

    def _answers(self, part: Part, job: dict[str, object]) -> list[float]:
        """Bytes of each answer; NaN: none. A job that fails keeps the objects that it has done."""
        if job["TransformJobStatus"] != "Completed":
            log.error("%s: %s", part.name, job.get("FailureReason"))
        found: list[float] = []
        for number, places in enumerate(self._format.objects(len(part.lines))):
            lines = part.lines[places.start : places.stop]
            key = f"{part.name}/out/{number:08}.out"
            try:
                with self._api.reading(BUCKET, key) as output:
                    found += self._format.answers(output, lines)
            except (JobRefused, ValueError) as error:
                if job["TransformJobStatus"] == "Completed":  # else there was a reason, told above
                    log.error("%s: %s", key, error)
                found += [math.nan] * len(lines)
        return found

    def _note(self, part: Part, job: dict[str, object], done_s: float) -> None:
        """Write down every request of the job, some at a time: there may be millions."""
        sizes = np.array(self._answers(part, job))
        started, ended = job.get("TransformStartTime"), job.get("TransformEndTime")
        share_s = math.nan
        if isinstance(started, float | int) and isinstance(ended, float | int):
            share_s = (ended - started) / len(sizes)
        for first in range(part.seqs.start, part.seqs.stop, NOTED):
            at = slice(first, min(first + NOTED, part.seqs.stop))
            records = self._records(part, at, job, done_s)
            some = sizes[at.start - part.seqs.start : at.stop - part.seqs.start]
            good = ~np.isnan(some)
            records["error"][~good] = b"TransformJobFailed"
            records["status"][good] = 200
            records["response_bytes"][good] = some[good]
            records["model_s"][good] = share_s
            if self._plan.records is not None:
                with open(self._plan.records, "ab") as file:
                    file.write(records.tobytes())
