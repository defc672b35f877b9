"""The metrics of a real-time variant, with the names and units of ``AWS/SageMaker``."""

from dataclasses import dataclass

from bench.events import EventLog
from servers.pages import MICROSECONDS, Pages, Statistic

FAST_S = 10.0
"""Resolution of ConcurrentRequestsPerModel."""
CONCURRENT = "ConcurrentRequestsPerModel"

COUNT = "None"

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


@dataclass
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
        self._model = self.histograms["ModelLatency"]
        self._overhead = self.histograms["OverheadLatency"]
        self._fast = Statistic()
        self._fast_s = 0.0

    def begin(self, now_s: float, active: int) -> None:
        """A request has come; ``active`` instances share the load."""
        self._turn(now_s)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self._fast.add(self.in_flight)
        self._add("Invocations", 1.0)
        self._add("InvocationsPerInstance", 1.0 / max(1, active))

    def end(self, now_s: float, outcome: Outcome) -> None:
        """It has been answered, or has failed."""
        self._turn(now_s)
        self.in_flight -= 1
        self._fast.add(self.in_flight)
        if outcome.model_s is None:
            return
        status = outcome.status
        overhead_s = max(0.0, now_s - outcome.began_s - outcome.model_s)
        self._add("ModelLatency", outcome.model_s * 1e6)
        self._add("OverheadLatency", overhead_s * 1e6)
        self._add("Invocation4XXErrors", float(400 <= status < 500))
        self._add("Invocation5XXErrors", float(status >= 500))
        self._add("InvocationModelErrors", float(not 200 <= status < 300))
        if outcome.broke_off:
            self._add("MidStreamErrors", 1.0)
        self._model.add(outcome.model_s)
        self._overhead.add(overhead_s)

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

    def _turn(self, now_s: float) -> None:
        super()._turn(now_s)
        if now_s >= self._fast_s + FAST_S:
            self._write_fast()
            self._fast_s = now_s // FAST_S * FAST_S
            if self.in_flight:
                self._fast.add(self.in_flight)

    def _write_fast(self) -> None:
        if self._fast.count:
            self._write(CONCURRENT, (self._fast_s, FAST_S), self._fast)
        self._fast = Statistic()
