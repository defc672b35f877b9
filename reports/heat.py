"""Answers counted by when they were due and how long they took: what the heat map draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.option import Option
from reports.timing import Floats

FEWEST_ANSWERS = 500
"""Below, every request is seen by itself in the figure of all requests."""
COLUMNS, ROWS = 72, 26
MOST_LEVELS = 6
SPANS = 6
_STEPS = (1, 2, 5)
AT_ONCE = "Every request was due at the same moment, so there is no time to spread them over."


@dataclass(frozen=True)
class Grid:
    """How many answers of one option fell into each cell; a cell without any is empty."""

    mode: str
    counts: npt.NDArray[np.int64]  # a row of latency, a column of time

    def halved(self) -> "Grid":
        """The same with half as many columns, for a small screen."""
        return Grid(self.mode, self.counts[:, ::2] + self.counts[:, 1::2])


@dataclass(frozen=True)
class Span:
    """One part of the simulated time, in numbers."""

    from_s: float
    to_s: float
    answers: int
    p50_s: float
    p95_s: float
    slowest_s: float
    late: float  # share above the latency objective


@dataclass(frozen=True)
class Heat:
    """Every option's grid on the same edges, and the levels of colour that all share."""

    grids: tuple[Grid, ...]
    latency_s: Floats  # edges of the rows
    last_s: float  # the right edge of the last column; the left one of the first is 0
    levels: tuple[int, ...]  # least count of each level
    spans: tuple[tuple[Span, ...], ...]  # one row of them for each grid

    def halved(self) -> "Heat":
        """The same with half as many columns."""
        grids = tuple(grid.halved() for grid in self.grids)
        return Heat(grids, self.latency_s, self.last_s, _levels(grids), self.spans)


def due_at_once(options: Sequence[Option]) -> bool:
    """Whether all requests of every option were due at the same moment, as a dataset's are."""
    due = [each.timing.due_s for each in options if len(each.timing.due_s)]
    return bool(due) and all(len(each) > 1 and float(np.ptp(each)) == 0 for each in due)


def heat_of(options: Sequence[Option], objective_s: float) -> Heat | None:
    """The answers of all ``options`` that have enough of them; None where none has."""
    known = [each for each in options if int(each.timing.answered.sum()) >= FEWEST_ANSWERS]
    if not known:
        return None
    answers = [_answers(each) for each in known]
    last_s = max(float(due.max()) for due, _ in answers) * (1 + 1e-9) or 1.0
    low = min(float(latency.min()) for _, latency in answers)
    high = max(float(latency.max()) for _, latency in answers)
    edges = np.geomspace(low, max(high, 2 * low), ROWS + 1)
    grids = tuple(
        Grid(option.mode, _counted(pair, edges, last_s))
        for option, pair in zip(known, answers, strict=True)
    )
    spans = tuple(_spans(pair, last_s, objective_s) for pair in answers)
    return Heat(grids, edges, last_s, _levels(grids), spans)


def _answers(option: Option) -> tuple[Floats, Floats]:
    timing = option.timing
    good = timing.answered
    return timing.due_s[good], np.maximum(timing.latency_s[good], 1e-6)


def _counted(pair: tuple[Floats, Floats], edges: Floats, last_s: float) -> npt.NDArray[np.int64]:
    due, latency = pair
    column = np.clip((due / last_s * COLUMNS).astype(np.int64), 0, COLUMNS - 1)
    row = np.clip(np.searchsorted(edges, latency, side="right") - 1, 0, ROWS - 1)
    return np.bincount(row * COLUMNS + column, minlength=ROWS * COLUMNS).reshape(ROWS, COLUMNS)


def _levels(grids: Sequence[Grid]) -> tuple[int, ...]:
    """1, 2, 5, 10 … up to the fullest cell, every second or third where these are too many."""
    most = max(int(grid.counts.max()) for grid in grids)
    every = [step * 10**power for power in range(19) for step in _STEPS]
    every = [level for level in every if level <= most]
    thin = -(-len(every) // MOST_LEVELS)
    return tuple(every[::thin])


def _spans(pair: tuple[Floats, Floats], last_s: float, objective_s: float) -> tuple[Span, ...]:
    due, latency = pair
    cell = np.clip((due / last_s * SPANS).astype(np.int64), 0, SPANS - 1)
    found = []
    for number in range(SPANS):
        mine = latency[cell == number]
        if len(mine):
            p50, p95 = np.quantile(mine, (0.5, 0.95), method="inverted_cdf")
            begins, ends = (last_s * at / SPANS for at in (number, number + 1))
            late = float((mine > objective_s).mean())
            found.append(
                Span(begins, ends, len(mine), float(p50), float(p95), float(mine.max()), late)
            )
    return tuple(found)
