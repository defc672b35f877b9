"""The answer as files for people and programs: Markdown and CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from reports.report import Report
from reports.rows import option_rows
from reports.words import mode

_SPECIAL = str.maketrans(
    {each: f"\\{each}" for each in "\\`*_{}[]#|!~$"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    | {chr(code): "" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
)
"""Markup becomes text, and what turns the direction of writing is left out."""


def write_files(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write ``summary.md``, ``options.csv`` and ``costs.csv`` into ``folder``; where they are."""
    texts = {
        "summary.md": markdown(report),
        "options.csv": options_csv(report),
        "costs.csv": costs_csv(report),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in texts)


def markdown(report: Report) -> str:
    """The answer in GitHub's Markdown; texts of the user cannot become markup."""
    answer = report.recommendation
    rows = option_rows(report)
    head = ["Figure", "Basis", *(mode(option.mode).capitalize() for option in report.options)]
    table = [[row.label, row.basis, *(cell.text for cell in row.cells)] for row in rows]
    parts = [
        f"## {_plain(report.workload.title)}",
        _invalid(report),
        _headline(answer.headline),
        f"Confidence: **{answer.confidence}**. {_plain(answer.confidence_because)}",
        _plain(answer.agreement),
        _table(head, table),
        "### What would change the answer",
        _list([f"{each.name}: {each.text}" for each in answer.changes]),
        "### The way through the decision chart",
        _list(
            [
                f"{step.question} {step.answer.capitalize()}. {step.because} "
                f"({step.measure.what}: {step.measure.value}; {step.measure.threshold}; "
                f"{step.measure.margin})"
                for step in answer.chart.steps
            ]
        ),
        _care(report),
        "*Emulated on one machine, not AWS.*",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def options_csv(report: Report) -> str:
    """One line an option, plain numbers in SI units."""
    head = (
        *("mode", "verdict", "requests", "failed", "share_in_time", "share_low", "share_high"),
        *("p50_s", "p95_s", "p99_s", "max_s", "cold_share", "amount_usd", "month_usd"),
    )
    verdicts = {s.mode: s.verdict for s in report.recommendation.standings}
    lines: list[Sequence[object]] = [head]
    for option in report.options:
        summary, cost = option.summary, option.cost
        times = [summary.latency_s.at(q) for q in (0.5, 0.95, 0.99)]
        within = summary.within
        lines.append(
            (
                *(option.mode, verdicts[option.mode], summary.sent, summary.failed),
                *(within.share, within.low, within.high),
                *("" if each is None else each for each in (*times, summary.latency_s.max_s)),
                summary.cold.share,
                *((cost.amount_usd, cost.month_usd) if cost.priced else ("", "")),
            )
        )
    return _csv(lines)


def costs_csv(report: Report) -> str:
    """Every line of every bill."""
    head = ("mode", "item", "quantity", "unit", "rate_usd", "amount_usd", "basis", "source")
    lines: list[Sequence[object]] = [head]
    for option in report.options:
        for item in option.cost.items:
            numbers = (item.quantity, item.unit, item.rate_usd, item.amount_usd)
            lines.append((option.mode, item.name, *numbers, item.basis, item.source))
    return _csv(lines)


def _csv(lines: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_safe(value) for value in line] for line in lines)
    return out.getvalue()


def _safe(value: object) -> object:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _plain(text: str) -> str:
    return " ".join(text.translate(_SPECIAL).split())


def _headline(marked: str) -> str:
    parts = [_plain(part) for part in marked.split("**")]
    spaced = [f"**{part}**" if odd % 2 else part for odd, part in enumerate(parts)]
    return "> " + " ".join(spaced).replace("** :", "**:").replace("** ,", "**,")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines).replace(
        "\\---", "---"
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _invalid(report: Report) -> str:
    found = [_named(name, doubt.text) for name, doubt in report.doubts if doubt.invalid]
    return f"**This measurement is invalid, not slow.**\n\n{_list(found)}" if found else ""


def _care(report: Report) -> str:
    found = [_named(name, doubt.text) for name, doubt in report.doubts if not doubt.invalid]
    return f"### Read with care\n\n{_list(found)}" if found else ""


def _named(name: str, text: str) -> str:
    return f"{mode(name).capitalize()}: {text}" if name else text
