"""One measured option: whether it met the objective, missed it, or cannot be told yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.run import Run
from bench.workload import Workload
from reports.bill import Cost
from reports.bounds import Bound, Demand, bounds, excluded
from reports.costs import is_dataset
from reports.summary import Summary, wilson
from reports.timing import Floats, Timing, timing_of
from reports.words import count, seconds, share

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
        """``realtime``, ``serverless``, ``async``, ``batch`` or another target's name."""
        return self.run.mode

    @property
    def largest_payload_bytes(self) -> float:
        """The largest body that was sent."""
        return float(self.run.manifest["payload"]["largest_bytes"])

    @cached_property
    def memory_bytes(self) -> float | None:
        """The most memory that one instance held, its front end included; None: not sampled."""
        if not (self.run.folder / "samples.parquet").exists():
            return None
        samples = self.run.samples()
        each = samples["server_rss_bytes"] / samples["instances"].clip(lower=1)
        most = float(np.nanmax(each.to_numpy(np.float64), initial=0.0))
        return most or None

    @property
    def period(self) -> str:
        """What one bill covers, in words."""
        return "the dataset" if is_dataset(self.run) else seconds(self.summary.simulated_s)

    @cached_property
    def timing(self) -> Timing:
        """When each request was due and where its time went, read once."""
        return timing_of(self.run)

    @property
    def model_seconds(self) -> Floats:
        """The model time of each request that has one."""
        return self.timing.model_s[self.timing.model_s > 0]

    @property
    def cold_seconds(self) -> Floats:
        """The latency of each answered cold start, without the wait for this machine."""
        timing = self.timing
        chosen = timing.cold & timing.answered
        return timing.latency_s[chosen] - timing.wait_s[chosen]

    @property
    def completed_s(self) -> float | None:
        """When the last request was done, from the first that was due; None without answers."""
        return self.summary.completed_s

    def bounds(self, demand: Demand) -> tuple[Bound, ...]:
        """The option's limits as its run held to them, against ``demand``."""
        return bounds(self.mode, demand, self.run.manifest.get("profile", []))


def demand_of(options: Sequence[Option]) -> Demand:
    """What the traffic asked of the options, each thing as measured."""
    processing = [o.summary.model_s.at(0.99) for o in options if o.mode != "batch"]
    processing = processing or [o.summary.model_s.at(0.99) for o in options]
    known_s = [each for each in processing if each is not None]
    memory = [each for each in (option.memory_bytes for option in options) if each is not None]
    return Demand(
        payload_bytes=max((option.largest_payload_bytes for option in options), default=0.0),
        processing_s=max(known_s, default=None),
        memory_bytes=min(memory, default=None),
    )


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
    refused = excluded(option.bounds(demand_of([option])))
    if refused:
        return Standing(option.mode, EXCLUDED, refused)
    summary, objective = option.summary, workload.objective
    if not summary.valid:
        reason = next(doubt.text for doubt in summary.doubts if doubt.invalid)
        return Standing(option.mode, INVALID, f"The measurement is invalid. {reason}")
    if summary.error_rate > objective.error_rate:
        text = f"{share(summary.error_rate)} failed; {share(objective.error_rate)} may."
        return Standing(option.mode, MISSES, text)
    late = objective.completion_s
    if late is not None and (summary.completed_s is None or summary.completed_s > late):
        text = f"The work took {seconds(summary.completed_s)}; {seconds(late)} may pass."
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
