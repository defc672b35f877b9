"""The answer as Markdown and CSV."""

import csv
import io
from pathlib import Path

import pytest

from reports.files import costs_csv, markdown, options_csv, write_files
from reports.report import Report, make_report
from tests.make_runs import make_pair, workload

HOSTILE = "</table><script>alert(1)</script> | **b** `c` $x$ ![i](http://e) \u202e rtl"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    given = workload(4.5, title=HOSTILE)
    return make_report(make_pair(tmp_path_factory.mktemp("runs"), given))


def test_the_answer_comes_first_after_the_title(report: Report) -> None:
    """With the option in bold and the table behind it."""
    text = markdown(report)
    assert "> Use **serverless**: it answered" in text
    assert text.index("> Use") < text.index("| Figure |")
    assert "Emulated on one machine, not AWS" in text


def test_text_of_the_user_cannot_become_markup(report: Report) -> None:
    """No tag, no link, no image, no column of its own."""
    title = markdown(report).splitlines()[0]
    for raw in ("<script", "![i]", "**b**", "`c`", " | ", "$x$"):
        assert raw not in title


def test_every_row_of_the_table_has_as_many_cells(report: Report) -> None:
    """Whatever the cells hold."""
    rows = [line for line in markdown(report).splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


def test_the_csv_holds_plain_numbers(report: Report) -> None:
    """One line an option, in SI units, that a program reads back."""
    lines = list(csv.DictReader(io.StringIO(options_csv(report))))
    assert [line["mode"] for line in lines] == ["realtime", "serverless"]
    for line, option in zip(lines, report.options, strict=True):
        assert float(line["p95_s"]) == option.summary.latency_s.at(0.95)
        assert float(line["month_usd"]) == option.cost.month_usd


def test_the_lines_of_the_bill_add_up(report: Report) -> None:
    """To the cost of the period."""
    lines = list(csv.DictReader(io.StringIO(costs_csv(report))))
    for option in report.options:
        mine = [float(line["amount_usd"]) for line in lines if line["mode"] == option.mode]
        assert sum(mine) == pytest.approx(option.cost.amount_usd)


def test_the_files_are_written_side_by_side(report: Report, tmp_path: Path) -> None:
    """Three of them, none empty."""
    written = write_files(report, tmp_path)
    assert [path.name for path in written] == ["summary.md", "options.csv", "costs.csv"]
    assert all(path.stat().st_size > 100 for path in written)
