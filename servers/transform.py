"""Batch transform: jobs over objects of a store, without an endpoint.

A job that was running when the process was killed goes on when the service opens again in the same
folder; what was finished is not done again.
"""

import asyncio
import logging
import random
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.events import EventLog
from servers.api_document import invalid
from servers.bucket_view import BucketView, NoSuchPlace
from servers.job_capture import capture
from servers.job_folder import JobFolder
from servers.job_inputs import input_objects
from servers.job_run import BatchInstance, JobFailed, JobRun, RunMeans
from servers.job_tally import Counts
from servers.pages import Pages
from servers.profile import Profile
from servers.timers import Timers
from servers.transform_request import TransformRequest
from servers.wire import ApiError

log = logging.getLogger(__name__)

Status = Literal["InProgress", "Completed", "Failed", "Stopping", "Stopped"]

MAX_RUNNING = 20
"""Jobs under way at once; beyond it ResourceLimitExceeded."""
SEE_LOGS = "ClientError: See job logs for more information"
SHOWN_REASONS = 3


@dataclass(frozen=True)
class BatchModel:
    """A model that jobs may name."""

    profile: Profile
    new_instance: Callable[[str, TransformRequest], BatchInstance]
    """Makes an instance, not started, from its name and the job it is for."""


@dataclass(frozen=True)
class TransformMeans:
    """What the service works with."""

    folder: Path
    """Keeps the jobs."""
    view: BucketView
    timers: Timers
    starts: asyncio.Semaphore
    new_executor: Callable[[int], Executor]
    metrics: EventLog = EventLog(None)  # noqa: RUF009 - it writes nowhere
    elsewhere: bool = False
    """Agents may run on other machines."""
    max_instances: int = 4
    seed: int = 1


@dataclass
class Job:
    """One transform job as it stands."""

    request: TransformRequest
    folder: JobFolder
    created_s: float
    status: Status = "InProgress"
    reason: str = ""
    started_s: float | None = None
    ended_s: float | None = None
    run: JobRun | None = None
    counts: Counts | None = None
    parts_s: dict[str, float] = field(default_factory=dict)
    """Seconds of the launch: placement (modelled), wait and setup (measured)."""

    @property
    def name(self) -> str:
        return self.request.transform_job_name

    @property
    def modified_s(self) -> float:
        return self.ended_s or self.started_s or self.created_s


class TransformService:
    """Creates, shows, lists and stops jobs. ``models`` may grow while it is open."""

    def __init__(self, means: TransformMeans, models: Mapping[str, BatchModel]) -> None:
        self._means = means
        self._models = models
        self._jobs: dict[str, Job] = {}
        self._placement = random.Random(means.seed)
        self._opened = self._closing = False
        self._placing: set[Callable[[], None]] = set()
        # Wall time at the clock's zero: what was skipped passes for the caller too.
        self._epoch_s = time.time() - means.timers.now()

    def open(self) -> None:
        """Take up the jobs of the folder; those that had not ended go on."""
        if self._opened:
            return
        self._opened = True
        self._means.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._means.folder.iterdir()):
            if not (path / "job.json").exists():  # killed before the job was accepted
                shutil.rmtree(path, ignore_errors=True)
                continue
            folder = JobFolder(path)
            request, created_s = folder.read()
            job = self._jobs[path.name] = Job(request, folder, created_s)
            ended = folder.ended()
            if ended is None:
                job.status = "Stopping" if folder.stop_file.exists() else "InProgress"
                self._begin(job)
            else:
                _restore(job, ended)

    def create(self, request: TransformRequest) -> Job:
        """Accept a job and begin it; an ApiError says why not."""
        name, count = request.transform_job_name, request.transform_resources.instance_count
        if name in self._jobs:
            raise ApiError(
                400, "ResourceInUse", f"A transform job called {name} exists already. Rename it."
            )
        if request.model_name not in self._models:
            raise invalid(f'Could not find model "{request.model_name}". Create it first.')
        if count > self._means.max_instances:
            raise _limit(
                f"{count} instances for one transform job; this machine is set to "
                f"{self._means.max_instances} (batch.max_instances)"
            )
        if sum(job.status in ("InProgress", "Stopping") for job in self.jobs) >= MAX_RUNNING:
            raise _limit(f"{MAX_RUNNING} transform jobs are under way already")
        created_s = self._now_s()
        folder = JobFolder.create(self._means.folder / name, request, created_s)
        job = self._jobs[name] = Job(request, folder, created_s)
        self._begin(job)
        return job

    def job(self, name: str) -> Job:
        """The job of that name; ValidationException when there is none."""
        if name not in self._jobs:
            raise ApiError(400, "ResourceNotFound", f"Could not find requested job {name!r}.")
        return self._jobs[name]

    @property
    def jobs(self) -> list[Job]:
        """All that are known, oldest first."""
        return sorted(self._jobs.values(), key=lambda job: job.created_s)

    def stop(self, name: str) -> None:
        """Ask a job to stop; it keeps no output."""
        job = self.job(name)
        if job.status not in ("InProgress", "Stopping"):
            raise invalid(f"The job {name} cannot be stopped: it is {job.status}.")
        if job.status == "InProgress":
            job.status = "Stopping"
            job.folder.stop_file.touch()
            if job.run is not None:
                self._means.timers.start(job.run.leave())

    async def close(self) -> None:
        """Leave every job as it is: it goes on when the folder is opened again."""
        self._closing = True
        for wake in list(self._placing):
            wake()
        running = [job.run for job in self.jobs if job.run is not None]
        await asyncio.gather(*(run.leave() for run in running))

    def status(self) -> dict[str, int]:
        runs = [job.run for job in self.jobs if job.run is not None]
        waiting = [job for job in self.jobs if job.status == "InProgress" and job.run is None]
        return {
            "instances": sum(run.instances for run in runs),
            "in_flight": len(runs),
            "backlog": len(waiting),
        }

    def books(self, model: str) -> list[Pages]:
        """What the instances at work use in the jobs of a model."""
        runs = [job.run for job in self.jobs if job.run and job.request.model_name == model]
        return [book for run in runs for book in run.usage.books]

    def counts(self, job: Job) -> Counts | None:
        """How far a job is; None before it has begun."""
        return job.run.counts() if job.run is not None else job.counts

    def _begin(self, job: Job) -> None:
        self._means.timers.note("job_started", job=job.name)
        self._means.timers.start(self._carry_out(job))

    async def _carry_out(self, job: Job) -> None:
        try:
            await self._run(job)
        except (JobFailed, NoSuchPlace) as failure:
            job.reason = str(failure)
        except Exception as error:  # a fault of ours must not leave the job InProgress for ever
            log.exception("the job %s failed", job.name)
            job.reason = f"InternalServerError: {type(error).__name__}: {error}"
        run, job.run = job.run, None
        if run is not None:
            job.counts = run.counts()
        if self._closing:
            return
        await self._end(job, run)

    async def _run(self, job: Job) -> None:
        objects = job.folder.objects()
        if objects is None:
            objects = await input_objects(job.request, self._means.view)
            job.folder.save_objects(objects)
        model = self._models.get(job.request.model_name)
        if model is None:
            raise JobFailed(f'ClientError: Could not find model "{job.request.model_name}"')
        means = self._means
        run = JobRun(
            job.request,
            job.folder,
            objects,
            RunMeans(
                means.view,
                model.profile,
                means.timers,
                means.starts,
                lambda name: model.new_instance(name, job.request),
                means.metrics,
                means.new_executor,
                means.elsewhere,
            ),
        )
        await self._place(job, run, model.profile)
        if job.status == "Stopping" or self._closing:
            return
        job.run = run
        await run.run(lambda: self._started(job, run))
        wanted = job.request.data_capture_config
        done = [objects[result.number] for result in run.results if result.status == "done"]
        if wanted is not None and done and not job.folder.stop_file.exists():
            about = (job.name, job.started_s or 0.0, job.folder.drafts)
            await capture(done, wanted.destination_s3_uri, means.view, about)

    async def _place(self, job: Job, run: JobRun, profile: Profile) -> None:
        """Wait as long as SageMaker takes to find the job's machines; they come together."""
        placement_s = profile["placement_median_s"] * self._placement.lognormvariate(
            0.0, profile["placement_sigma"]
        )
        job.parts_s["placement"] = placement_s
        for name in run.names:
            self._means.timers.note("instance_launched", instance=name, placement_s=placement_s)
        await self._means.timers.sleep(placement_s, self._placing)

    def _started(self, job: Job, run: JobRun) -> float:
        job.started_s = job.folder.start(self._now_s())
        job.parts_s["wait"] = run.wait_s
        job.parts_s["setup"] = max(startup.setup_s for startup in run.startups)
        return job.started_s

    async def _end(self, job: Job, run: JobRun | None) -> None:
        results = run.results if run is not None else []
        failed = [result for result in results if result.status == "failed"]
        if job.status == "Stopping":
            await self._discard(job)
            status: Status = "Stopped"
        elif job.reason or failed:
            status = "Failed"
            job.reason = job.reason or _reason(failed[0].reason)
        else:
            status = "Completed"
        job.ended_s, job.status = self._now_s(), status
        job.folder.end(
            {
                "status": status,
                "reason": job.reason,
                "started_s": job.started_s,
                "ended_s": job.ended_s,
                "parts_s": job.parts_s,
            }
        )
        self._means.timers.note(
            "job_ended",
            job=job.name,
            status=status,
            records=sum(result.records for result in results),
            bytes=sum(result.written_bytes for result in results),
        )

    async def _discard(self, job: Job) -> None:
        """A stopped job stores no output: what finished objects have put there is removed."""
        objects = job.folder.objects() or []
        for number, result in job.folder.finished().items():
            if result.status == "done":
                await self._means.view.remove(*objects[number].target)

    def _now_s(self) -> float:
        """Seconds since 1970, as far as the run's clock goes."""
        return self._epoch_s + self._means.timers.now()


def _restore(job: Job, ended: dict[str, Any]) -> None:
    job.status, job.reason = ended["status"], ended["reason"]
    job.started_s, job.ended_s = ended["started_s"], ended["ended_s"]
    job.parts_s = ended["parts_s"]


def _reason(first: str) -> str:
    """SageMaker's own text for its two kinds; the job's log says it in full."""
    return SEE_LOGS if first.startswith("ClientError") else first


def _limit(what: str) -> ApiError:
    return ApiError(400, "ResourceLimitExceeded", f"The limit is exceeded: {what}. Use fewer.")
