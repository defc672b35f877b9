"""Autoscaling on the clock: reads a variant's metric each period and changes its replicas."""

import math
from collections import deque
from dataclasses import replace

from bench.scaling import PERIODS_S, Scaling
from servers.metrics import Book
from servers.replicas import Replicas
from servers.scaling import (
    Bounds,
    Moment,
    Policy,
    State,
    Tracking,
    Windows,
    decide_all,
    policies_of,
)
from servers.timers import Timer, Timers


class Autoscaler:
    """Follows one variant, from its first request on.

    It rests while nothing comes and nothing can be removed, so that silence may be skipped.
    """

    def __init__(
        self, scaling: Scaling, windows: Windows, replicas: Replicas, book: Book, timers: Timers
    ) -> None:
        self._metric = scaling.metric
        self._period_s = PERIODS_S[scaling.metric]
        self._bounds = Bounds(scaling.min_count, scaling.max_count)
        self._policies = policies_of(scaling, windows)
        self._states = [State(0) for _ in self._policies]
        self._values: deque[float] = deque(maxlen=max(map(_points, self._policies)))
        self._replicas = replicas
        self._book = book
        self._timers = timers
        self._timer: Timer | None = None
        self._read_to_s = self._begin_of(timers.now())
        self._counted = book.whole("InvocationsPerInstance").total

    def wake(self) -> None:
        """A request has come: watch, if it is not done yet."""
        if self._timer is None:
            begin_s = self._begin_of(self._timers.now())
            silent = round((begin_s - self._read_to_s) / self._period_s)
            self._values.extend([0.0] * min(silent, self._values.maxlen or 0))
            self._read_to_s = begin_s
            self._set()

    def hold(self, bounds: Bounds) -> None:
        """Stay within other bounds from now on; what has been seen still counts."""
        self._bounds = bounds
        self.wake()

    def pause(self) -> None:
        """Change nothing until `resume`: an update governs the count."""
        self.close()
        self._timer = Timer(None)  # while there is one, a request sets no other

    def resume(self) -> None:
        """Watch from now on; what came meanwhile counts for nothing."""
        self._values.clear()
        self._read_to_s = self._begin_of(self._timers.now())
        self._counted = self._book.whole("InvocationsPerInstance").total
        self._timer = None
        self.wake()

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin_of(self, at_s: float) -> float:
        return math.floor(at_s / self._period_s) * self._period_s

    def _set(self) -> None:
        self._timer = self._timers.call_at(self._read_to_s + self._period_s, self._look)

    def _look(self) -> None:
        # Several launches are one decision of one moment: the clock is not turned between them.
        with self._timers.working():
            self._decide()

    def _decide(self) -> None:
        self._read_to_s += self._period_s
        self._values.append(self._value())
        replicas, before = self._replicas, self._replicas.desired  # others may have changed it
        states = [replace(state, desired=before) for state in self._states]
        moment = Moment(self._timers.now(), max(1, replicas.in_service), self._bounds)
        values = list(self._values)
        self._states = decide_all([(each, values) for each in self._policies], moment, states)
        desired = self._states[0].desired
        if desired != before:
            self._timers.note(
                "scaling",
                variant=replicas.variant,
                desired=desired,
                before=before,
                reason=f"{self._metric}: {self._states[0].reason or 'the bounds of its policy'}",
            )
            replicas.resize(desired)
        self._timer = None
        if any(self._values) or desired > self._bounds.least or self._book.in_flight:
            self._set()

    def _value(self) -> float:
        """The metric over the period that has just ended."""
        if self._metric == "ConcurrentRequestsPerModel":
            return self._book.read_peak() / max(1, self._replicas.in_service)
        total = self._book.whole("InvocationsPerInstance").total
        value, self._counted = total - self._counted, total
        return value


def _points(policy: Policy) -> int:
    """How many datapoints a policy looks back."""
    if isinstance(policy, Tracking):
        return max(policy.high.points, policy.low.points if policy.low else 0)
    return policy.alarm.points
