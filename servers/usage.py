"""What a serverless endpoint publishes: its figures under the names that the profile gives them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.events import EventLog
from servers.pages import A_SECOND, Pages
from servers.profile import Cloudwatch, Figure
from servers.wire import VARIANT

GAUGES: tuple[Figure, ...] = (
    "memory_share",
    "busy",
    "busy_share",
    "provisioned_busy",
    "provisioned_share",
)
"""Figures that tell how something stands."""

SCALES = {**A_SECOND, "Percent": 100.0}
"""How many of a unit are one second, or the whole of a share; of any other it is 1."""


class UsagePages(Pages):
    """The metrics of the one variant, or of the function."""

    def __init__(self, endpoint: str, log: EventLog, shown: Cloudwatch) -> None:
        units = {name: metric.unit for name, metric in shown.metrics.items()}
        super().__init__(endpoint, VARIANT if "VariantName" in shown.dimensions else "", log, units)
        self.namespace = shown.namespace
        self.dimensions = tuple(shown.dimensions)
        self.gauges = [name for name, metric in shown.metrics.items() if metric.of in GAUGES]


class Usage:
    """Counts what happens at one endpoint since it was opened."""

    def __init__(
        self, endpoint: str, log: EventLog, now: Callable[[], float], shown: Cloudwatch
    ) -> None:
        self.pages = UsagePages(endpoint, log, shown)
        self._now = now
        self._shown: dict[Figure, list[tuple[str, float]]] = {}
        for name, metric in shown.metrics.items():
            scale = SCALES.get(metric.unit, 1.0)
            self._shown.setdefault(metric.of, []).append((name, scale))

    def add(self, figure: Figure, value: float = 1.0) -> None:
        """One value more, in seconds, as a share or as a count."""
        for name, scale in self._shown.get(figure, ()):
            self.pages.add(name, value * scale, self._now())

    def concurrency(self, busy: int, limit: int) -> None:
        """So many requests are open now, of so many that may be."""
        self.add("busy", busy)
        self.add("busy_share", busy / limit)

    def provisioned(self, busy: int, units: int) -> None:
        """So many of the provisioned environments are at work now."""
        self.add("provisioned_busy", busy)
        self.add("provisioned_share", busy / units if units else 0.0)

    def served(self, total_s: float, model_s: float, setup_s: float | None) -> None:
        """A request was answered; ``setup_s`` is what its cold start took, if it had one."""
        self.add("run_s", model_s)
        self.add("model_s", model_s)
        self.add("overhead_s", total_s - model_s)
        if setup_s is not None:
            self.add("setup_s", setup_s)

    @contextmanager
    def invocation(self) -> Iterator[None]:
        """Counts one request that is let in, and its error by the status that the model gave."""
        self.add("admitted")
        status = 200
        try:
            yield
        except Exception as error:
            answered = getattr(error, "fields", {}).get("OriginalStatusCode") or 500
            status = int(answered) if getattr(error, "code", "") == "ModelError" else 200
            raise
        finally:
            self.add("failed", float(status >= 400))
            self.add("failed_4xx", float(400 <= status < 500))
            self.add("failed_5xx", float(status >= 500))

    def statistics(self) -> dict[str, dict[str, object]]:
        """Every metric that has a value, by name, as CloudWatch names what it keeps of it."""
        found = {name: self.pages.whole(name) for name in self.pages.units}
        return {
            name: {"Unit": self.pages.units[name], **each.figures()}
            for name, each in found.items()
            if each.count
        }
