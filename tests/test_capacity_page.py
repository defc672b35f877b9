"""The page of a search for the capacity: the answer, its reason, and every rate that was tried."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bench.capacity import INVALID, MEETS, MISSES, Step, capacity
from bench.cli import cli
from bench.commands.searching import is_search
from bench.errors import FAILED, PASSED, ConfigError
from reports.capacity import read_findings
from reports.capacity_page import capacity_page
from reports.pricing import read_prices
from tests.browsing import PROBE
from tests.make_runs import make_pair, make_run, records, workload

STEPS = (
    Step(40, 40, 0.02, 0.01, 500, 0.0, MEETS),
    Step(80, 80, 0.03, 0.01, 500, 0.0, MEETS),
    Step(120, 118, 0.06, 0.02, 500, 0.0, INVALID, "The load generator was late."),
    Step(160, 150, 0.4, 0.2, 500, 0.0, MISSES),
    Step(320, 150, None, None, 500, 0.3, MISSES),
)


def make_search(folder: Path, *modes: str, steps: tuple[Step, ...] = STEPS) -> Path:
    """The folder of a search, as it is left behind."""
    for mode in modes:
        make_run(folder / mode / "01", mode, records(40, 10.0), workload=workload(title=PROBE))
        found = msgspec.to_builtins(capacity(0.99, 0.1, steps))
        (folder / mode / "capacity.json").write_text(json.dumps(found))
    return folder


def test_the_page_says_how_much_each_option_takes_and_between_which_rates(tmp_path: Path) -> None:
    """One sentence an option, the two rates that decide it, a row a rate, a curve in two sizes."""
    found = read_findings(make_search(tmp_path, "realtime", "serverless"))
    page = capacity_page(found, read_prices())
    text = re.sub(r"<[^>]+>", "", page).replace("\u00a0", " ")
    assert "Real-time meets p99 within 100 ms up to 80 requests a second" in text
    assert "At 80 requests a second, p99 was 30 ms; at 160 requests a second it was 400 ms." in text
    assert "would carry 210 million requests a month" in text
    assert "1 of 5 rates do not count" in text
    assert page.count("<svg") == 4
    assert page.count('<th scope="row">') == 2 * len(STEPS)
    assert capacity_page(found, read_prices()) == page


def test_the_page_needs_no_network_and_keeps_text_text(tmp_path: Path) -> None:
    """No script, no address; a title with markup in it is inert."""
    page = capacity_page(read_findings(make_search(tmp_path, "realtime")), read_prices())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)


def test_a_search_that_met_it_nowhere_says_at_which_rate_it_failed(tmp_path: Path) -> None:
    """The lowest rate that was tried is the reason."""
    found = read_findings(make_search(tmp_path, "realtime", steps=STEPS[4:]))
    page = capacity_page(found, read_prices())
    assert "Real-time met p99 within 100\u00a0ms at no rate that was tried." in page
    assert "At 320 requests a second 30\u00a0% failed." in page
    assert "Objective missed at every rate" in page


@pytest.mark.parametrize(("steps", "code"), [(STEPS, PASSED), (STEPS[3:], FAILED)])
def test_the_page_can_be_made_again(tmp_path: Path, steps: tuple[Step, ...], code: int) -> None:
    """`weighbridge report FOLDER` knows a search, and its exit code says whether a rate was met."""
    folder = make_search(tmp_path, "realtime", steps=steps)
    done = CliRunner().invoke(cli, ["report", str(folder)])
    assert done.exit_code == code, done.output
    assert "requests" in done.output
    assert (folder / "report.html").exists()


def test_a_run_that_took_over_a_curve_is_no_search(tmp_path: Path) -> None:
    """Its report stays the report of the run."""
    runs = make_pair(tmp_path, workload(4.5))
    (runs[0].folder / "capacity.json").write_text("{}")
    assert not is_search(tmp_path)
    assert is_search(make_search(tmp_path / "search", "realtime"))


def test_a_spoiled_search_is_named(tmp_path: Path) -> None:
    """The file, and what to do."""
    folder = make_search(tmp_path, "realtime")
    (folder / "realtime" / "capacity.json").write_text('{"quantile": "much"}')
    with pytest.raises(ConfigError, match=r"capacity\.json is no capacity.*Search again"):
        read_findings(folder)
