"""How many instances an asynchronous endpoint wants, from datapoints of its backlog."""

import math
from collections import deque

from bench.target import Async
from servers.backlog import Counts
from servers.measures import Measures
from servers.profile import Profile
from servers.scaling import (
    Alarm,
    Bounds,
    Moment,
    Policy,
    State,
    Stepping,
    Windows,
    decide_all,
    tracking,
)

HISTORY = 120


class Scaler:
    """Asked once a period; remembers the datapoints."""

    def __init__(self, target: Async, profile: Profile) -> None:
        self.period_s = profile["metric_period_s"]
        self._bounds = Bounds(target.min_instances, target.max_instances)
        windows = Windows(
            int(profile["tracking_out_points"]),
            profile["tracking_in_s"],
            profile["tracking_in_share"],
        )
        cooldowns_s = (target.scale_out_cooldown_s, target.scale_in_cooldown_s)
        self._tracking = tracking(target.target_backlog, self.period_s, windows, cooldowns_s)
        self._waking = Stepping(
            Alarm(0.5, int(profile["wake_points"])), ((0.0, 1.0),), "change", target.wake_cooldown_s
        )
        self._per_instance: deque[float] = deque([0.0] * HISTORY, HISTORY)
        self._without_capacity: deque[float] = deque([0.0] * HISTORY, HISTORY)
        self._wakes = target.wake_on_first_request
        start = State(target.min_instances)
        self._states = [start, start] if self._wakes else [start]

    @property
    def desired(self) -> int:
        return self._states[0].desired

    @property
    def reason(self) -> str:
        return self._states[0].reason

    def readings(self, counts: Counts, capacity: int) -> tuple[float, float]:
        """``ApproximateBacklogSizePerInstance`` and ``HasBacklogWithoutCapacity``.

        With no instance the first is the whole backlog: AWS does not say what it is.
        """
        return counts.all / max(1, capacity), float(counts.all > 0 and capacity == 0)

    def show(self, measures: Measures, counts: Counts, capacity: int, now_s: float) -> None:
        """Note how the backlog stands; ``now_s`` is on the clock of what was received."""
        per_instance, without = self.readings(counts, capacity)
        measures.gauge("ApproximateBacklogSize", counts.all)
        measures.gauge("ApproximateBacklogSizePerInstance", per_instance)
        measures.gauge("HasBacklogWithoutCapacity", without)
        age_s = 0.0 if counts.oldest_s is None else max(0.0, now_s - counts.oldest_s)
        measures.gauge("ApproximateAgeOfOldestRequest", age_s)

    def look(self, now_s: float, counts: Counts, capacity: int) -> int:
        """Take the datapoint of this moment; how many instances are wanted."""
        per_instance, without = self.readings(counts, capacity)
        self._per_instance.append(per_instance)
        self._without_capacity.append(without)
        values = list(self._per_instance)
        readings: list[tuple[Policy, list[float]]] = [(self._following(capacity, values), values)]
        if self._wakes:
            readings.append((self._waking, list(self._without_capacity)))
        moment = Moment(now_s, capacity, self._bounds)
        self._states = decide_all(readings, moment, self._states)
        return self.desired

    def _following(self, capacity: int, values: list[float]) -> Policy:
        if capacity:
            return self._tracking
        # In proportion to nothing there is nothing: from zero it goes by the backlog itself.
        wanted = float(math.ceil(values[-1] / self._tracking.target))
        high = self._tracking.high
        return Stepping(high, ((0.0, wanted),), "exact", self._tracking.out_cooldown_s)
