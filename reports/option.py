"""One measured option: whether it met the objective, missed it, or cannot be told yet."""

from dataclasses import dataclass

from bench.run import Run
from bench.workload import Workload
from reports.costs import Cost
from reports.summary import Summary, wilson
from reports.words import count, mode, seconds, share, size

PROCESSING_LIMIT_S = 60.0
PAYLOAD_LIMIT_BYTES = {"serverless": 4 * 2.0**20, "realtime": 25 * 2.0**20}
"""AWS's limits, where a run's profile does not hold them. For real-time the API says 6 MiB."""

MOST_MORE_REQUESTS = 10_000_000

MEETS, MISSES, UNDECIDED = "meets", "misses", "undecided"
INVALID, EXCLUDED = "invalid", "excluded"


@dataclass(frozen=True)
class Option:
    """A run with what was made from it."""

    run: Run
    summary: Summary
    cost: Cost

    @property
    def mode(self) -> str:
        """``realtime`` or ``serverless``."""
        return self.run.mode

    @property
    def payload_limit_bytes(self) -> float:
        """The largest body that the option takes."""
        return self._setting("payload_max_bytes", PAYLOAD_LIMIT_BYTES[self.mode])

    @property
    def processing_limit_s(self) -> float:
        """The longest that the option waits for the model."""
        return self._setting("invocation_timeout_s", PROCESSING_LIMIT_S)

    def _setting(self, name: str, default: float) -> float:
        profile = self.run.manifest.get("profile", [])
        return next((float(item["value"]) for item in profile if item["name"] == name), default)

    @property
    def largest_payload_bytes(self) -> float:
        """The largest body that was sent."""
        return float(self.run.manifest["payload"]["largest_bytes"])


@dataclass(frozen=True)
class Standing:
    """What the measurement says about one option."""

    mode: str
    verdict: str  # meets, misses, undecided, invalid or excluded
    because: str
    more_requests: int | None = None
    """About how many more requests would decide; None when none are needed or none suffice."""


def judge(option: Option, workload: Workload) -> Standing:
    """Whether ``option`` meets the objective of ``workload``, with what certainty."""
    excluded = _excluded(option)
    if excluded:
        return Standing(option.mode, EXCLUDED, excluded)
    summary, objective = option.summary, workload.objective
    if not summary.valid:
        reason = next(doubt.text for doubt in summary.doubts if doubt.invalid)
        return Standing(option.mode, INVALID, f"The measurement is invalid. {reason}")
    if summary.error_rate > objective.error_rate:
        text = f"{share(summary.error_rate)} failed; {share(objective.error_rate)} may."
        return Standing(option.mode, MISSES, text)
    within = summary.within
    interval = f"{share(within.low)} to {share(within.high)}"
    text = (
        f"{share(within.share)} answered within {seconds(objective.latency_s)} "
        f"(95 % interval {interval}); {share(objective.quantile)} needed."
    )
    if within.low >= objective.quantile:
        return Standing(option.mode, MEETS, text)
    if within.high < objective.quantile:
        return Standing(option.mode, MISSES, text)
    more = more_requests(within.share, within.of, objective.quantile)
    return Standing(option.mode, UNDECIDED, text, more)


def more_requests(measured: float, of: int, needed: float) -> int | None:
    """About how many more requests take ``needed`` out of the interval around ``measured``.

    None when even very many would not, because the two are too close.
    """
    low, high = of, max(of, 1)
    while not _decided(measured, high, needed):
        low, high = high, high * 2
        if high > MOST_MORE_REQUESTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _decided(measured, middle, needed) else (middle, high)
    return high - of


def more_in_words(more: int | None) -> str:
    """How many more requests would decide, as the end of a sentence."""
    if more is None:
        return "the share lies too close to the objective for more requests to settle it"
    rounded = round(more, -max(0, len(str(more)) - 2))
    return f"about {count(max(1, rounded))} more requests would decide it"


def _decided(measured: float, of: int, needed: float) -> bool:
    low, high = wilson(round(measured * of), of)
    return low >= needed or high < needed


def _excluded(option: Option) -> str | None:
    limit = option.payload_limit_bytes
    if option.largest_payload_bytes > limit:
        return (
            f"The largest payload is {size(option.largest_payload_bytes)}; "
            f"{mode(option.mode)} takes {size(limit)}."
        )
    longest = option.summary.model_s.at(0.99)
    if longest is not None and longest > option.processing_limit_s:
        return (
            f"Processing takes {seconds(longest)} at p99; "
            f"{mode(option.mode)} allows {seconds(option.processing_limit_s)}."
        )
    return None
