"""The heat map: how many answers took how long, over the simulated time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from reports.drawn import Drawn, Missing, Table, both, frames, sentence
from reports.heat import AT_ONCE, FEWEST_ANSWERS, Grid, Heat, Span, due_at_once, heat_of
from reports.plots import latency_ticks, time_axis, time_step
from reports.report import Report
from reports.styles import INK
from reports.svg import Frame
from reports.timing import Flags, Floats
from reports.words import count, mode, seconds, share

_HEAT = ("heat", "How the answers were spread over the simulated time")
DARKEST, LIGHTEST = 0.25, 0.95
"""The ends of cividis that are used: beyond them a cell would vanish on dark or on light."""

_NOTABLE, _ENOUGH = 2.0, 10
"""A stretch is named if so many times as many answers as on the whole, and so many, are late."""


def heat(report: Report) -> Drawn | Missing:
    """The heat map of all options with enough answers."""
    objective_s = report.workload.objective.latency_s
    if due_at_once(report.options):
        return Missing(_HEAT[1], AT_ONCE)
    found = heat_of(report.options, objective_s)
    if found is None:
        return Missing(
            _HEAT[1],
            f"It takes {count(FEWEST_ANSWERS)} answers of one option; with fewer, each is seen by "
            "itself among all requests.",
        )
    pairs = list(zip(found.grids, found.spans, strict=True))
    parts = [_said(grid.mode, spans, objective_s) for grid, spans in pairs]
    tall = max(190, 60 + 125 * len(pairs))
    return Drawn(
        slug=_HEAT[0],
        title=_HEAT[1],
        basis="measured, with modelled placement in cold starts",
        svg=both(_HEAT, heat_map, (found, objective_s), parts, frames(tall, tall + 30)),
        how_to_read=(
            "Each cell is a stretch of time and a range of latency, on a scale of powers of ten; "
            "its colour says how many answers fell there, on one scale for all options. Where "
            "nothing is drawn, no answer fell at all; failed requests are not among the answers."
            + _left_out(report, found)
        ),
        shows=sentence(parts),
        table=Table(
            "The same in numbers",
            ("Option", "From", "To", "Answers", "p50", "p95", "Slowest", "Too late"),
            tuple(_row(grid.mode, span) for grid, spans in pairs for span in spans),
        ),
    )


def _said(name: str, spans: tuple[Span, ...], objective_s: float) -> str:
    answers = sum(span.answers for span in spans)
    late = sum(span.late * span.answers for span in spans) / answers
    if not late:
        return (
            f"{mode(name)}: none of {count(answers)} answers took more than the objective of "
            f"{seconds(objective_s)}"
        )
    worst = max(spans, key=lambda span: span.late)
    when = (
        f", and from {_from(worst)} to {seconds(worst.to_s)} it was {share(worst.late)}"
        if worst.late > _NOTABLE * late and worst.late * worst.answers >= _ENOUGH
        else ""
    )
    return (
        f"{mode(name)}: {share(late)} of {count(answers)} answers took more than the objective of "
        f"{seconds(objective_s)}{when}"
    )


def _from(span: Span) -> str:
    return seconds(span.from_s) if span.from_s else "0"


def _row(name: str, span: Span) -> tuple[str, ...]:
    times = (span.p50_s, span.p95_s, span.slowest_s)
    ends = (_from(span), seconds(span.to_s))
    return (
        mode(name).capitalize(),
        *ends,
        count(span.answers),
        *map(seconds, times),
        share(span.late),
    )


def _left_out(report: Report, found: Heat) -> str:
    shown = {grid.mode for grid in found.grids}
    missing = [mode(option.mode) for option in report.options if option.mode not in shown]
    few = f"fewer than {count(FEWEST_ANSWERS)} answers"
    return f" Not drawn, with {few}: {', '.join(missing)}." if missing else ""


def heat_map(figure: Figure, frame: Frame, data: tuple[Heat, float]) -> None:
    """How many answers fell into each cell of time and latency, one panel an option.

    The cells are paths, not an image: a build server's content policy forbids images in a page.
    """
    found, objective_s = data
    found = found.halved() if frame.narrow else found
    colours = [
        to_hex(colormaps["cividis"](float(at)))
        for at in np.linspace(DARKEST, LIGHTEST, len(found.levels))
    ]
    panels = figure.subplots(len(found.grids), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    step, unit, unit_s = time_step(found.last_s, 4 if frame.narrow else 8)
    for axes, grid in zip(panels, found.grids, strict=True):
        low, high = float(found.latency_s[0]), float(found.latency_s[-1])
        axes.set(yscale="log", ylim=(min(low, objective_s) / 1.3, max(high, objective_s) * 1.3))
        _cells(axes, found, grid, (unit_s, colours))
        axes.axhline(objective_s, color=INK, lw=0.9, ls=(0, (2, 2)))
        axes.set_title(mode(grid.mode), loc="left", fontweight="bold", pad=4)
        latency_ticks(axes)
    time_axis(panels[-1], (found.last_s, step, unit, unit_s))
    line = Line2D([], [], color=INK, lw=0.9, ls=(0, (2, 2)), label="objective")
    patches = [
        Patch(fc=colour, ec=INK, lw=0.4, label=name)
        for colour, name in zip(colours, _names(found.levels), strict=True)
    ]
    figure.legend(
        handles=[*patches, line],
        loc="outside upper left",
        title="answers in a cell",
        alignment="left",
        ncols=3 if frame.narrow else 7,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.2,
    )


def _names(levels: tuple[int, ...]) -> list[str]:
    ends = [*(level - 1 for level in levels[1:]), None]
    return [
        f"{low:,} or more" if end is None else f"{low:,}" if low == end else f"{low:,}–{end:,}"  # noqa: RUF001 - a range of numbers
        for low, end in zip(levels, ends, strict=True)
    ]


def _cells(axes: Axes, found: Heat, grid: Grid, look: tuple[float, list[str]]) -> None:
    unit_s, colours = look
    level = np.searchsorted(found.levels, grid.counts, side="right")  # 0: empty
    across = np.linspace(0, found.last_s / unit_s, grid.counts.shape[1] + 1)
    edges = (across, found.latency_s)
    # The outline of what is there, in the colour of the text, stands out on any background.
    axes.add_patch(PathPatch(_outline(level > 0, edges), fc="none", ec=INK, lw=1.0))
    for number, colour in enumerate(colours, start=1):
        mine = level == number
        if mine.any():
            # A thin line of its own colour closes the seams between neighbours.
            axes.add_patch(PathPatch(_outline(mine, edges), fc=colour, ec=colour, lw=0.15))


def _outline(chosen: Flags, edges: tuple[Floats, Floats]) -> Path:
    """One path around the ``chosen`` cells, those side by side in a row taken together."""
    x, y = edges
    corners: list[tuple[float, float]] = []
    codes: list[Any] = []
    for row, first, last in _runs(chosen):
        left, right, low, high = x[first], x[last], y[row], y[row + 1]
        corners += [(left, low), (right, low), (right, high), (left, high), (left, low)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(np.array(corners).reshape(-1, 2), codes or None)


def _runs(chosen: Flags) -> Iterator[tuple[int, int, int]]:
    """Row, first column and the column after the last, of each stretch of chosen cells."""
    padded = np.pad(chosen, ((0, 0), (1, 1))).astype(np.int8)
    turns = np.argwhere(np.diff(padded, axis=1))
    for (row, first), (_, last) in zip(turns[::2], turns[1::2], strict=True):
        yield int(row), int(first), int(last)
