"""The plots. Each draws one thing into a figure; nothing here knows about HTML."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from bench.workload import Objective
from reports.curve import Curve
from reports.series import TAIL_REQUESTS, Parts, Series, curve
from reports.styles import HATCHES, INK, colour_of, line_of, marker_of
from reports.svg import Frame
from reports.timing import Floats
from reports.words import mode, quantile, seconds

GREEN = "#009e73"
_MINUTE_S = 60.0
_LONG_STEPS_S = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 7200.0, 21_600.0, 86_400.0)
_WHOLE = {60.0: "1 min", 3600.0: "1 h"}
_CLOSE_TICKS_S = (1.0, 2.0, 5.0, 10.0, 30.0, *_LONG_STEPS_S[1:])
_LONG_TICKS_S = (60.0, 600.0, 3600.0, 36_000.0, 864_000.0)


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
        colour = colour_of(one.mode)
        axes.plot(
            x[known], y[known], color=colour, ls=line_of(one.mode), lw=1.8, label=mode(one.mode)
        )
        rest = np.flatnonzero(~known)
        if len(rest):
            tail = np.r_[max(0, rest[0] - 1), rest]
            axes.plot(x[tail], y[tail], color=colour, ls=":", lw=1.2)
        axes.plot(x[-1], y[-1], marker_of(one.mode), color=colour, ms=5, clip_on=False)
        ends.append((float(x[-1]), float(y[-1])))
        lowest, highest = min(lowest, float(y[0])), max(highest, float(y[-1]))
        longest = max(longest, float(x[-1]) * 1.5)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(1, longest),
        ylim=(lowest / 1.5, _headroom(lowest, highest)),
    )
    objective_line(axes, objective.latency_s)
    _label_ends(axes, ends, objective.latency_s)
    at = 1 / (1 - objective.quantile)
    axes.axvline(at, color=INK, lw=0.8, ls=(0, (2, 2)), alpha=0.6)
    axes.plot(at, objective.latency_s, "D", color=INK, ms=4.5)
    _percentile_ticks(axes, longest, 4 if frame.narrow else 7)
    latency_ticks(axes)
    axes.set_xlabel("percentile of answered requests")
    legend(figure)


def timeline(figure: Figure, frame: Frame, data: tuple[Sequence[Series], Objective]) -> None:
    """Each request's latency over the simulated time, one panel an option."""
    series, objective = data
    panels = figure.subplots(len(series), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    dots = [one.dots for one in series]
    values = np.concatenate([each.latency_s for each in dots] + [np.array([objective.latency_s])])
    values = values[values > 0]
    last = max((float(each.due_s.max()) for each in dots if len(each.due_s)), default=1.0)
    step, unit, unit_s = time_step(last, 4 if frame.narrow else 8)
    for axes, one in zip(panels, series, strict=True):
        colour = colour_of(one.mode)
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
        objective_line(axes, objective.latency_s)
        latency_ticks(axes)
    time_axis(panels[-1], (last, step, unit, unit_s))


def cold_parts(figure: Figure, frame: Frame, examples: Sequence[Parts]) -> None:
    """Where the time of a cold start went, from the fastest to the slowest."""
    axes = figure.add_subplot()
    place = np.arange(len(examples))[::-1].astype(float)
    colour = colour_of("serverless")
    looks = (
        ("placement, modelled", "placement_s", {"fc": "none", "ec": colour, "hatch": "////"}),
        ("wait for this machine", "wait_s", {"fc": "none", "ec": INK, "hatch": "----"}),
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
        FixedLocator(list(_even(float(left.max()), 4 if frame.narrow else 7, in_seconds=True)))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value) if value else "0"))
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    legend(figure, 1 if frame.narrow else 2)


def under_way(figure: Figure, frame: Frame, series: Sequence[Series]) -> None:
    """How many requests were under way at once over the simulated time, one panel an option."""
    panels = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
    last = max((float(one.flow.at_s[-1]) for one in series if len(one.flow.at_s)), default=1.0)
    step, unit, unit_s = time_step(last, 4 if frame.narrow else 8)
    for axes, one in zip(panels, series, strict=True):
        colour, x = colour_of(one.mode), one.flow.at_s / unit_s
        axes.fill_between(x, one.flow.most, step="post", color=colour, alpha=0.35, lw=0)
        axes.step(x, one.flow.most, where="post", color=colour, lw=1.0)
        if len(one.flow.instances):
            axes.step(x, one.flow.instances, where="post", color=INK, lw=1.1, ls=(0, (4, 2)))
        axes.set_title(mode(one.mode), loc="left", fontweight="bold", pad=4)
        top = max(1.0, *one.flow.most, *one.flow.instances)
        axes.set(ylim=(0, top * 1.15))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.grid(axis="y")
    time_axis(panels[-1], (last, step, unit, unit_s))


def windows(figure: Figure, frame: Frame, data: tuple[Sequence[Series], Objective]) -> None:
    """Median and p95 in windows of the simulated time."""
    series, objective = data
    axes = figure.add_subplot()
    last = max(float(one.windows.at_s[-1]) for one in series if len(one.windows.at_s))
    step, unit, unit_s = time_step(last, 4 if frame.narrow else 8)
    lows, highs = [objective.latency_s], [objective.latency_s]
    for one in series:
        if not len(one.windows.at_s):
            continue
        colour, x = colour_of(one.mode), one.windows.at_s / unit_s
        axes.plot(x, one.windows.p95_s, color=colour, ls=line_of(one.mode), lw=1.8)
        axes.plot(x, one.windows.p50_s, color=colour, ls=line_of(one.mode), lw=0.9)
        marks = {"marker": marker_of(one.mode), "ms": 3.5, "ls": line_of(one.mode)}
        axes.plot([], [], color=colour, label=mode(one.mode), **marks)
        lows.append(float(one.windows.p50_s.min()))
        highs.append(float(one.windows.p95_s.max()))
    axes.set(yscale="log", ylim=(min(lows) / 1.5, _headroom(min(lows), max(highs))))
    objective_line(axes, objective.latency_s)
    latency_ticks(axes)
    time_axis(axes, (last, step, unit, unit_s))
    legend(figure)


def parts(figure: Figure, frame: Frame, series: Sequence[Series]) -> None:
    """Where the time of a typical and of a slow request went, a bar each."""
    rows = [(one, name, shares) for one in series for name, shares in one.parts]
    axes = figure.add_subplot()
    place = np.arange(len(rows))[::-1].astype(float)
    names = list(dict.fromkeys(name for _, _, shares in rows for name, _ in shares))
    looks = dict(zip(names, HATCHES * 3, strict=False))
    seen: set[str] = set()
    most = max(sum(value for _, value in shares) for _, _, shares in rows)
    for at, (one, _, shares) in zip(place, rows, strict=True):
        left = 0.0
        for name, value in shares:
            look: dict[str, Any] = {
                "fc": "none",
                "ec": colour_of(one.mode),
                "hatch": looks[name],
                "lw": 0.8,
            }
            if name == "model":
                look |= {"fc": colour_of(one.mode)}
            label = "" if name in seen else name
            seen.add(name)
            axes.barh(at, value, left=left, height=0.55, label=label, **look)
            left += value
        offset: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
        axes.annotate(seconds(left), (left, at), (5, 0), **offset)
    axes.set_yticks(place, [f"{mode(one.mode)}, {name}" for one, name, _ in rows])
    axes.set(xlim=(0, most * (1.5 if frame.narrow else 1.2)), ylim=(-0.6, len(rows) - 0.4))
    axes.xaxis.set_major_locator(
        FixedLocator(list(_even(most, 3 if frame.narrow else 6, in_seconds=True)))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value) if value else "0"))
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    legend(figure, 2 if frame.narrow else 4)


def capacity(
    figure: Figure, frame: Frame, data: tuple[str, Curve, float, tuple[float | None, float | None]]
) -> None:
    """Latency against the rate of requests, with the highest good rate and the knee."""
    name, found, objective_s, (most, knee) = data
    axes = figure.add_subplot()
    rate, latency = np.array(found.rate_rps), np.array(found.latency_s)
    good = np.array(found.valid) & np.isfinite(latency)
    colour = colour_of(name)
    axes.plot(rate[good], latency[good], marker_of(name), ls=line_of(name), color=colour, lw=1.6)
    bad = ~good & np.isfinite(latency)
    axes.plot(rate[bad], latency[bad], "x", color=INK, ms=6)
    values = [*latency[np.isfinite(latency)], objective_s]
    axes.set(yscale="log", ylim=(min(values) / 1.6, _headroom(min(values), max(values))))
    axes.set_xlim(0, rate.max() * 1.08)
    axes.xaxis.set_major_locator(FixedLocator(list(_even(rate.max(), 4 if frame.narrow else 8))))
    objective_line(axes, objective_s)
    for at, word, height in ((most, "highest", 1.0), (knee, "knee", 0.0)):
        if at:
            axes.axvline(at, color=INK, lw=0.8, ls=(0, (2, 2)), alpha=0.6)
            right = at > rate.max() * 0.5
            axes.annotate(
                f"{word} {at:.3g}",
                (at, height),
                (-4 if right else 4, -9 if height else 5),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="right" if right else "left",
            )
    latency_ticks(axes)
    axes.set_xlabel("requests a second")


def time_axis(axes: Axes, scale: tuple[float, float, str, float]) -> None:
    last, step, unit, unit_s = scale
    axes.xaxis.set_major_locator(FixedLocator(list(np.arange(0, last / unit_s + step, step))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    reach = max(last / unit_s, step / 10)
    axes.set_xlim(-0.012 * reach, 1.012 * reach)
    axes.set_xlabel(f"simulated time, {unit}")


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float]], objective_s: float) -> None:
    """Name each slowest request, clear of the objective's label and of one another."""
    low, high = axes.get_ylim()
    near = (high / low) ** 0.09
    named: list[float] = []
    for end in sorted(ends, key=lambda end: -end[1]):  # the lower of two goes below
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


def objective_line(axes: Axes, latency_s: float) -> None:
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


def latency_ticks(axes: Axes) -> None:
    low, high = axes.get_ylim()
    few = np.log10(high / low) < 1.6
    if few and high > _MINUTE_S:
        axes.yaxis.set_major_locator(
            FixedLocator([at for at in _CLOSE_TICKS_S if low <= at <= high])
        )
    elif few or high <= _MINUTE_S:
        subs = (1.0, 2.0, 5.0) if few else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    else:  # a thousand seconds are no number that anybody knows
        powers = [10.0**k for k in range(-6, 2) if k % 2 == 0 or high / low < 1e6]
        ticks = [*powers, *(tick for tick in _LONG_TICKS_S)]
        axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: _WHOLE.get(value, seconds(value)))
    )
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


def legend(figure: Figure, columns: int = 2) -> None:
    figure.legend(loc="outside upper left", ncols=columns, borderaxespad=0, handlelength=2.2)


def _even(most: float, ticks: int, in_seconds: bool = False) -> Floats:
    """Round numbers from zero to ``most``, at most ``ticks`` of them; whole minutes or hours."""
    if most <= 0:
        return np.zeros(1)
    rough = most / ticks
    if in_seconds and most > 2 * _MINUTE_S:
        whole = next((each for each in _LONG_STEPS_S if each >= rough), None)
        return np.arange(0, most + whole / 2, whole) if whole else np.linspace(0, most, ticks)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    return np.arange(0, most + step / 2, step)


def time_step(last_s: float, ticks: int) -> tuple[float, str, float]:
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
