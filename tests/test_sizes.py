"""The part of the report on large bodies."""

from pathlib import Path

import numpy as np

from bench.run import Run
from reports.costs import read_prices
from reports.report import make_report
from reports.rows import option_rows
from tests.make_runs import make_failed, make_run, records


def runs(folder: Path, sizes: list[int]) -> list[Run]:
    """Real-time answers all, serverless nothing above 4 MB."""
    found = []
    for mode in ("realtime", "serverless"):
        rows = records(100, 600.0)
        rows["request_bytes"] = np.resize(sizes, 100)
        if mode == "serverless":
            make_failed(rows, rows["request_bytes"] > 4_194_304, b"ValidationError", 400)
        found.append(make_run(folder / mode, mode, rows))
    return found


def test_the_report_shows_which_sizes_an_option_takes(tmp_path: Path) -> None:
    """One row a size: the share that was answered, and the error of the rest."""
    report = make_report(runs(tmp_path, [500_000, 6_000_000]), read_prices(None))
    rows = {row.label: row.cells for row in option_rows(report)}
    small, large = rows["Answered, bodies of 500 kB"], rows["Answered, bodies of 6 MB"]
    assert [cell.text for cell in small] == ["100 %", "100 %"]
    assert [(cell.text, cell.note) for cell in large] == [("100 %", ""), ("0 %", "ValidationError")]


def test_small_or_many_sizes_make_no_rows(tmp_path: Path) -> None:
    """Where size cannot matter, or a table would not end, there is none."""
    for number, sizes in enumerate(([200, 400], [5_000_000], list(range(10**6, 10**6 + 20)))):
        report = make_report(runs(tmp_path / str(number), sizes), read_prices(None))
        assert not [row for row in option_rows(report) if "bodies" in row.label]
