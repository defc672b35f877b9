"""The plots of money: bars, curves with winner regions, a map, a tornado. All are modelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from reports.bill import Cost
from reports.regions import Patchwork, Region
from reports.styles import INK, colour_of, hatch_of, line_of, marker_of
from reports.svg import Frame
from reports.words import mode, significant, size, usd
from reports.worlds import Sensitivity


@dataclass(frozen=True)
class Volume:
    """Costs over requests a month, and which is lowest where."""

    costs: tuple[Cost, ...]
    regions: tuple[Region, ...]
    now: float
    reach: tuple[float, float]


def cost_bars(figure: Figure, frame: Frame, costs: Sequence[Cost]) -> None:
    """What a month of this traffic costs with each option."""
    axes = figure.add_subplot()
    place = np.arange(len(costs))[::-1].astype(float)
    most = max((cost.month_usd for cost in costs), default=0.0) or 1.0
    for at, cost in zip(place, costs, strict=True):
        axes.barh(at, cost.month_usd, height=0.45, color=colour_of(cost.mode))
        offset: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
        axes.annotate(usd(cost.month_usd), (cost.month_usd, at), (5, 0), **offset)
    axes.set_yticks(place, [mode(cost.mode) for cost in costs])
    axes.set(xlim=(0, most * (1.45 if frame.narrow else 1.18)), ylim=(-0.5, len(costs) - 0.5))
    axes.xaxis.set_major_locator(NullLocator())
    axes.spines["bottom"].set_visible(False)


def cost_curves(figure: Figure, frame: Frame, data: Volume) -> None:
    """The cost of a month against the number of requests, the cheapest option named below."""
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=(10, 1))
    x = np.geomspace(*data.reach, 160)
    for cost in data.costs:
        y = [cost.monthly_usd(float(each)) for each in x]
        colour = colour_of(cost.mode)
        axes.plot(x, y, color=colour, ls=line_of(cost.mode), lw=1.8, label=mode(cost.mode))
        axes.plot(data.now, cost.monthly_usd(data.now), marker_of(cost.mode), color=colour, ms=5)
    axes.set(xscale="log", yscale="log", xlim=data.reach)
    axes.axvline(data.now, color=INK, lw=0.8, ls=(0, (2, 2)), alpha=0.6)
    axes.set_ylim(top=axes.get_ylim()[1] * 8)
    right = data.now > np.sqrt(data.reach[0] * data.reach[1])
    offset: dict[str, Any] = {"textcoords": "offset points", "ha": "right" if right else "left"}
    top = axes.get_ylim()[1] / 3
    axes.annotate("this traffic", (data.now, top), (-5 if right else 5, 0), **offset)
    for region in data.regions[1:]:
        at = region.from_requests
        lowest = min(cost.monthly_usd(at) for cost in data.costs)
        axes.plot(at, lowest, "D", color=INK, ms=4.5)
    _strip(strip, frame, data)
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_usd(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelbottom=False)
    axes.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=2, borderaxespad=0, handlelength=2.2)


def _strip(axes: Axes, frame: Frame, data: Volume) -> None:
    """One band: which option is cheapest at that many requests."""
    for region in data.regions:
        start, end = region.from_requests, region.to_requests
        look: dict[str, Any] = {
            "fc": "none",
            "ec": colour_of(region.mode),
            "hatch": hatch_of(region.mode),
        }
        if not look["hatch"]:
            look["fc"] = colour_of(region.mode)
        axes.barh(0, end - start, left=start, height=0.8, lw=0.8, **look)
        wide = np.log(end / start) / np.log(data.reach[1] / data.reach[0])
        if wide > (0.3 if frame.narrow else 0.16):
            offset: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
            axes.annotate(mode(region.mode), ((start * end) ** 0.5, 0.5), (0, 3), **offset)
    axes.set(ylim=(-0.5, 0.5), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(LogLocator(numticks=4 if frame.narrow else 8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("requests a month")


def cost_map(figure: Figure, frame: Frame, data: Patchwork) -> None:
    """The cheapest option over requests a month and payload."""
    axes = figure.add_subplot()
    x, y = np.array(data.requests), np.array(data.payload_bytes)
    found = [each for row in data.modes for each in row]
    handles: list[Patch] = []
    for name in dict.fromkeys(found):
        look: dict[str, Any] = {
            "fc": "none",
            "ec": INK if name is None else colour_of(name),
            "lw": 0,
        }
        hatch = "" if name is None else hatch_of(name)
        if name is not None and not hatch:
            look |= {"fc": colour_of(name), "lw": 0.5}  # so that rows meet without a seam
        label = "no option takes it" if name is None else mode(name)
        handles.append(Patch(label=label, hatch=hatch, **{**look, "lw": 0.8}))
        for bottom, top, row in _blocks(data):
            for left, right, each in row:
                if each == name:
                    box: dict[str, Any] = {
                        "height": y[top] - y[bottom],
                        "bottom": y[bottom],
                        "align": "edge",
                    }
                    axes.bar(x[left], width=x[right] - x[left], hatch=hatch, **box, **look)
    axes.set(xscale="log", yscale="log", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.plot(*data.here, "o", mfc=INK, mec="none", ms=6)
    axes.plot(*data.here, "o", mfc="none", mec=INK, ms=11, mew=1.2)
    axes.xaxis.set_major_locator(LogLocator(numticks=4 if frame.narrow else 8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator([1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("requests a month")
    axes.set_ylabel("payload")
    legend: dict[str, Any] = {"ncols": 2 if frame.narrow else 4, "borderaxespad": 0}
    figure.legend(handles=handles, loc="outside upper left", **legend)


_Row = tuple[tuple[int, int, str | None], ...]


def _blocks(data: Patchwork) -> list[tuple[int, int, _Row]]:
    """Rows that are alike as one: from row, to row, and their stretches of one option."""
    runs: list[_Row] = []
    for row in data.modes:
        stretches, at = [], 0
        for name, cells in groupby(row):
            n = len(list(cells))
            stretches.append((at, at + n, name))
            at += n
        runs.append(tuple(stretches))
    found, at = [], 0
    for same, rows in groupby(runs):
        n = len(list(rows))
        found.append((at, at + n, same))
        at += n
    return found


def tornado(figure: Figure, frame: Frame, found: Sensitivity) -> None:
    """How far each assumed constant moves the rival's cost against that of the answer."""
    axes = figure.add_subplot()
    swings = [swing for swing in found.swings if swing.moves or found.flips(swing)]
    place = np.arange(len(swings))[::-1].astype(float)
    for at, swing in zip(place, swings, strict=True):
        low, high = sorted(max(each, 1e-9) for each in swing.ratios)
        flips = found.flips(swing)
        look: dict[str, Any] = {
            "fc": colour_of(found.winner),
            "ec": INK if flips else "none",
            "lw": 1.2,
        }
        if swing.moves:
            axes.barh(at, high - low, left=low, height=0.5, hatch="////" if flips else "", **look)
        else:
            axes.plot(found.ratio, at, "D", color=INK, ms=6)
    ends = [max(each, 1e-9) for swing in swings for each in swing.ratios]
    low, high = min([*ends, 1.0, found.ratio]), max([*ends, 1.0, found.ratio])
    axes.set(xscale="log", xlim=(low / 1.3, high * 1.3), ylim=(-0.6, len(swings) - 0.4))
    axes.axvline(found.ratio, color=INK, lw=0.9)
    axes.axvline(1.0, color=INK, lw=1.2, ls=(0, (2, 2)))
    axes.set_yticks(place, [swing.name for swing in swings])
    ticks = 3 if frame.narrow else 6
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=ticks))
    if high / low > 30:
        axes.xaxis.set_major_locator(LogLocator(numticks=ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 2)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    label = f"cost of {mode(found.rival)} over {mode(found.winner)}"
    axes.set_xlabel(label if len(label) < 30 or not frame.narrow else "cost over the answer's")


def reach_of(costs: Sequence[Cost], edges: Sequence[float]) -> tuple[float, float]:
    """The range of requests a month that shows this traffic and every turn within sight."""
    now = max((cost.requests_a_month for cost in costs), default=1.0)
    near = [edge for edge in edges if now / 1e7 < edge < now * 1e7]
    return max(1.0, min([now, *near]) / 30), max(1e3, max([now, *near]) * 30)


def short(value: float) -> str:
    """A number for an axis."""
    for whole, unit in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if value >= whole:
            return f"{value / whole:g}{unit}"
    return f"{value:g}"


def short_usd(value: float) -> str:
    """An amount of money for an axis."""
    return f"${short(value)}" if value >= 1 else f"${value:.10f}".rstrip("0")
