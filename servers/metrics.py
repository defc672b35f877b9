"""The metrics of a real-time variant, with the names and units of ``AWS/SageMaker``."""

from dataclasses import dataclass

from bench.events import EventLog
from servers.pages import MICROSECONDS, Pages, Statistic

FAST_S = 10.0
"""Resolution of ConcurrentRequestsPerModel."""
CONCURRENT = "ConcurrentRequestsPerModel"

COUNT = "None"

GATHERED = 256
"""So many values are put down together, which is less work than one by one."""

UNITS = {
    "Invocations": COUNT,
    "InvocationsPerInstance": COUNT,
    CONCURRENT: COUNT,
    "Invocation4XXErrors": COUNT,
    "Invocation5XXErrors": COUNT,
    "InvocationModelErrors": COUNT,
    "ModelLatency": MICROSECONDS,
    "OverheadLatency": MICROSECONDS,
    "MidStreamErrors": COUNT,
}


@dataclass(slots=True)
class Outcome:
    """How a request ended; filled in on the way."""

    began_s: float
    """When it came, on the clock."""
    model_s: float | None = None
    """None: the model was not reached."""
    status: int = 200
    """The container's; 0: it gave none that could be read."""
    broke_off: bool = False
    """The answer ended after its first bytes had left."""


class Book(Pages):
    """The metrics of one variant. Periods are closed when the next one begins, or by `close`."""

    gauges = (CONCURRENT,)

    def __init__(self, endpoint: str, variant: str, log: EventLog) -> None:
        super().__init__(endpoint, variant, log, UNITS)
        self.in_flight = 0
        self.peak = 0
        """Most in flight since it was last read by whoever follows it."""
        self._fast = Statistic()
        self._fast_s = 0.0
        self._until_s = 0.0
        """When the next period begins."""
        self._levels: list[float] = []
        """What `in_flight` was, after each request that came or ended."""
        self._shares: list[float] = []
        """Of each request that came, how much of it is an instance's."""
        self._model_s: list[float] = []
        """Of each that was answered; so the next two."""
        self._overhead_s: list[float] = []
        self._statuses: list[int] = []

    def begin(self, now_s: float, active: int) -> None:
        """A request has come; ``active`` instances share the load."""
        if now_s >= self._until_s:
            self._turn(now_s)
        self.in_flight += 1
        if self.in_flight > self.peak:
            self.peak = self.in_flight
        self._levels.append(self.in_flight)
        self._shares.append(1.0 / active if active else 1.0)
        if len(self._shares) >= GATHERED:
            self._put_down()

    def end(self, now_s: float, outcome: Outcome) -> None:
        """It has been answered, or has failed."""
        if now_s >= self._until_s:
            self._turn(now_s)
        self.in_flight -= 1
        self._levels.append(self.in_flight)
        model_s = outcome.model_s
        if model_s is None:
            return
        overhead_s = now_s - outcome.began_s - model_s
        self._model_s.append(model_s)
        self._overhead_s.append(overhead_s if overhead_s > 0.0 else 0.0)
        self._statuses.append(outcome.status)
        if outcome.broke_off:
            self._add("MidStreamErrors", 1.0)

    def read_peak(self) -> int:
        """Most in flight since the last reading."""
        peak, self.peak = self.peak, self.in_flight
        return peak

    def periods(self, name: str) -> list[tuple[float, Statistic]]:
        """As of any, with those of ten seconds."""
        found = super().periods(name)
        if name == CONCURRENT and self._fast.count:
            found.append((self._fast_s, self._fast))
        return found

    def standing(self, name: str) -> float:
        """Of the one gauge that there is."""
        del name
        return self.in_flight

    def close(self) -> None:
        """Write the periods that are not yet full."""
        super().close()
        self._write_fast()

    def _put_down(self) -> None:
        if self._levels:
            self._fast.add_all(self._levels)
            self._levels.clear()
        if self._shares:
            self._of_minute("Invocations").add_all([1.0] * len(self._shares))
            self._of_minute("InvocationsPerInstance").add_all(self._shares)
            self._shares.clear()
        statuses = self._statuses
        if statuses:
            self._put_spans("ModelLatency", self._model_s)
            self._put_spans("OverheadLatency", self._overhead_s)
            self._put_flags("Invocation4XXErrors", [400 <= status < 500 for status in statuses])
            self._put_flags("Invocation5XXErrors", [status >= 500 for status in statuses])
            failed = [not 200 <= status < 300 for status in statuses]
            self._put_flags("InvocationModelErrors", failed)
            statuses.clear()

    def _put_spans(self, name: str, spans_s: list[float]) -> None:
        self._of_minute(name).add_all([span_s * 1e6 for span_s in spans_s])
        self._histograms[name].add_all(spans_s)
        spans_s.clear()

    def _put_flags(self, name: str, flags: list[bool]) -> None:
        self._of_minute(name).add_all([float(flag) for flag in flags])

    def _turn(self, now_s: float) -> None:
        self._put_down()
        super()._turn(now_s)
        if now_s >= self._fast_s + FAST_S:
            self._write_fast()
            self._fast_s = now_s // FAST_S * FAST_S
            if self.in_flight:
                self._fast.add(self.in_flight)
        self._until_s = self._fast_s + FAST_S  # which is a part of a minute

    def _write_fast(self) -> None:
        if self._fast.count:
            self._write(CONCURRENT, (self._fast_s, FAST_S), self._fast)
        self._fast = Statistic()
