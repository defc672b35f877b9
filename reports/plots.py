"""The plots. Each draws one thing into a figure; nothing here knows about HTML."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from bench.workload import Objective
from reports.costs import Cost, break_even
from reports.series import TAIL_REQUESTS, Floats, Parts, Series, curve
from reports.svg import INK, Frame
from reports.words import count, mode, quantile, seconds, usd

# Okabe and Ito's colours, of which these keep a contrast of 3 on light and on dark.
COLOURS = {"realtime": "#0072b2", "serverless": "#d55e00"}
MARKERS = {"realtime": "o", "serverless": "s"}
LINES = {"realtime": "-", "serverless": (0, (5, 1.5))}
GREEN = "#009e73"


def percentiles(figure: Figure, frame: Frame, data: tuple[Sequence[Series], Objective]) -> None:
    """Latency against percentile with a stretched tail, and the objective."""
    series, objective = data
    axes = figure.add_subplot()
    ends: list[tuple[float, float]] = []
    lowest, highest, longest = objective.latency_s, objective.latency_s, 1000.0
    for one in series:
        if not len(one.sorted_s):
            continue
        x, y = curve(one.sorted_s)
        known = x <= max(1.0, len(one.sorted_s) / TAIL_REQUESTS)
        colour = COLOURS[one.mode]
        axes.plot(
            x[known], y[known], color=colour, ls=LINES[one.mode], lw=1.8, label=mode(one.mode)
        )
        rest = np.flatnonzero(~known)
        if len(rest):
            tail = np.r_[max(0, rest[0] - 1), rest]
            axes.plot(x[tail], y[tail], color=colour, ls=":", lw=1.2)
        axes.plot(x[-1], y[-1], MARKERS[one.mode], color=colour, ms=5, clip_on=False)
        ends.append((float(x[-1]), float(y[-1])))
        lowest, highest = min(lowest, float(y[0])), max(highest, float(y[-1]))
        longest = max(longest, float(x[-1]) * 1.5)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(1, longest),
        ylim=(lowest / 1.5, _headroom(lowest, highest)),
    )
    _objective(axes, objective.latency_s)
    _label_ends(axes, ends, objective.latency_s)
    at = 1 / (1 - objective.quantile)
    axes.axvline(at, color=INK, lw=0.8, ls=(0, (2, 2)), alpha=0.6)
    axes.plot(at, objective.latency_s, "D", color=INK, ms=4.5)
    _percentile_ticks(axes, longest, 4 if frame.narrow else 7)
    _latency_ticks(axes)
    axes.set_xlabel("percentile of answered requests")
    _legend(figure)


def timeline(figure: Figure, frame: Frame, data: tuple[Sequence[Series], Objective]) -> None:
    """Each request's latency over the simulated time, one panel an option."""
    series, objective = data
    panels = figure.subplots(len(series), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    dots = [one.dots for one in series]
    values = np.concatenate([each.latency_s for each in dots] + [np.array([objective.latency_s])])
    values = values[values > 0]
    last = max((float(each.due_s.max()) for each in dots if len(each.due_s)), default=1.0)
    step, unit, unit_s = _time_step(last, 4 if frame.narrow else 8)
    for axes, one in zip(panels, series, strict=True):
        colour = COLOURS[one.mode]
        styles = (
            ("answered warm", {"marker": "o", "ms": 2.6, "color": colour, "alpha": 0.75}),
            ("cold start", {"marker": "^", "ms": 5, "mfc": "none", "mec": colour, "mew": 1.1}),
            ("failed", {"marker": "x", "ms": 5, "mec": INK, "mew": 1.1}),
        )
        for kind, (_, style) in enumerate(styles):
            chosen = one.dots.kind == kind
            axes.plot(one.dots.due_s[chosen] / unit_s, one.dots.latency_s[chosen], ls="", **style)
        axes.set(yscale="log", ylim=(values.min() / 2, _headroom(values.min(), values.max())))
        axes.set_title(mode(one.mode), loc="left", fontweight="bold", pad=4)
        _objective(axes, objective.latency_s)
        _latency_ticks(axes)
    panels[-1].xaxis.set_major_locator(FixedLocator(list(np.arange(0, last / unit_s + step, step))))
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    reach = max(last / unit_s, step / 10)
    panels[-1].set_xlim(-0.012 * reach, 1.012 * reach)
    panels[-1].set_xlabel(f"simulated time, {unit}")


def cold_parts(figure: Figure, frame: Frame, examples: Sequence[Parts]) -> None:
    """Where the time of a cold start went, from the fastest to the slowest."""
    axes = figure.add_subplot()
    place = np.arange(len(examples))[::-1].astype(float)
    colour = COLOURS["serverless"]
    looks = (
        ("placement, modelled", "placement_s", {"fc": "none", "ec": colour, "hatch": "////"}),
        ("wait for this machine", "wait_s", {"fc": "none", "ec": INK, "hatch": "...."}),
        ("set-up, measured", "setup_s", {"fc": colour, "ec": "none"}),
        ("model, measured", "model_s", {"fc": GREEN, "ec": "none"}),
        ("the rest, measured", "other_s", {"fc": INK, "ec": "none", "alpha": 0.45}),
    )
    left = np.zeros(len(examples))
    for label, name, look in looks:
        width = np.array([getattr(each, name) for each in examples])
        axes.barh(place, width, left=left, height=0.5, lw=0.8, label=label, **look)
        left += width
    for at, end in zip(place, left, strict=True):
        axes.annotate(
            seconds(float(end)), (end, at), (5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(place, [each.name for each in examples])
    axes.set(xlim=(0, left.max() * 1.2), ylim=(-0.6, len(examples) - 0.4))
    axes.xaxis.set_major_locator(
        FixedLocator(list(_even(float(left.max()), 4 if frame.narrow else 7)))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value) if value else "0"))
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    _legend(figure, 1 if frame.narrow else 2)


def cost_bars(figure: Figure, frame: Frame, costs: Sequence[Cost]) -> None:
    """What a month of this traffic costs with each option."""
    axes = figure.add_subplot()
    place = np.arange(len(costs))[::-1].astype(float)
    most = max((cost.month_usd for cost in costs), default=0.0) or 1.0
    for at, cost in zip(place, costs, strict=True):
        axes.barh(at, cost.month_usd, height=0.45, color=COLOURS[cost.mode])
        axes.annotate(
            usd(cost.month_usd),
            (cost.month_usd, at),
            (5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(place, [mode(cost.mode) for cost in costs])
    axes.set(xlim=(0, most * (1.35 if frame.narrow else 1.18)), ylim=(-0.5, len(costs) - 0.5))
    axes.xaxis.set_major_locator(NullLocator())
    axes.spines["bottom"].set_visible(False)


def cost_curves(figure: Figure, frame: Frame, pair: tuple[Cost, Cost]) -> None:
    """The cost of a month against the number of requests; real-time first in ``pair``."""
    axes = figure.add_subplot()
    now = max(pair[1].requests_a_month, 1.0)
    crossing = break_even(*pair)
    x = np.geomspace(min(now, crossing or now) / 30, max(now, crossing or now) * 30, 120)
    for cost in pair:
        y = [cost.monthly_usd(float(each)) for each in x]
        colour, line = COLOURS[cost.mode], LINES[cost.mode]
        axes.plot(x, y, color=colour, ls=line, lw=1.8, label=mode(cost.mode))
        axes.plot(now, cost.monthly_usd(now), MARKERS[cost.mode], color=colour, ms=5)
    axes.set(xscale="log", yscale="log", xlim=(x[0], x[-1]))
    axes.axvline(now, color=INK, lw=0.8, ls=(0, (2, 2)), alpha=0.6)
    top = axes.get_ylim()[1]
    axes.set_ylim(top=top * 6)
    _note(axes, (now, top * 3), "this traffic", (5, 0), ha="left")
    if crossing:
        axes.plot(crossing, pair[0].monthly_usd(crossing), "D", color=INK, ms=4.5)
        _note(axes, (crossing, pair[0].monthly_usd(crossing)), count(crossing), (-6, 6))
    axes.xaxis.set_major_locator(LogLocator(numticks=4 if frame.narrow else 9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_usd(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    axes.set_xlabel("requests a month")
    _legend(figure)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float]], objective_s: float) -> None:
    """Name each slowest request, clear of the objective's label and of one another."""
    low, high = axes.get_ylim()
    near = (high / low) ** 0.09
    named: list[float] = []
    for end in ends:
        slowest = end[1]
        beside = any(1 / near < slowest / other < near for other in named)
        rise = -12.0 if beside else 5.0
        if 1 / near < slowest / objective_s < near:
            if beside:
                continue  # no room; the table of the options holds it
            rise = -12.0 if slowest < objective_s else 15.0
        _note(axes, end, f"max {seconds(slowest)}", (-6, rise))
        named.append(slowest)


def _headroom(lowest: float, highest: float) -> float:
    """The top of a log axis that leaves room for a label above ``highest``."""
    return float(2 * highest * (highest / lowest) ** 0.2)


def _objective(axes: Axes, latency_s: float) -> None:
    axes.axhline(latency_s, color=INK, lw=0.9, ls=(0, (2, 2)), alpha=0.8)
    axes.annotate(
        f"objective {seconds(latency_s)}",
        (0.0, latency_s),
        (4, 4),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
    )


def _note(
    axes: Axes, at: tuple[float, float], text: str, offset: tuple[float, float], ha: str = "right"
) -> None:
    axes.annotate(text, at, offset, textcoords="offset points", ha=ha)


def _latency_ticks(axes: Axes) -> None:
    low, high = axes.get_ylim()
    few = np.log10(high / low) < 1.6
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _percentile_ticks(axes: Axes, longest: float, most: int) -> None:
    ticks = [2.0] + [10.0**k for k in range(1, most) if 10.0**k <= longest]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: quantile(round(1 - 1 / value, 9)))
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, columns: int = 2) -> None:
    figure.legend(loc="outside upper left", ncols=columns, borderaxespad=0, handlelength=2.2)


def _even(most: float, ticks: int) -> Floats:
    """Round numbers from zero to ``most``, at most ``ticks`` of them."""
    if most <= 0:
        return np.zeros(1)
    rough = most / ticks
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    return np.arange(0, most + step / 2, step)


def _time_step(last_s: float, ticks: int) -> tuple[float, str, float]:
    """Step between ticks, the unit and its seconds."""
    steps: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0)
    if last_s <= 180:
        unit, unit_s = "s", 1.0
    elif last_s <= 10_800:
        unit, unit_s = "minutes", 60.0
    else:
        unit, unit_s = "hours", 3600.0
        steps = (1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 48.0, 168.0)
    rough = last_s / unit_s / ticks
    return next((step for step in steps if step >= rough), rough), unit, unit_s


def _short(value: float) -> str:
    for size, unit in ((1e9, " bn"), (1e6, " m"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _short_usd(value: float) -> str:
    return f"${_short(value)}" if value >= 1 else f"${value:.10f}".rstrip("0")
