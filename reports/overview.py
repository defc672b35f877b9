"""An index of a folder of runs, newest first, with the trend of each workload."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from bench.errors import ConfigError
from reports.drawn import Drawn, both, frames, sentence
from reports.sheet import Part, Sheet, Value, clipped
from reports.styles import colour_of, line_of, marker_of
from reports.svg import Frame
from reports.words import count, mode, seconds, share, usd

ANSWER, PAGE = "recommendation.json", "report.html"
MOST_ENTRIES = 1000
MOST_BYTES = 20_000_000
FEWEST_FOR_A_TREND = 2
MOST_TRENDS = 30


@dataclass(frozen=True)
class Point:
    """What one option did in one bench."""

    mode: str
    p95_s: float | None
    month_usd: float | None
    share_in_time: float | None


@dataclass(frozen=True)
class Bench:
    """One folder with an answer."""

    folder: str
    started_at: str
    workload: str
    title: str
    outcome: str
    chosen: str | None
    valid: bool
    has_page: bool
    points: tuple[Point, ...]


def benches(runs: Path) -> tuple[tuple[Bench, ...], tuple[str, ...]]:
    """Every bench in the folder ``runs``, newest first, and what could not be read.

    At most `MOST_ENTRIES`, the newest by name.
    """
    if not runs.is_dir():
        raise ConfigError(f"{runs} is no folder. Name the folder that holds the runs.")
    found, broken = [], []
    folders = sorted((p.parent for p in runs.glob(f"*/{ANSWER}")), reverse=True)
    real = [folder for folder in folders if not folder.is_symlink()]
    for folder in real[:MOST_ENTRIES]:
        try:
            found.append(_bench(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            broken.append(f"{clipped(folder.name)} cannot be read: {clipped(repr(error))}")
    if len(real) > MOST_ENTRIES:
        broken.append(f"Only the newest {MOST_ENTRIES} of {len(real)} benches are listed.")
    found.sort(key=lambda bench: bench.started_at, reverse=True)
    return tuple(found), tuple(broken)


def _bench(folder: Path) -> Bench:
    path = folder / ANSWER
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    answer = json.loads(path.read_text(encoding="utf-8"))
    workload = answer["workload"]
    return Bench(
        folder=folder.name,
        started_at=_started(folder, answer),
        workload=str(workload["name"]),
        title=str(workload["title"]),
        outcome=str(answer["outcome"]),
        chosen=None if answer["mode"] is None else str(answer["mode"]),
        valid=bool(answer["valid"]),
        has_page=(folder / PAGE).is_file(),
        points=tuple(_point(option) for option in answer["options"]),
    )


def _started(folder: Path, answer: dict[str, Any]) -> str:
    for option in answer["options"]:
        manifest = folder / Path(option["run"]).name / "manifest.json"
        if manifest.is_file():
            text = json.loads(manifest.read_text(encoding="utf-8")).get("started_at")
            if text:
                return str(text)
    return ""


def _point(option: dict[str, Any]) -> Point:
    summary = option["summary"]
    p95 = [each["value_s"] for each in summary["latency_s"]["quantiles"] if each["q"] == 0.95]
    month = option["cost"].get("month_usd")
    return Point(
        mode=str(option["mode"]),
        p95_s=float(p95[0]) if p95 and p95[0] is not None else None,
        month_usd=None if month is None else float(month),
        share_in_time=float(summary["within"]["share"]),
    )


def sheet(runs: Path) -> Sheet:
    """The index of ``runs`` as a page."""
    found, broken = benches(runs)
    workloads = list(dict.fromkeys(bench.workload for bench in found))
    drawn = [
        _trend(name, i, [b for b in found if b.workload == name])
        for i, name in enumerate(workloads[:MOST_TRENDS])
    ]
    trends = tuple(each for each in drawn if each)
    parts = [_table(found)]
    if trends:
        parts.append(Part("trends", "Trends", figures=trends))
    return Sheet(
        kind="Index",
        title="Benches",
        facts=f"{count(len(found))} benches of {count(len(workloads))} workloads in "
        f"{clipped(runs.resolve().name)}, newest first.",
        parts=tuple(parts),
        doubts=broken,
    )


def _table(found: Sequence[Bench]) -> Part:
    rows = []
    for bench in found:
        link = f"{quote(bench.folder)}/{PAGE}" if bench.has_page else ""
        moment = bench.started_at.replace("T", " ")[:16] or bench.folder
        chosen = mode(bench.chosen) if bench.chosen else bench.outcome
        kind = "invalid" if not bench.valid else "meets" if bench.outcome == "use" else "undecided"
        rows.append(
            (
                Value(clipped(moment), link=link),
                Value(clipped(bench.workload), clipped(bench.title)),
                Value(clipped(chosen if bench.valid else f"{chosen} (invalid)"), kind=kind),
                _each(bench, lambda p: seconds(p.p95_s)),
                _each(bench, lambda p: share(p.share_in_time)),
                _each(bench, lambda p: usd(p.month_usd)),
            )
        )
    return Part(
        slug="benches",
        title="All benches",
        caption="Latency measured, cost modelled; each value by option.",
        head=("When", "Workload", "Answer", "p95", "In time", "A month"),
        rows=tuple(rows),
    )


def _each(bench: Bench, text: Any) -> Value:
    lines = (f"{mode(point.mode)} {text(point)}" for point in bench.points)
    return Value("\n".join(lines), kind="lines")


def _trend(name: str, number: int, found: Sequence[Bench]) -> Drawn | None:
    valid = [bench for bench in found[::-1] if bench.valid]
    if len(valid) < FEWEST_FOR_A_TREND:
        return None
    parts = []
    for option in dict.fromkeys(point.mode for bench in valid for point in bench.points):
        values = [p.p95_s for b in valid for p in b.points if p.mode == option and p.p95_s]
        if len(values) >= FEWEST_FOR_A_TREND:
            change = values[-1] / values[0]
            parts.append(
                f"{mode(option)}: p95 went from {seconds(values[0])} to {seconds(values[-1])}, "
                f"{change:.2f} times, over {len(values)} benches"
            )
    if not parts:
        return None
    slug = f"trend-{number}"
    title = f"p95 of {name}"
    return Drawn(
        slug=slug,
        title=clipped(title),
        basis="measured, with modelled placement in cold starts",
        svg=both((slug, clipped(title)), _draw, valid, parts, frames(200)),
        how_to_read=(
            "Each mark is a bench, the oldest on the left; benches stand side by side whatever "
            "time passed between them. Machines and settings may differ: open two reports, or "
            "compare their runs, before believing a step."
        ),
        shows=sentence(parts),
    )


def _draw(figure: Figure, frame: Frame, valid: Sequence[Bench]) -> None:
    axes = figure.add_subplot()
    for option in dict.fromkeys(point.mode for bench in valid for point in bench.points):
        pairs = [
            (x, point.p95_s)
            for x, bench in enumerate(valid)
            for point in bench.points
            if point.mode == option and point.p95_s
        ]
        if pairs:
            x, y = zip(*pairs, strict=True)
            look = {"color": colour_of(option), "ls": line_of(option), "lw": 1.4, "ms": 4.5}
            axes.plot(x, y, marker_of(option), label=mode(option), **look)
    last = len(valid) - 1
    axes.set(yscale="log", xlim=(-0.03 * max(1, last), 1.03 * max(1, last)))
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.3, high * 1.3)
    places = np.unique(np.linspace(0, last, 2 if frame.narrow else 4).round().astype(int))
    axes.xaxis.set_major_locator(FixedLocator([float(each) for each in places]))
    axes.set_xticks(places, [valid[int(each)].started_at[:10] for each in places])
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=2, borderaxespad=0, handlelength=2.2)
