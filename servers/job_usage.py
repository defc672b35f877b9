"""What a job's instances use, with the names of the namespace ``/aws/sagemaker/TransformJobs``.

There the dimension ``Host`` is ``JOB/INSTANCE``; here the two are apart. CPUUtilization counts 100
for each core that is busy, as SageMaker does. MemoryUtilization is of this machine's memory, not of
the instance type's. Both are the container's, and of what it started.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import psutil

from bench.events import EventLog
from servers.limits import cpu_seconds, resident_bytes
from servers.pages import Pages

CPU, MEMORY = "CPUUtilization", "MemoryUtilization"
UNITS = {CPU: "Percent", MEMORY: "Percent"}
SAMPLE_S = 1.0


class Metered(Protocol):
    """An instance whose use can be read."""

    name: str

    @property
    def pid(self) -> int | None:
        """Of its first process; None when it does not run."""


class InstanceBook(Pages):
    """The metrics of one instance."""

    gauges = (CPU, MEMORY)

    def __init__(self, job: str, instance: Metered, log: EventLog) -> None:
        super().__init__(job, instance.name, log, UNITS)
        self._instance = instance
        self._before: tuple[int, float, float] | None = None
        """Process, moment, and the CPU seconds that it had used by then."""

    def sample(self, now_s: float) -> None:
        """Add what it uses now; its CPU since the last sample, if it is the same process."""
        pid = self._instance.pid
        try:
            process = psutil.Process(pid) if pid is not None else None
            if process is None:
                return
            moment, used_s = time.monotonic(), cpu_seconds(process)
            held = resident_bytes(process)
        except psutil.Error:
            return
        if self._before is not None and self._before[0] == process.pid:
            _, then, used_then_s = self._before
            share = max(0.0, used_s - used_then_s) / max(moment - then, 1e-3)
            self.add(CPU, 100 * share, now_s)
            self.add(MEMORY, 100 * held / psutil.virtual_memory().total, now_s)
        self._before = (process.pid, moment, used_s)


class JobUsage:
    """Follows the instances of one job."""

    def __init__(
        self, job: str, instances: Sequence[Metered], log: EventLog, now: Callable[[], float]
    ) -> None:
        self.books = [InstanceBook(job, instance, log) for instance in instances]
        self._now = now

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Sample once a second of real time, and at the end, until the block ends."""
        self._sample()
        sampling = asyncio.create_task(self._go_on())
        try:
            yield
        finally:
            sampling.cancel()
            self._sample()
            for book in self.books:
                book.close()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            self._sample()

    def _sample(self) -> None:
        for book in self.books:
            book.sample(self._now())
