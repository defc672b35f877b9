"""The same traffic on one option at several settings: which of them is best for the objective."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bench.errors import ConfigError
from bench.run import Run
from bench.workload import Workload
from reports.costs import Prices, cost_of, read_prices
from reports.doubts import Doubt
from reports.option import INVALID, MEETS, UNDECIDED, Option, Standing, judge
from reports.summary import summarise
from reports.words import mode, quantile, seconds, share, usd

NAMES = {
    "memory_mb": "memory size",
    "max_concurrency": "concurrency limit",
    "provisioned_concurrency": "provisioned concurrency",
}


@dataclass(frozen=True)
class Size:
    """One value of the setting, measured and judged."""

    value: int
    label: str
    option: Option
    standing: Standing

    @property
    def latency_s(self) -> float | None:
        """The latency within which the objective's share was answered; cold starts included."""
        return self.option.summary.within.quantile_s


@dataclass(frozen=True)
class SweepReport:
    """All sizes, and the best of them."""

    workload: Workload
    mode: str
    key: str
    sizes: tuple[Size, ...]
    best: Size | None
    headline: str
    because: str
    prices: Prices

    @property
    def name(self) -> str:
        """The setting in words."""
        return NAMES.get(self.key, self.key)

    @property
    def valid(self) -> bool:
        return all(size.standing.verdict != INVALID for size in self.sizes)

    @property
    def met(self) -> bool:
        return any(size.standing.verdict in (MEETS, UNDECIDED) for size in self.sizes)

    @property
    def doubts(self) -> list[tuple[str, Doubt]]:
        """Each size's doubts; what all share is said once, under no name."""
        every = [(size.label, doubt) for size in self.sizes for doubt in size.option.summary.doubts]
        of = {doubt: [label for label, each in every if each == doubt] for _, doubt in every}
        return [
            ("" if len(labels) == len(self.sizes) else ", ".join(labels), doubt)
            for doubt, labels in of.items()
        ]


def make_sweep(
    key: str, runs: Sequence[tuple[int, Run]], prices: Prices | None = None
) -> SweepReport:
    """The report on ``runs``, one for each value of the setting ``key``."""
    if not runs:
        raise ConfigError("A sweep's report needs at least one run. Measure again.")
    table = prices or read_prices()
    workload = msgspec.convert(runs[0][1].manifest["workload"], Workload)
    sizes = tuple(_size(key, value, run, (workload, table)) for value, run in runs)
    best, headline, because = _best(key, sizes, workload)
    name = runs[0][1].mode
    return SweepReport(workload, name, key, sizes, best, headline, because, table)


def _size(key: str, value: int, run: Run, means: tuple[Workload, Prices]) -> Size:
    workload, prices = means
    summary = summarise(run)
    option = Option(run, summary, cost_of(run, summary, prices))
    label = f"{value:,} MB" if key == "memory_mb" else f"{value}"
    return Size(value, label, option, judge(option, workload))


def _best(key: str, sizes: Sequence[Size], workload: Workload) -> tuple[Size | None, str, str]:
    """The cheapest that meets the objective, with the sentence and the reason."""
    name, objective = NAMES.get(key, key), workload.objective
    needed = f"{share(objective.quantile)} within {seconds(objective.latency_s)}"
    meeting = [size for size in sizes if size.standing.verdict == MEETS]
    if meeting:
        best = min(meeting, key=_price)
        text = f"Best {name}: {best.label}. {_in_figures(best, workload)}"
        return best, text, _why(best, meeting)
    undecided = [size for size in sizes if size.standing.verdict == UNDECIDED]
    if undecided:
        likely = min(undecided, key=_price)
        text = f"Cannot tell yet: no {name} is proved to answer {needed}."
        return None, text, f"The cheapest that may is {likely.label}. {likely.standing.because}"
    near = max(sizes, key=lambda size: size.option.summary.within.share)
    text = f"No {name} answers {needed}."
    return None, text, f"{near.label} comes nearest: {near.standing.because}"


def _price(size: Size) -> tuple[float, float]:
    return size.option.cost.month_usd, size.latency_s or float("inf")


def _in_figures(size: Size, workload: Workload) -> str:
    q = quantile(workload.objective.quantile)
    return f"{q} {seconds(size.latency_s)}, {usd(size.option.cost.month_usd)} a month."


def _why(best: Size, meeting: Sequence[Size]) -> str:
    rest = [size for size in meeting if size is not best]
    text = "It is the cheapest that meets the objective, cold starts included."
    if not rest:
        return text + " No other does."
    fastest = min(meeting, key=lambda size: size.latency_s or float("inf"))
    if fastest is best:
        return text + " None that meets it is faster."
    more = fastest.option.cost.month_usd / max(best.option.cost.month_usd, 1e-12)
    return (
        f"{text} The fastest is {fastest.label}: {seconds(fastest.latency_s)} for "
        f"{more:.2g} times the cost."
    )


def table(report: SweepReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows, one a size."""
    q = quantile(report.workload.objective.quantile)
    head = (report.name, "objective", "in time", "p50", q, "cold", "cold p50", "month")
    rows: list[tuple[str, ...]] = []
    for size in report.sizes:
        summary, cost = size.option.summary, size.option.cost
        rows.append(
            (
                size.label + (" ←" if size is report.best else ""),
                size.standing.verdict,
                share(summary.within.share),
                seconds(summary.latency_s.at(0.5)),
                seconds(size.latency_s),
                share(summary.cold.share),
                seconds(summary.cold.unhindered_s.at(0.5)),
                usd(cost.month_usd),
            )
        )
    return head, rows


def answer(report: SweepReport) -> dict[str, Any]:
    """The same for programs."""
    return {
        "mode": report.mode,
        "key": report.key,
        "best": report.best.value if report.best else None,
        "headline": report.headline,
        "because": report.because,
        "sizes": [
            {
                "value": size.value,
                "verdict": size.standing.verdict,
                "because": size.standing.because,
                "latency_s": size.latency_s,
                "p50_s": size.option.summary.latency_s.at(0.5),
                "cold_share": size.option.summary.cold.share,
                "month_usd": size.option.cost.month_usd,
                "run": str(size.option.run.folder),
            }
            for size in report.sizes
        ],
    }


def title(report: SweepReport) -> str:
    """What was done, in a sentence."""
    name = mode(report.mode)
    return f"{report.workload.title}: {name.capitalize()} by {report.name}"
