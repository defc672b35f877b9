"""The answer in the terminal."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from reports.report import make_report
from reports.text import render
from tests.make_runs import make_pair, workload


def printed(folder: Path, latency_s: float, **changes: Any) -> str:
    out = io.StringIO()
    report = make_report(make_pair(folder, workload(latency_s), **changes))
    Console(file=out, width=80).print(render(report))
    return out.getvalue()


def test_the_recommendation_comes_first_and_fits_80_columns(tmp_path: Path) -> None:
    """Plain text when it is not a terminal: no escape codes."""
    text = printed(tmp_path, 4.5)
    assert text.startswith("Use serverless: it answered 100 % of requests within 4.5 s")
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "\x1b" not in text
    assert "**" not in text


def test_the_table_the_decision_and_the_doubts_are_there(tmp_path: Path) -> None:
    """With a mark at each quantile that too few requests support."""
    text = printed(tmp_path, 4.5)
    for part in ("✓ met", "Latency p99", "*", "Decision chart", "What would change the answer"):
        assert part in text
    assert "too few to support p99" in text
    assert "not AWS" in text


def test_an_invalid_measurement_is_said_before_anything_else(tmp_path: Path) -> None:
    """Nobody should read the numbers first."""
    assert printed(tmp_path, 4.5, load={"dropped": 2}).startswith("Invalid measurement")
