"""The report as one HTML file: no script, no network, every text of the user escaped."""

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bench import __version__
from reports import words
from reports.figures import figures
from reports.option import INVALID
from reports.pathway import pathway
from reports.recommendation import CANNOT_TELL, NO_NUMBERS, NONE_MEETS, NOT_MEASURED
from reports.report import Report
from reports.rows import again, bill, option_rows

_STYLE = Path(__file__).with_name("page.css")
_CONTENTS = (
    ("options", "Options"),
    ("path", "Decision"),
    ("figures", "Measured"),
    ("changes", "What would change it"),
    ("fidelity", "Not AWS"),
    ("again", "Reproduce"),
)
_NUMBER_AND_UNIT = re.compile(r"(\d) (%|ms|s|min|h|days|MB|GB|kB|bytes|million|billion|times)\b")
_NUMBER_AND_PERCENT = re.compile(r"(\d) %")


def write_page(report: Report, path: Path) -> Path:
    """Write the report to ``path``, whole or not at all; where it is now."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(page(report), encoding="utf-8")
    os.replace(draft, path)
    return path


def page(report: Report) -> str:
    """The report as HTML; the same report gives the same bytes."""
    style = _STYLE.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    answer = report.recommendation
    values: dict[str, Any] = {
        "style": Markup(style),
        "style_hash": f"sha256-{digest}",
        "version": __version__,
        "workload": report.workload,
        "answer": answer,
        "plain_headline": answer.headline.replace("**", ""),
        "badge": _badge(report),
        "facts": _facts(report),
        "invalid": [pair for pair in report.doubts if pair[1].invalid],
        "cares": [pair for pair in report.doubts if not pair[1].invalid],
        "contents": _CONTENTS,
        "objective": _objective(report),
        "modes": [option.mode for option in report.options],
        "rows": option_rows(report),
        "pathway": Markup(pathway(answer.chart)),
        "figures": [_marked(drawn) for drawn in figures(report)],
        "period": words.seconds(report.options[0].summary.simulated_s),
        "prices": report.prices,
        "bill": bill(report),
        "errors": [
            (option.mode, code, n) for option in report.options for code, n in option.summary.errors
        ],
        "ledger": report.ledger,
        "again": again(report),
        "coded": ("Command", "Model hash", "Folders"),
    }
    return _environment().get_template("page.html.j2").render(values)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"mode": words.mode, "nb": _unbroken, "strong": _strong}
    return made


def _unbroken(text: str) -> str:
    """``text`` with each number kept on one line with its unit."""
    kept = _NUMBER_AND_UNIT.sub("\\1\u00a0\\2", text)
    return _NUMBER_AND_PERCENT.sub("\\1\u00a0%", kept)


def _strong(text: str) -> Markup:
    """``text`` escaped, with what stands between double asterisks made strong."""
    parts = [escape(_unbroken(part)) for part in text.split("**")]
    return Markup("").join(
        Markup("<strong>{}</strong>").format(part) if odd % 2 else part
        for odd, part in enumerate(parts)
    )


def _marked(drawn: Any) -> dict[str, Any]:
    return {**vars(drawn), "svg": Markup(drawn.svg)}


def _badge(report: Report) -> dict[str, str]:
    answer = report.recommendation
    if not report.valid or answer.outcome == NO_NUMBERS:
        bad = [s for s in answer.standings if s.verdict == INVALID]
        names = " and ".join(words.mode(standing.mode) for standing in bad)
        return {"kind": "bad", "icon": "▲", "text": f"Invalid measurement: {names}"}
    if answer.outcome == CANNOT_TELL:
        return {"kind": "care", "icon": "◆", "text": "Valid measurement, undecided"}
    if answer.outcome == NONE_MEETS:
        return {"kind": "bad", "icon": "✕", "text": "Valid measurement, objective missed"}
    if answer.outcome == NOT_MEASURED:
        return {"kind": "care", "icon": "◆", "text": "By the chart, not measured"}
    return {"kind": "good", "icon": "✓", "text": "Valid measurement, objective met"}


def _facts(report: Report) -> str:
    option = report.options[0]
    summary = option.summary
    began = str(option.run.manifest.get("started_at", ""))[:10]
    real = words.seconds(sum(each.summary.real_s for each in report.options))
    return (
        f"Workload “{report.workload.name}”, measured {began}: {words.count(summary.sent)} "
        f"requests over {words.seconds(summary.simulated_s)} with each of "
        f"{len(report.options)} options, in {real} of real time."
    )


def _objective(report: Report) -> str:
    objective = report.workload.objective
    return (
        f"{words.share(objective.quantile)} within {words.seconds(objective.latency_s)}, "
        f"at most {words.share(objective.error_rate)} failed"
    )
