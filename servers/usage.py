"""The metrics that a serverless endpoint publishes, with CloudWatch's names and units."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.events import EventLog
from servers.pages import MICROSECONDS, Pages
from servers.wire import VARIANT

THROTTLES = "Throttles"

UNITS = {
    "Invocations": "None",
    "Invocation4XXErrors": "None",
    "Invocation5XXErrors": "None",
    "ModelLatency": MICROSECONDS,
    "OverheadLatency": MICROSECONDS,
    "ModelSetupTime": MICROSECONDS,
    "MemoryUtilization": "Percent",
    "ServerlessConcurrentExecutionsUtilization": "None",
    "ServerlessProvisionedConcurrencyExecutions": "Count",
    "ServerlessProvisionedConcurrencyUtilization": "None",
    "ServerlessProvisionedConcurrencyInvocations": "Count",
    "ServerlessProvisionedConcurrencySpilloverInvocations": "Count",
    THROTTLES: "Count",
}
"""Every metric that AWS lists for serverless endpoints, and Throttles, which is AWS Lambda's."""

_SCALE = 1e6


class UsagePages(Pages):
    """The metrics of the one variant."""

    gauges = (
        "MemoryUtilization",
        "ServerlessConcurrentExecutionsUtilization",
        "ServerlessProvisionedConcurrencyExecutions",
        "ServerlessProvisionedConcurrencyUtilization",
    )


class Usage:
    """Counts what happens at one endpoint since it was opened."""

    def __init__(self, endpoint: str, log: EventLog, now: Callable[[], float]) -> None:
        self.pages = UsagePages(endpoint, VARIANT, log, UNITS)
        self._now = now

    def add(self, name: str, value: float) -> None:
        self.pages.add(name, value, self._now())

    def throttled(self) -> None:
        """A request was refused because too many were open."""
        self.add(THROTTLES, 1)

    def concurrency(self, busy: int, limit: int) -> None:
        """So many requests are open now, of so many that may be."""
        self.add("ServerlessConcurrentExecutionsUtilization", busy / limit)

    def provisioned(self, busy: int, units: int) -> None:
        """So many of the provisioned environments are at work now."""
        self.add("ServerlessProvisionedConcurrencyExecutions", busy)
        self.add("ServerlessProvisionedConcurrencyUtilization", busy / units if units else 0.0)

    def served(self, total_s: float, model_s: float, setup_s: float | None) -> None:
        """A request was answered; ``setup_s`` is what its cold start took, if it had one."""
        self.add("ModelLatency", model_s * _SCALE)
        self.add("OverheadLatency", (total_s - model_s) * _SCALE)
        if setup_s is not None:
            self.add("ModelSetupTime", setup_s * _SCALE)

    @contextmanager
    def invocation(self) -> Iterator[None]:
        """Counts one request, and its error by the status of ``error.status`` if it has one."""
        self.add("Invocations", 1)
        status = 200
        try:
            yield
        except Exception as error:
            answered = getattr(error, "fields", {}).get("OriginalStatusCode") or 500
            status = int(answered) if getattr(error, "code", "") == "ModelError" else 200
            raise
        finally:
            self.add("Invocation4XXErrors", float(400 <= status < 500))
            self.add("Invocation5XXErrors", float(status >= 500))

    def statistics(self) -> dict[str, dict[str, object]]:
        """Every metric that has a value, by name, as CloudWatch names what it keeps of it."""
        found = {name: self.pages.whole(name) for name in UNITS}
        return {
            name: {
                "Unit": UNITS[name],
                "SampleCount": each.count,
                "Sum": each.total,
                "Average": each.total / each.count,
                "Minimum": each.least,
                "Maximum": each.most,
            }
            for name, each in found.items()
            if each.count
        }
