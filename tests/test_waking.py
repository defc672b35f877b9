"""What scaling to zero costs and saves, from runs with a known truth."""

from pathlib import Path

from bench.run import Run
from reports.costs import cost_of
from reports.option import Option
from reports.page import page
from reports.pricing import read_prices
from reports.report import make_report
from reports.summary import summarise
from reports.waking import waking
from tests.make_queued import async_run, note, queued, stay
from tests.make_runs import make_cold, realistic


def option(run: Run) -> Option:
    summary = summarise(run)
    return Option(run, summary, cost_of(run, summary, read_prices()))


def test_a_day_tells_what_waking_costs_in_minutes_and_saves_in_dollars(tmp_path: Path) -> None:
    """Two hours of rent instead of 24, for three requests that waited more than two minutes."""
    rows = make_cold(queued(realistic("realtime")), slice(0, 3), placement_s=90.0)
    run = async_run(tmp_path, rows)
    text = waking(option(run))
    assert text is not None
    assert "3 of " in text
    assert "2 min" in text
    assert "2 of 24 hours, $0.23 instead of $2.76 for one that stays" in text
    assert "$76.95 a month less" in text
    assert text.split(":")[0] in page(make_report([run]))


def test_where_an_instance_stays_nothing_is_said(tmp_path: Path) -> None:
    """Nor where nobody waited."""
    assert waking(option(async_run(tmp_path / "no-one"))) is None
    rows = make_cold(queued(realistic("realtime")), slice(0, 3))
    stays = note(async_run(tmp_path / "stays", rows), *stay("i-1", 0.0))
    assert waking(option(stays)) is None
