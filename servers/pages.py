"""What CloudWatch would show of a variant: its metrics by the minute, and since the start."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from bench.events import EventLog

MINUTE_S = 60.0

KEPT = 1440
"""Closed periods of each metric that can be asked for: a day of minutes."""

MICROSECONDS, MILLISECONDS = "Microseconds", "Milliseconds"
A_SECOND = {MICROSECONDS: 1e6, MILLISECONDS: 1e3}
"""How many of the units that measure durations are one second."""

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class Statistic:
    """A metric's values in one period, as CloudWatch keeps them, and the last one."""

    total: float = 0.0
    count: int = 0
    least: float = inf
    most: float = -inf
    last: float = 0.0

    def add(self, value: float) -> None:
        """One value more."""
        self.total += value
        self.count += 1
        if value < self.least:  # min() and max() would be most of its cost
            self.least = value
        if value > self.most:
            self.most = value
        self.last = value

    def add_all(self, values: Sequence[float]) -> None:
        """Each of several."""
        if values:
            self.total += sum(values)
            self.count += len(values)
            self.least = min(self.least, *values)
            self.most = max(self.most, *values)
            self.last = values[-1]

    def figures(self) -> dict[str, float]:
        """All that CloudWatch tells of it, by its names; there must be a value."""
        return {
            "SampleCount": self.count,
            "Sum": self.total,
            "Average": self.total / self.count,
            "Minimum": self.least,
            "Maximum": self.most,
        }

    def merged(self, later: "Statistic | None") -> "Statistic":
        """Of both periods; ``later`` is the second one."""
        if later is None or not later.count:
            return self
        return Statistic(
            self.total + later.total,
            self.count + later.count,
            min(self.least, later.least),
            max(self.most, later.most),
            later.last,
        )


@dataclass
class Histogram:
    """Values since the start, counted by size; the last place holds those beyond the bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total: float = 0.0

    def add(self, value_s: float) -> None:
        """One value more."""
        self.counts[bisect_left(BUCKETS_S, value_s)] += 1
        self.total += value_s

    def add_all(self, values_s: Sequence[float]) -> None:
        """Each of several."""
        in_order, below = sorted(values_s), 0
        for place, bound in enumerate((*BUCKETS_S, inf)):
            upto = bisect_right(in_order, bound, below)
            self.counts[place] += upto - below
            below = upto
        self.total += sum(values_s)


class Pages:
    """The metrics of one variant. A minute is closed when the next one begins, or by `close`."""

    namespace = "AWS/SageMaker"
    """Whose names and units they have."""
    dimensions: tuple[str, ...] = ("EndpointName", "VariantName")
    """What tells those of the same name apart: the endpoint's name and, if there is a second, the
    variant's."""
    gauges: Collection[str] = ()
    """Metrics that tell how something stands."""
    endpoint_wide: Collection[str] = ()
    """Metrics without a variant."""

    def __init__(
        self, endpoint: str, variant: str, log: EventLog, units: Mapping[str, str]
    ) -> None:
        self.endpoint = endpoint
        self.variant = variant
        self.units = units
        self._histograms = {name: Histogram() for name, unit in units.items() if unit in A_SECOND}
        self._log = log
        self._minute: dict[str, Statistic] = {}
        self._minute_s = 0.0
        self._past: dict[str, Statistic] = {}
        self._closed: dict[str, deque[tuple[float, Statistic]]] = {}

    def add(self, name: str, value: float, now_s: float) -> None:
        """A value in the metric's own unit; a duration goes into its histogram, too."""
        self._turn(now_s)
        self._add(name, value)
        if (histogram := self._histograms.get(name)) is not None:
            histogram.add(value / A_SECOND[self.units[name]])

    def histogram(self, name: str) -> Histogram:
        """The metric since the start, by size; KeyError for one that is no duration."""
        self._put_down()
        return self._histograms[name]

    def whole(self, name: str) -> Statistic:
        """The metric since the start."""
        self._put_down()
        return self._past.get(name, Statistic()).merged(self._minute.get(name))

    def periods(self, name: str) -> list[tuple[float, Statistic]]:
        """When each period began, and what it holds, oldest first; the last may still be open."""
        self._put_down()
        found = list(self._closed.get(name, ()))
        if (minute := self._minute.get(name)) is not None:
            found.append((self._minute_s, minute))
        return found

    def standing(self, name: str) -> float:
        """What a gauge shows now."""
        return self.whole(name).last

    def variant_of(self, name: str) -> str:
        """The metric's variant; none where it is the endpoint's."""
        return "" if name in self.endpoint_wide else self.variant

    def close(self) -> None:
        """Write the periods that are not yet full."""
        self._put_down()
        self._write_minute()

    def _put_down(self) -> None:
        """Add what has been gathered: called before anything is read."""

    def _add(self, name: str, value: float) -> None:
        self._of_minute(name).add(value)

    def _of_minute(self, name: str) -> Statistic:
        statistic = self._minute.get(name)
        if statistic is None:
            statistic = self._minute[name] = Statistic()
        return statistic

    def _turn(self, now_s: float) -> None:
        if now_s >= self._minute_s + MINUTE_S:
            self._write_minute()
            self._minute_s = now_s // MINUTE_S * MINUTE_S

    def _write_minute(self) -> None:
        for name, statistic in self._minute.items():
            self._write(name, (self._minute_s, MINUTE_S), statistic)
            self._past[name] = self._past.get(name, Statistic()).merged(statistic)
        self._minute = {}

    def _write(self, name: str, period: tuple[float, float], statistic: Statistic) -> None:
        begin_s, period_s = period
        self._closed.setdefault(name, deque(maxlen=KEPT)).append((begin_s, statistic))
        self._log.write(
            name,
            begin_s,
            period_s=period_s,
            endpoint=self.endpoint,
            variant=self.variant_of(name),
            unit=self.units[name],
            sum=statistic.total,
            count=statistic.count,
            min=statistic.least,
            max=statistic.most,
        )
