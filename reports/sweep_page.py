"""A sweep's report: one HTML page, and the same for the terminal."""

from collections.abc import Sequence
from math import floor, log10
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench import __version__
from reports.again import again
from reports.markup import environment, style, style_hash, write_whole
from reports.option import MEETS
from reports.styles import INK
from reports.svg import NARROW, WIDE, Frame, drawing, inline
from reports.sweep import Size, SweepReport, table, title
from reports.sweep_traffic import by_traffic
from reports.words import count, quantile, seconds, share, usd

NEAR = 2.2
_MOST_TICKS = 4
_COLOUR, _WARM = "#d55e00", "#0072b2"
_STYLES = {"meets": "green", "misses": "red", "undecided": "yellow", "invalid": "red"}


def write_sweep_page(report: SweepReport, path: Path) -> Path:
    """Write the report to ``path``, whole or not at all; where it is now."""
    return write_whole(sweep_page(report), path)


def sweep_page(report: SweepReport) -> str:
    """The report as HTML; no script, no network, every text escaped."""
    head, rows = table(report)
    runs = [size.option.run for size in report.sizes]
    objective, first = report.workload.objective, report.sizes[0].option.summary
    values: dict[str, Any] = {
        "style": style(),
        "style_hash": style_hash(),
        "version": __version__,
        "tab": report.headline,
        "badge": _badge(report),
        "title": title(report),
        "facts": f"{count(first.sent)} requests over {seconds(first.simulated_s)}, the same for "
        f"each {report.name}.",
        "eyebrow": f"Best {report.name}",
        "headlines": [_marked(report)],
        "because": [report.because],
        "cares": [(label, doubt.text) for label, doubt in report.doubts],
        "head": head,
        "rows": rows,
        "objective": f"{share(objective.quantile)} within {seconds(objective.latency_s)}, "
        f"at most {share(objective.error_rate)} failed",
        "drawn": _figure(report),
        "traffic": by_traffic(report),
        "prices": report.prices,
        "enforced": [
            (size.label, [f"{name}: {text}" for name, text in run.manifest["enforced"].items()])
            for size, run in zip(report.sizes, runs, strict=True)
        ],
        "again": again(runs),
    }
    return environment().get_template("sweep.html.j2").render(values)


def _badge(report: SweepReport) -> dict[str, str]:
    if not report.valid:
        return {"kind": "bad", "icon": "▲", "text": "Invalid measurement"}
    if report.best is not None:
        return {"kind": "good", "icon": "✓", "text": "Valid measurement, objective met"}
    if report.met:
        return {"kind": "care", "icon": "◆", "text": "Valid measurement, undecided"}
    return {"kind": "bad", "icon": "✕", "text": "Valid measurement, objective missed"}


def _marked(report: SweepReport) -> str:
    """The headline with the best value made strong."""
    if report.best is None:
        return report.headline
    return report.headline.replace(report.best.label, f"**{report.best.label}**", 1)


def _figure(report: SweepReport) -> dict[str, Any]:
    shows = "; ".join(
        f"{size.label}: {seconds(size.latency_s)}, {usd(size.option.cost.month_usd)} a month"
        for size in report.sizes
    )
    return {
        "slug": "sweep",
        "title": "Latency against the cost of a month",
        "basis": "latency measured with modelled placement, cost modelled",
        "svg": Markup(_drawn(report)),
        "how_to_read": f"Each round point is one {report.name}, each square its median; filled "
        "points are proved to meet the objective. Lower is faster, further left is cheaper.",
        "shows": f"{shows}.",
        "table": None,
    }


def render_sweep(report: SweepReport) -> RenderableType:
    """Headline, sizes and doubts, readable at 80 columns."""
    head, rows = table(report)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(head):
        grid.add_column(name, justify="left" if number < 2 else "right")
    for row in rows:
        verdict = Text(row[1], _STYLES.get(row[1], ""))
        grid.add_row(Text(row[0]), verdict, *(Text(cell) for cell in row[2:]))
    return Group(
        Text(report.headline, "bold"),
        Text(report.because, "dim"),
        Text(),
        grid,
        *(
            Text(f"- {f'{label}: ' if label else ''}{doubt.text}", "dim")
            for label, doubt in report.doubts
        ),
        Text(),
        Text("Emulated on this machine, not AWS.", "dim"),
    )


def _drawn(report: SweepReport) -> str:
    shows = "; ".join(
        f"{size.label}: {seconds(size.latency_s)}, {usd(size.option.cost.month_usd)} a month"
        for size in report.sizes
    )
    found = []
    for frame in (WIDE, NARROW):
        with drawing("sweep", frame) as figure:
            _plot(figure, frame, report)
            found.append(inline(figure, "sweep", frame, ("Latency against cost", shows)))
    return "".join(found)


def _ticks(low: float, high: float) -> list[float]:
    """Round amounts between the least and the greatest; these two where there are too few."""
    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    every = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    found = [each for each in every if low <= each <= high]
    found = found[:: max(1, -(-len(found) // _MOST_TICKS))]
    return found if len(found) > 1 else sorted({low, high})


def _plot(figure: Figure, frame: Frame, report: SweepReport) -> None:
    axes = figure.add_subplot()
    sizes: Sequence[Size] = [size for size in report.sizes if size.latency_s is not None]
    objective = report.workload.objective
    q = quantile(objective.quantile)
    cost = [max(size.option.cost.month_usd, 1e-9) for size in sizes]
    slow = [size.latency_s or 0.0 for size in sizes]
    usual = [size.option.summary.latency_s.at(0.5) or 0.0 for size in sizes]
    axes.plot(cost, slow, "-", color=_COLOUR, lw=1.4, label=f"{q}, cold starts included")
    axes.plot(cost, usual, "--", color=_WARM, lw=1.2, marker="s", ms=3.5, label="p50")
    for size, x, y in zip(sizes, cost, slow, strict=True):
        full = size.standing.verdict == MEETS
        axes.plot(x, y, "o", mec=_COLOUR, mfc=_COLOUR if full else "none", ms=6)
        weight = "bold" if size is report.best else "normal"
        # A name just under the objective's line would be struck through by it.
        below = 1 < objective.latency_s / y < NEAR
        offset = (0, -15) if below else (0, 8)
        axes.annotate(
            size.label, (x, y), offset, textcoords="offset points", ha="center", fontweight=weight
        )
    axes.axhline(objective.latency_s, color=INK, lw=0.9, ls=(0, (2, 2)), alpha=0.8)
    axes.annotate(
        f"objective {seconds(objective.latency_s)}",
        (0.0, objective.latency_s),
        (4, 4),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
    )
    axes.set(xscale="log", yscale="log")
    axes.margins(x=0.15, y=0.2)
    axes.set_xlabel("cost of a month of this traffic")
    axes.xaxis.set_major_locator(FixedLocator(_ticks(min(cost), max(cost))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: usd(value)))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    columns = 1 if frame.narrow else 2
    figure.legend(loc="outside upper left", ncols=columns, borderaxespad=0, handlelength=2.2)
