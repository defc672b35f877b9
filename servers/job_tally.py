"""How far a batch job is: records, bytes, rate, and when it will be done."""

import time
from collections.abc import Iterable, Sequence

from msgspec import Struct

from servers.agent import ObjectResult
from servers.job_folder import InputObject


class Counts(Struct, frozen=True, rename="pascal"):
    """How far a job is, and how fast."""

    objects: int
    objects_done: int
    objects_failed: int
    total_bytes: int
    done_bytes: int
    """Of the input as it is stored."""
    records: int
    written_bytes: int
    rate_rps: float
    rate_bytes_per_s: float
    eta_s: float | None


class Tally:
    """Adds up finished objects; those of an earlier life of the job count, but not in the rate."""

    def __init__(self, objects: Sequence[InputObject], earlier: Iterable[ObjectResult]) -> None:
        self._sizes = [each.size for each in objects]
        self._total = sum(self._sizes)
        self._objects = self._failed = self._bytes = self._records = self._written = 0
        for result in earlier:
            self.add(result)
        self._earlier = (self._records, self._bytes)
        self._began = time.monotonic()

    def begin(self) -> None:
        """Rates count from now."""
        self._began = time.monotonic()

    def add(self, result: ObjectResult) -> None:
        """Another object is finished."""
        self._objects += 1
        self._bytes += self._sizes[result.number]
        if result.status == "failed":
            self._failed += 1
        else:
            self._records += result.records
            self._written += result.written_bytes

    def counts(self, live: Sequence[tuple[int, tuple[int, int, int]]]) -> Counts:
        """As of now; ``live`` are the objects at work: number; records, bytes read and written."""
        records = self._records + sum(part[0] for _, part in live)
        # Of a packed object more bytes come out than it has.
        done = self._bytes + sum(min(part[1], self._sizes[number]) for number, part in live)
        took_s = max(time.monotonic() - self._began, 1e-6)
        rate = (done - self._earlier[1]) / took_s
        return Counts(
            objects=len(self._sizes),
            objects_done=self._objects,
            objects_failed=self._failed,
            total_bytes=self._total,
            done_bytes=done,
            records=records,
            written_bytes=self._written + sum(part[2] for _, part in live),
            rate_rps=(records - self._earlier[0]) / took_s,
            rate_bytes_per_s=rate,
            eta_s=(self._total - done) / rate if rate > 0 else None,
        )
