"""The report as one HTML file: no script, no network, every text of the user escaped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bench import __version__
from reports import words
from reports.again import again
from reports.costs import is_dataset
from reports.drawn import Drawn, Missing
from reports.figures import figures
from reports.markup import environment, style, style_hash, write_whole
from reports.option import INVALID
from reports.pathway import pathway
from reports.peers import HEAD, Peer, cells_of
from reports.recommendation import CANNOT_TELL, NO_NUMBERS, NONE_MEETS, NOT_MEASURED
from reports.report import Report
from reports.rows import bill, limit_rows, option_rows
from reports.verdict import sentence
from reports.waking import waking

_CONTENTS = (
    ("options", "Options"),
    ("path", "Decision"),
    ("figures", "Measured"),
    ("bill", "Cost"),
    ("changes", "What would change it"),
    ("fidelity", "Not AWS"),
    ("again", "Reproduce"),
)
_BARS = ("cost",)
_WHAT_IF = ("volume", "map", "tornado")
_SECTIONS = ("options", "limits", "again")


def write_page(report: Report, path: Path, peers: Sequence[Peer] = ()) -> Path:
    """Write the report to ``path``, whole or not at all; where it is now."""
    return write_whole(page(report, peers), path)


def page(report: Report, peers: Sequence[Peer] = ()) -> str:
    """The report as HTML, with ``peers`` beside the options; the same gives the same bytes."""
    answer = report.recommendation
    every = figures(report)
    drawn = [each for each in every if isinstance(each, Drawn)]
    values: dict[str, Any] = {
        "style": style(),
        "style_hash": style_hash(),
        "version": __version__,
        "workload": report.workload,
        "answer": answer,
        "plain_headline": answer.headline.replace("**", ""),
        "badge": _badge(report),
        "measured": [(each.mode, sentence(each.run, each.summary)) for each in report.options],
        "facts": _facts(report),
        "invalid": [pair for pair in report.doubts if pair[1].invalid],
        "cares": [pair for pair in report.doubts if not pair[1].invalid],
        "contents": _CONTENTS,
        "objective": _objective(report),
        "modes": [option.mode for option in report.options],
        "rows": option_rows(report),
        "pathway": Markup(pathway(answer.chart)),
        "figures": [_marked(each) for each in drawn if each.slug not in (*_BARS, *_WHAT_IF)],
        "missing": [each for each in every if isinstance(each, Missing)],
        "bars": [_marked(each) for each in drawn if each.slug in _BARS],
        "whatif": [_marked(each) for each in drawn if each.slug in _WHAT_IF],
        "anchors": _anchors(drawn),
        "limits": limit_rows(report),
        "capacities": [
            (option.mode, option.cost.capacity.text)
            for option in report.options
            if option.cost.fleet and option.cost.fleet.least > 0
        ],
        "wakings": [(each.mode, text) for each in report.options if (text := waking(each))],
        "period": report.options[0].period,
        "prices": report.prices,
        "bill": bill(report),
        "errors": [
            (option.mode, code, n) for option in report.options for code, n in option.summary.errors
        ],
        "ledger": [entry for entry in report.ledger if not entry.setting],
        "settings": [entry for entry in report.ledger if entry.setting],
        "again": again([each.run for each in report.options]),
        "coded": ("Command", "Model hash", "Folders"),
    }
    values |= _beside(report, peers)
    return environment().get_template("page.html.j2").render(values)


def _beside(report: Report, peers: Sequence[Peer]) -> dict[str, Any]:
    """The peers' table, the options first; no rows where no peer was measured."""
    rows = [*(cells_of(each) for each in report.options), *(peer.cells for peer in peers)]
    return {
        "beside_head": HEAD,
        "beside_rows": rows if peers else [],
        "beside_cares": [
            (peer.name, doubt.text) for peer in peers for doubt in peer.summary.doubts
        ],
    }


def _anchors(drawn: Sequence[Drawn]) -> dict[str, str]:
    """Where evidence lies on the page; what is not drawn is found with the options."""
    present = {f"fig-{each.slug}" for each in drawn} | set(_SECTIONS)
    return {name: name for name in present}


def _marked(drawn: Drawn) -> dict[str, Any]:
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
    real_s = sum(each.summary.real_s for each in report.options)
    took = f", in {words.seconds(real_s)} of real time" if real_s else ""
    n = len(report.options)
    each = f"each of {n} options" if n > 1 else words.mode(option.mode)
    what = (
        f"a dataset of {words.count(summary.sent)} records"
        if is_dataset(option.run)
        else f"{words.count(summary.sent)} requests over {words.seconds(summary.simulated_s)}"
    )
    return f"Workload “{report.workload.name}”, measured {began}: {what} with {each}{took}."


def _objective(report: Report) -> str:
    objective = report.workload.objective
    return (
        f"{words.share(objective.quantile)} within {words.seconds(objective.latency_s)}, "
        f"at most {words.share(objective.error_rate)} failed"
    )
