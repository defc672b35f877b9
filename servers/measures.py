"""The metrics that SageMaker publishes for asynchronous endpoints, with their units."""

from collections.abc import Callable
from typing import Any

from bench.events import EventLog
from servers.pages import A_SECOND, MICROSECONDS, MILLISECONDS, Pages
from servers.wire import VARIANT

UNITS = {
    "ApproximateBacklogSize": "Count",
    "ApproximateBacklogSizePerInstance": "Count",
    "ApproximateAgeOfOldestRequest": "Seconds",
    "HasBacklogWithoutCapacity": "Count",
    "RequestDownloadFailures": "Count",
    "ResponseUploadFailures": "Count",
    "NotificationFailures": "Count",
    "RequestDownloadLatency": MICROSECONDS,
    "ResponseUploadLatency": MICROSECONDS,
    "ExpiredRequests": "Count",
    "InvocationFailures": "Count",
    "InvocationsProcesssed": "Count",  # spelled so in the developer guide
    "TimeInBacklog": MILLISECONDS,
    "TotalProcessingTime": MILLISECONDS,
    "Invocation4XXErrors": "Count",
    "Invocation5XXErrors": "Count",
    "ModelLatency": MICROSECONDS,
}
GAUGES = (
    "ApproximateBacklogSize",
    "ApproximateBacklogSizePerInstance",
    "ApproximateAgeOfOldestRequest",
    "HasBacklogWithoutCapacity",
)


class MeasurePages(Pages):
    """The metrics of the one variant, and those of the endpoint."""

    gauges = GAUGES
    endpoint_wide = GAUGES


class Measures:
    """One endpoint's metrics."""

    def __init__(self, endpoint: str, log: EventLog, now: Callable[[], float]) -> None:
        self.pages = MeasurePages(endpoint, VARIANT, log, UNITS)
        self._now = now

    def count(self, name: str) -> None:
        """One more of something."""
        self.pages.add(name, 1.0, self._now())

    def took(self, name: str, seconds: float) -> None:
        """A time, kept in the metric's own unit."""
        self.pages.add(name, seconds * A_SECOND[UNITS[name]], self._now())

    def gauge(self, name: str, value: float) -> None:
        """How something stands at this moment."""
        self.pages.add(name, value, self._now())

    def value(self, name: str) -> float:
        """The sum of a counter, or what a gauge showed last."""
        whole = self.pages.whole(name)
        return whole.last if name in GAUGES else whole.total

    def described(self) -> dict[str, dict[str, Any]]:
        """Every metric by name: unit, number of samples, sum, extremes, the last value."""
        found = {name: self.pages.whole(name) for name in UNITS}
        return {
            name: {
                "unit": UNITS[name],
                "samples": each.count,
                "sum": round(each.total, 3),
                "minimum": round(each.least, 3) if each.count else 0.0,
                "maximum": round(each.most, 3) if each.count else 0.0,
                "last": round(each.last, 3),
            }
            for name, each in found.items()
        }
