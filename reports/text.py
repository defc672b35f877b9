"""The same answer for the terminal."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.report import Report
from reports.rows import option_rows
from reports.verdict import sentence
from reports.words import mode

_STYLES = {"meets": "green", "misses": "red", "undecided": "yellow"}
_MIXED = "measured; placement modelled"
_STYLES |= {"invalid": "red", "excluded": "red"}


def render(report: Report) -> RenderableType:
    """Headline, options, decision, what would change it, doubts; readable at 80 columns."""
    answer = report.recommendation
    return Group(
        *_doubts(report, invalid=True),
        _headline(answer.headline),
        Text(f"Confidence: {answer.confidence}. {answer.confidence_because}", "dim"),
        Text(answer.agreement, "dim"),
        Text(),
        _table(report),
        *_footnote(report),
        *_measured(report),
        *(
            Text(f"{mode(name).capitalize()}, not measured. {reason}", "dim")
            for name, reason in answer.unmeasured
        ),
        *_steps(report),
        *_changes(report),
        *_doubts(report, invalid=False),
        Text(),
        Text("Emulated on this machine, not AWS. The page lists what the answer rests on.", "dim"),
    )


def _headline(marked: str) -> Text:
    text = Text()
    for odd, part in enumerate(marked.split("**")):
        text.append(part, "bold" if odd % 2 else "")
    return text


def _table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for option in report.options:
        table.add_column(mode(option.mode).capitalize(), justify="right")
    table.add_column("Basis", style="dim")
    for row in option_rows(report):
        cells = [
            Text(_with_note(cell.text, cell.note), _STYLES.get(cell.kind, "")) for cell in row.cells
        ]
        table.add_row(Text(row.label), *cells, row.basis.replace(_MIXED, "measured †"))
    return table


def _footnote(report: Report) -> list[Text]:
    notes = [cell.note for row in option_rows(report) for cell in row.cells]
    few = any(note.endswith("needed") for note in notes)
    mixed = any(row.basis == _MIXED for row in option_rows(report))
    return [
        *([Text("* too few requests to be sure of it", "dim")] if few else []),
        *([Text("† the wait for a machine in a cold start is modelled", "dim")] if mixed else []),
    ]


def _measured(report: Report) -> list[Text]:
    return [
        Text(f"{mode(option.mode).capitalize()}: {sentence(option.run, option.summary)}", "dim")
        for option in report.options
    ]


def _with_note(text: str, note: str) -> str:
    # A quantile that too few requests support keeps its mark here too.
    return f"{text} *" if note.endswith("needed") else text


def _steps(report: Report) -> list[RenderableType]:
    found: list[RenderableType] = [Text("\nDecision chart", "bold")]
    for number, step in enumerate(report.recommendation.chart.steps, 1):
        leads = f" So: {mode(step.leads_to)}." if step.leads_to else ""
        text = f"{number}. {step.question} {step.answer.capitalize()}. {step.because}{leads}"
        found.append(_indented(text))
    return found


def _changes(report: Report) -> list[RenderableType]:
    found: list[RenderableType] = [Text("\nWhat would change the answer", "bold")]
    return found + [_indented(f"- {each.text}") for each in report.recommendation.changes]


def _doubts(report: Report, invalid: bool) -> list[RenderableType]:
    chosen = [pair for pair in report.doubts if pair[1].invalid is invalid]
    if not chosen:
        return []
    title = "Invalid measurement" if invalid else "\nRead with care"
    found: list[RenderableType] = [Text(title, "bold red" if invalid else "bold")]
    for name, doubt in chosen:
        found.append(_indented(f"- {mode(name).capitalize() + ': ' if name else ''}{doubt.text}"))
    return found


def _indented(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 2))
