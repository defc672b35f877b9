"""The report of a search for the highest rate, written and printed."""

from pathlib import Path
from typing import Any

from rich.console import Console

from bench.errors import FAILED, PASSED


def is_search(folder: Path) -> bool:
    """Whether ``folder`` is that of a search: a curve of an option, and no run of it beside."""
    return any(
        not (path.parent / "requests.parquet").exists() for path in folder.glob("*/capacity.json")
    )


def write_capacity_report(folder: Path, console: Console, prices: Any) -> int:
    """Write the page into ``folder``, print the same and where it is; the exit code."""
    from reports.capacity import Findings, read_findings
    from reports.capacity_page import write_capacity_page

    found = read_findings(folder)
    page = write_capacity_page(found, prices, folder / "report.html")
    console.print()
    console.print(Findings({each.mode: each.capacity for each in found}))
    console.print(f"Report: {page}", soft_wrap=True)
    return PASSED if any(each.capacity.highest_rps for each in found) else FAILED
