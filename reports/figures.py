"""The figures of a page: each in two sizes, with how to read it and what it shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reports import plots
from reports.costs import break_even
from reports.report import Report
from reports.series import TAIL_REQUESTS, Series, series_of
from reports.svg import NARROW, WIDE, Frame, drawing, inline
from reports.words import count, mode, seconds, share, usd

_TITLES = {
    "percentiles": "Latency by percentile",
    "timeline": "Every request over the simulated time",
    "cold": "Where a cold start goes",
    "cost": "A month of this traffic",
    "volume": "Cost against volume",
}


@dataclass(frozen=True)
class Drawn:
    """One figure; ``svg`` is ready-made markup and holds no text of the user."""

    slug: str
    title: str
    basis: str  # measured, modelled or both
    svg: str
    how_to_read: str
    shows: str


def figures(report: Report) -> tuple[Drawn, ...]:
    """Every figure that the runs of ``report`` give data for, in the order of the page."""
    series = [series_of(option) for option in report.options]
    found = [_percentiles(report, series), _timeline(report, series), _cold(series)]
    return tuple(each for each in [*found, _bars(report), _curves(report)] if each)


def _percentiles(report: Report, series: Sequence[Series]) -> Drawn | None:
    if not any(len(one.sorted_s) for one in series):
        return None
    objective = report.workload.objective
    parts = []
    for option in report.options:
        just = option.summary.within.quantile_s
        reached = "never" if just is None else f"within {seconds(just)}"
        parts.append(f"{mode(option.mode)} answers {share(objective.quantile)} {reached}")
    return Drawn(
        slug="percentiles",
        title=_TITLES["percentiles"],
        basis="measured, with modelled placement in cold starts",
        svg=_both("percentiles", plots.percentiles, (series, objective), parts),
        how_to_read=(
            "Each curve gives the latency that a share of the answered requests did not exceed; "
            "the right part is stretched to show the slowest ones. It passes the objective where "
            "it runs below the diamond. Dotted: "
            f"fewer than {TAIL_REQUESTS} requests decide."
        ),
        shows=_sentence(parts) + _left_out(report),
    )


def _timeline(report: Report, series: Sequence[Series]) -> Drawn | None:
    if not any(len(one.dots.due_s) for one in series):
        return None
    parts = [
        f"{mode(option.mode)}: {count(option.summary.cold.count)} cold starts and "
        f"{count(option.summary.failed)} failures in {count(one.dots.of)} requests"
        for option, one in zip(report.options, series, strict=True)
    ]
    fewer = [one for one in series if len(one.dots.due_s) < one.dots.of]
    thinned = (
        f" Drawn are {' and '.join(count(len(one.dots.due_s)) for one in fewer)} requests, "
        "the slowest of each moment and an even sample of the rest."
        if fewer
        else ""
    )
    return Drawn(
        slug="timeline",
        title=_TITLES["timeline"],
        basis="measured, with modelled placement in cold starts",
        svg=_both("timeline", plots.timeline, (series, report.workload.objective), parts),
        how_to_read=(
            "Dots are requests, triangles are requests that waited for a cold start, crosses "
            "failed; height is the latency from the due time, on a scale of powers of ten."
            + thinned
        ),
        shows=_sentence(parts),
    )


def _cold(series: Sequence[Series]) -> Drawn | None:
    one = next((one for one in series if one.mode == "serverless" and one.cold), None)
    if one is None:
        return None
    middle = one.cold[(len(one.cold) - 1) // 2]
    modelled = middle.placement_s / max(middle.total_s, 1e-9)
    parts = [
        f"the {middle.name} cold start took {seconds(middle.total_s)}: "
        f"{seconds(middle.placement_s)} placement, {seconds(middle.setup_s)} set-up, "
        f"{seconds(middle.model_s)} in the model; {share(modelled)} of it is modelled, not measured"
    ]
    frames = (
        Frame("wide", WIDE.width, 150, WIDE.font),
        Frame("narrow", NARROW.width, 205, NARROW.font),
    )
    return Drawn(
        slug="cold",
        title=_TITLES["cold"],
        basis="measured; placement modelled",
        svg=_both("cold", plots.cold_parts, one.cold, parts, frames),
        how_to_read=(
            "Each bar is one real request; hatching marks the modelled part, which AWS does not "
            "publish, and plain colour what was measured on this machine."
        ),
        shows=_sentence(parts),
    )


def _bars(report: Report) -> Drawn:
    costs = [option.cost for option in report.options]
    parts = [f"{mode(cost.mode)} {usd(cost.month_usd)} a month" for cost in costs]
    height = 30 + 34 * len(costs)
    frames = (
        Frame("wide", WIDE.width, height, WIDE.font),
        Frame("narrow", NARROW.width, height, NARROW.font),
    )
    return Drawn(
        slug="cost",
        title=_TITLES["cost"],
        basis="modelled from measured use",
        svg=_both("cost", plots.cost_bars, costs, parts, frames),
        how_to_read="The longer the bar, the more a month of the same traffic costs.",
        shows=_sentence(parts),
    )


def _curves(report: Report) -> Drawn | None:
    realtime, serverless = report.option("realtime"), report.option("serverless")
    if realtime is None or serverless is None or not serverless.cost.per_request_usd:
        return None
    crossing = break_even(realtime.cost, serverless.cost)
    now = serverless.cost.requests_a_month
    if crossing is None:
        parts = [f"the lines do not cross; this traffic is {count(now)} requests a month"]
    else:
        parts = [
            f"the lines cross at {count(crossing)} requests a month; "
            f"this traffic is {count(now)} a month"
        ]
    return Drawn(
        slug="volume",
        title=_TITLES["volume"],
        basis="modelled",
        svg=_both("volume", plots.cost_curves, (realtime.cost, serverless.cost), parts),
        how_to_read=(
            "The lower line is the cheaper option at that many requests a month; the dashed "
            "upright line is this traffic, the diamond the volume at which both cost the same."
        ),
        shows=_sentence(parts),
    )


_Draw = Callable[[Any, Frame, Any], None]


def _both(
    slug: str,
    draw: _Draw,
    data: Any,
    parts: Sequence[str],
    frames: tuple[Frame, ...] = (WIDE, NARROW),
) -> str:
    texts = (_TITLES[slug], _sentence(parts))
    found = []
    for frame in frames:
        with drawing(slug, frame) as figure:
            draw(figure, frame, data)
            found.append(inline(figure, slug, frame, texts))
    return "".join(found)


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def _left_out(report: Report) -> str:
    failed = sum(option.summary.failed for option in report.options)
    return f" {count(failed)} failed requests are not on the curves." if failed else ""
