"""The chance of a cold start after an idle time, measured, against the configured keep-alive."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports.drawn import Drawn, Missing, Table, both, frames, sentence
from reports.gaps import Bin, Gaps, gaps_of
from reports.plots import legend
from reports.report import Report
from reports.styles import colour_of, marker_of
from reports.svg import Frame
from reports.words import count, mode, seconds, share

ELASTIC = ("serverless", "lambda")
_GAPS = ("gaps", "Cold starts by idle time")
_TICKS_S = (0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 36_000.0, 172_800.0, 864_000.0)
_CURVE_POINTS = 120
_FARTHEST = 300
"""How far below the keep-alive the axis begins: there all is alike."""


def gaps(report: Report) -> Drawn | Missing | None:
    """Cold starts against idle time, of every option that goes to zero."""
    every = [option for option in report.options if option.mode in ELASTIC]
    if not every:
        return None
    looked = [gaps_of(option) for option in every]
    reasons = [
        f"{mode(option.mode)}: {why}"
        for option, why in zip(every, looked, strict=True)
        if isinstance(why, str)
    ]
    found = [each for each in looked if isinstance(each, Gaps)]
    if not found:
        return Missing(_GAPS[1], sentence(reasons))
    parts = [_said(each) for each in found]
    left_out = f" Not drawn: {'; '.join(reasons)}." if reasons else ""
    return Drawn(
        slug=_GAPS[0],
        title=_GAPS[1],
        basis="measured; the curve is what was configured, and assumed",
        svg=both(_GAPS, cold_by_gap, found, parts, frames(235, 225)),
        how_to_read=(
            "Each point is a group of requests that came after about the same idle time: its "
            "height is the share that started cold, the upright bar its 95 % interval, the level "
            "one the idle times it stands for. The curve is what the configured keep-alive gives "
            "for one environment, and explains a point whose interval holds it; where several "
            "environments are kept, cold starts are rarer." + left_out
        ),
        shows=sentence(parts),
        table=Table(
            "The same in numbers",
            ("Option", "Idle from", "to", "Requests", "Cold", "Share", "95 % interval", "Curve"),
            tuple(_row(each.mode, one) for each in found for one in each.bins),
        ),
    )


def _said(found: Gaps) -> str:
    keep_s = found.keep_alive.median_s
    before = [one for one in found.bins if one.to_s <= keep_s]
    after = [one for one in found.bins if one.to_s > keep_s]
    halves = [
        f"{count(sum(one.cold for one in bins))} of {count(sum(one.requests for one in bins))} "
        f"requests after {side} {seconds(keep_s)} of silence started cold"
        for side, bins in (("up to", before), ("more than", after))
        if bins
    ]
    agree = sum(one.agrees for one in found.bins)
    return (
        f"{mode(found.mode)}: {', and '.join(halves)}; the configured keep-alive explains "
        f"{agree} of {len(found.bins)} points"
    )


def _row(name: str, one: Bin) -> tuple[str, ...]:
    return (
        mode(name).capitalize(),
        seconds(one.from_s),
        seconds(one.to_s),
        count(one.requests),
        count(one.cold),
        share(one.share),
        f"{share(one.low)} to {share(one.high)}",
        share(one.expected),
    )


def cold_by_gap(figure: Figure, frame: Frame, found: Sequence[Gaps]) -> None:
    """Points with their intervals, and the curve of the configured keep-alive."""
    axes = figure.add_subplot()
    low = min(one.bins[0].from_s for one in found)
    high = max(one.bins[-1].to_s for one in found)
    keeps = [each.keep_alive.median_s for each in found]
    low = max(min(low, min(keeps) / 4), min(keeps) / _FARTHEST)
    high = max(high, 4 * max(keeps))
    for each in found:
        colour, keep = colour_of(each.mode), each.keep_alive
        x = np.sort(np.append(np.geomspace(low, high, _CURVE_POINTS), keep.median_s))
        axes.plot(
            x,
            [keep.expired(at) for at in x],
            color=colour,
            lw=1.2,
            ls=(0, (4, 2)),
            label=f"{mode(each.mode)}, configured",
        )
        centre = np.array([max(one.idle_s, low) for one in each.bins])
        y = np.array([one.share for one in each.bins])
        reach = np.array(
            [[one.low, one.high, max(one.from_s, low), max(one.to_s, low)] for one in each.bins]
        ).T
        axes.errorbar(
            centre,
            y,
            yerr=[y - reach[0], reach[1] - y],
            xerr=[centre - reach[2], reach[3] - centre],
            fmt=marker_of(each.mode),
            color=colour,
            ms=4.5,
            elinewidth=1.1,
            capsize=2,
            clip_on=False,
            label=f"{mode(each.mode)}, measured",
        )
    axes.set(xscale="log", xlim=(low / 1.2, high * 1.2), ylim=(-0.03, 1.03))
    ticks = [at for at in _TICKS_S if low / 1.2 <= at <= high * 1.2]
    axes.xaxis.set_major_locator(
        FixedLocator(ticks[:: 2 if frame.narrow and len(ticks) > 4 else 1])
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel("idle time before the request")
    legend(figure, 1 if frame.narrow else 2)
