"""Runs side by side: models, sizes, options or days, each figure with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.run import Run
from bench.workload import Workload
from reports.costs import Prices, cost_of
from reports.drawn import Drawn, both, frames, sentence
from reports.option import MEETS, Option, Standing, judge
from reports.ranks import rank_interval
from reports.rows import ICONS
from reports.sheet import Part, Sheet, Value, clipped
from reports.styles import INK, colour_of, marker_of
from reports.summary import summarise
from reports.svg import Frame
from reports.words import count, mode, quantile, seconds, share, significant, usd

QUANTILES = (0.5, 0.95, 0.99)
_NAME = 34
_ALWAYS_TOLD = ("instance_type", "memory_mb")


@dataclass(frozen=True)
class Estimate:
    """A quantile of the latency with its 95 % interval within the run."""

    q: float
    value_s: float | None
    low_s: float
    high_s: float
    supported: bool


@dataclass(frozen=True)
class Column:
    """One run of a comparison."""

    name: str
    run: str
    mode: str
    started_at: str
    model: str
    workload: str
    machine: str
    settings: str  # what it runs on, and what differs from other runs of the same option
    standing: Standing
    share_in_time: tuple[float, float, float]  # measured, low, high
    latency: tuple[Estimate, ...]
    cold_share: float
    error_rate: float
    month_usd: float
    answered: int


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; the first is what the others are held against."""

    columns: tuple[Column, ...]
    doubts: tuple[str, ...]


def compare(runs: Sequence[Run], prices: Prices) -> Comparison:
    """Every run of ``runs`` judged by its own objective, in the order given."""
    told = [_telling(run, runs) for run in runs]
    columns = tuple(
        _column(run, prices, (name, settings))
        for run, name, settings in zip(runs, names(runs), told, strict=True)
    )
    return Comparison(columns, _doubts(columns))


def names(runs: Sequence[Run]) -> list[str]:
    """A short name for each run that tells it from the others."""
    shorts = [run.folder.resolve() for run in runs]
    found = [f"{folder.parent.name}/{folder.name}" for folder in shorts]
    return [f"{i}. {name}" for i, name in enumerate(found, 1)]


def _telling(run: Run, runs: Sequence[Run]) -> str:
    """The settings by which one knows ``run``: what it runs on, and what others of it differ in."""
    targets = [each.manifest["target"] for each in runs if each.mode == run.mode]
    mine = run.manifest["target"]
    keys = [
        key
        for key in sorted(mine)
        if key not in ("mode", "profile")
        and (key in _ALWAYS_TOLD or any(each.get(key) != mine[key] for each in targets))
    ]
    return ", ".join(f"{key} {mine[key]}" for key in keys)


def _column(run: Run, prices: Prices, told: tuple[str, str]) -> Column:
    name, settings = told
    summary = summarise(run)
    option = Option(run, summary, cost_of(run, summary, prices))
    workload = msgspec.convert(run.manifest["workload"], Workload)
    steady = option.timing.due_s >= summary.warm_up.until_s
    latency = option.timing.latency_s[option.timing.answered & steady]
    return Column(
        name=name,
        run=str(run.folder),
        mode=run.mode,
        started_at=str(run.manifest.get("started_at", "")),
        model=str(run.manifest.get("model", {}).get("name", "")),
        workload=workload.name,
        machine=str(run.manifest.get("machine", {}).get("fingerprint", "")),
        settings=settings,
        standing=judge(option, workload),
        share_in_time=(summary.within.share, summary.within.low, summary.within.high),
        latency=tuple(_estimate(latency, q, summary.latency_s.supports(q)) for q in QUANTILES),
        cold_share=summary.cold.share,
        error_rate=summary.error_rate,
        month_usd=option.cost.month_usd,
        answered=summary.answered,
    )


def _estimate(latency: "np.typing.NDArray[np.float64]", q: float, supported: bool) -> Estimate:
    if not len(latency):
        return Estimate(q, None, 0.0, 0.0, False)
    value = float(np.quantile(latency, q, method="inverted_cdf"))
    return Estimate(q, value, *rank_interval(latency, q), supported)


def _doubts(columns: Sequence[Column]) -> tuple[str, ...]:
    found = []
    if len({column.machine for column in columns}) > 1:
        found.append("The runs were measured on different machines: their times do not compare.")
    if len({column.workload for column in columns}) > 1:
        found.append("The runs have different workloads: each is judged by its own objective.")
    invalid = [column.name for column in columns if column.standing.verdict == "invalid"]
    if invalid:
        found.append(f"Invalid, not slow: {clipped(', '.join(invalid))}.")
    found.append(
        "Each interval is of its own run. Runs at other moments differ by more than that even "
        "where nothing changed, so a small difference here proves nothing."
    )
    return tuple(found)


def sheet(found: Comparison) -> Sheet:
    """The comparison as a page."""
    return Sheet(
        kind="Comparison",
        title=f"{len(found.columns)} runs side by side",
        facts=_lead(found.columns),
        parts=(
            _table(found),
            Part("latency", "Latency", figures=(_forest(found),)),
        ),
        doubts=found.doubts,
    )


def _lead(columns: Sequence[Column]) -> str:
    """Which of the runs is best, where they can be held against each other."""
    meeting = [each for each in columns if each.standing.verdict == MEETS]
    text = f"{len(meeting)} of {len(columns)} met the objective."
    alike = len({(each.workload, each.machine) for each in columns}) == 1
    fast = [(each.latency[1].value_s, each) for each in meeting if each.latency[1].value_s]
    if not (alike and fast):
        return text
    cheapest = min(meeting, key=lambda each: each.month_usd)
    fastest = min(fast, key=lambda pair: pair[0] or 0.0)[1]
    text += f" The cheapest of them is {clipped(cheapest.name)}: {usd(cheapest.month_usd)} a month."
    if fastest is cheapest:
        return f"{text} None of them is faster at p95: {seconds(fastest.latency[1].value_s)}."
    return (
        f"{text} The fastest at p95 is {clipped(fastest.name)}: "
        f"{seconds(fastest.latency[1].value_s)} for {usd(fastest.month_usd)} a month."
    )


def _table(found: Comparison) -> Part:
    head = ("Run", "Option", "Objective", "In time", *map(quantile, QUANTILES))
    rows = []
    for column in found.columns:
        now, low, high = column.share_in_time
        verdict = column.standing.verdict
        rows.append(
            (
                Value(clipped(column.name)),
                Value(mode(column.mode), clipped(column.settings)),
                Value(ICONS[verdict], kind=verdict),
                Value(share(now), f"{share(low)} to {share(high)}"),
                *(_cell(each, found.columns[0], column.workload) for each in column.latency),
                Value(share(column.cold_share)),
                Value(share(column.error_rate)),
                Value(usd(column.month_usd)),
                Value(clipped(column.model), f"{column.started_at[:16]}, {column.workload}"),
            )
        )
    return Part(
        slug="runs",
        title="The runs",
        caption="Measured, with 95 % intervals within each run; cost modelled. The ratio is to "
        "the first run of the same workload. A star: too few requests support the percentile.",
        head=(*head, "Cold", "Failed", "A month", "Model"),
        rows=tuple(rows),
    )


def _cell(each: Estimate, first: Column, workload: str) -> Value:
    base = next(other for other in first.latency if other.q == each.q)
    if each.value_s is None:
        return Value("–")  # noqa: RUF001 - an en dash is the usual mark for an empty cell
    note = f"{seconds(each.low_s)} to {seconds(each.high_s)}"
    if each is not base and base.value_s and workload == first.workload:
        ratio = each.value_s / base.value_s
        note += f"; × {ratio:.2f}" if ratio > 0.1 else f"; × {significant(ratio, 2)}"  # noqa: RUF001 - the sign for times
    return Value(seconds(each.value_s) + ("" if each.supported else " *"), note)


def _forest(found: Comparison) -> Drawn:
    parts = [
        f"{clipped(column.name)} ({count(column.answered)} answers): "
        + ", ".join(f"{quantile(each.q)} {seconds(each.value_s)}" for each in column.latency)
        for column in found.columns
    ]
    height = 60 + 34 * len(found.columns)
    return Drawn(
        slug="forest",
        title="Latency of each run",
        basis="measured, with modelled placement in cold starts",
        svg=both(("forest", "Latency of each run"), _draw, found.columns, parts, frames(height)),
        how_to_read=(
            "Each row is a run; from left to right p50, p95 and p99, each with its 95 % interval "
            "within the run. Marks that lie apart by more than their intervals may still be noise "
            "between runs. A star in the table marks a percentile that too few requests support."
        ),
        shows=sentence(parts),
    )


def _draw(figure: Figure, frame: Frame, columns: Sequence[Column]) -> None:
    axes = figure.add_subplot()
    place = np.arange(len(columns))[::-1].astype(float)
    known = [e for c in columns for e in c.latency if e.value_s]
    for at, column in zip(place, columns, strict=True):
        for offset, each in zip((0.16, 0.0, -0.16), column.latency, strict=True):
            if each.value_s is None:
                continue
            colour = colour_of(column.mode)
            axes.plot([each.low_s, each.high_s], [at + offset] * 2, color=colour, lw=1.4)
            axes.plot(each.value_s, at + offset, marker_of(column.mode), color=colour, ms=5)
    labels = [f"{i}" for i in range(1, len(columns) + 1)]
    if not frame.narrow:
        labels = [
            column.name if len(column.name) <= _NAME else f"…{column.name[-_NAME:]}"
            for column in columns
        ]
    axes.set_yticks(place, labels)
    axes.set(xscale="log", ylim=(-0.6, len(columns) - 0.4))
    if known:
        axes.set_xlim(min(e.low_s for e in known) / 1.3, max(e.high_s for e in known) * 1.3)
    axes.xaxis.set_major_locator(LogLocator(numticks=4 if frame.narrow else 8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color=INK)
    axes.set_xlabel("latency")
