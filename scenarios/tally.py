"""Locust's statistics, fed a batch of records at a time."""

from locust.env import Environment
from locust.stats import StatsEntry, StatsError

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from gevent.pool import Group

from bench.record import Records
from scenarios import buckets

METHOD = "POST"


class RequestFailed(Exception):
    """The error code of a request that was not answered as it should be, for Locust's tables."""


class Tally:
    """Counts into Locust's table, CSV files, web page and exit code. Latency is from due to done.

    Whoever else listens to Locust's ``request`` event is told of each request.
    """

    def __init__(self, environment: Environment, name: str) -> None:
        self._environment = environment
        self._name = name
        self._last_s = time.monotonic()
        self._telling = Group()

    def add(self, records: Records, now_s: float) -> None:
        """Count ``records``; ``now_s`` is the present in their times."""
        latency_ms = (records["done_s"] - records["due_s"]) * 1000
        if _has_listeners(self._environment):
            # In a greenlet of its own, because a listener may wait for something.
            self._telling.spawn(self._tell, records, latency_ms.tolist())
            return
        # Time that was skipped is no time to Locust, whose seconds are those of the wall.
        real_s, self._last_s = time.monotonic() - self._last_s, time.monotonic()
        seconds = (time.time() - np.clip(now_s - records["done_s"], 0, real_s)).astype(int)
        stats = self._environment.stats
        batch, times = self._batch(records, latency_ms, seconds), buckets.counted(latency_ms)
        for table in (stats.total, stats.entries[self._name, METHOD]):
            # Before all the rest, of which Locust would copy the times; its own way is slow.
            known = table.response_times
            for time_ms, count in times.items():
                known[time_ms] += count
            table.extend(batch)
        for code, count in _counted(records["error"][records["error"] != b""]).items():
            error = RequestFailed(code.decode())
            key = StatsError.create_key(METHOD, self._name, error)
            entry = stats.errors.setdefault(key, StatsError(METHOD, self._name, error))
            for _ in range(count):
                entry.occurred()

    def close(self) -> None:
        """Return when every listener has been told."""
        self._telling.join()

    def _batch(
        self, records: Records, latency_ms: npt.NDArray[np.float64], seconds: npt.NDArray[np.int_]
    ) -> StatsEntry:
        failed = records["error"] != b""
        batch = StatsEntry(self._environment.stats, self._name, METHOD)
        vars(batch).update(
            num_requests=len(records),
            num_failures=int(failed.sum()),
            total_response_time=float(latency_ms.sum()),
            min_response_time=float(latency_ms.min()),
            max_response_time=float(latency_ms.max()),
            total_content_length=int(records["response_bytes"].sum()),
            last_request_timestamp=time.time(),
            num_reqs_per_sec=_counted(seconds),
            num_fail_per_sec=_counted(seconds[failed]),
        )
        return batch

    def _tell(self, records: Records, latencies_ms: list[float]) -> None:
        for record, latency_ms in zip(records, latencies_ms, strict=True):
            code = record["error"].decode()
            self._environment.events.request.fire(  # type: ignore[no-untyped-call]
                request_type=METHOD,
                name=self._name,
                response_time=latency_ms,
                response_length=int(record["response_bytes"]),
                exception=RequestFailed(code) if code else None,
                context={},
            )


def _has_listeners(environment: Environment) -> bool:
    """Does anyone but Locust itself want to be told of each request?"""
    handlers = environment.events.request._handlers
    return any(handler.__module__ != "locust.runners" for handler in handlers)


def _counted(values: npt.NDArray[Any]) -> dict[Any, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
