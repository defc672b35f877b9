"""Instances in service, from the events of a run."""

from pathlib import Path

import pytest

from reports.costs import cost_of, read_prices
from reports.fleets import Fleet, Stay, always_on, at_once, hours, stays
from reports.summary import summarise
from tests.make_queued import note, stay
from tests.make_runs import DAY_S, make_run, records

MONTH_S = 730 * 3600.0


def test_a_run_without_events_had_one_instance_all_the_time(tmp_path: Path) -> None:
    """If the option keeps one; none at all if it does not."""
    run = make_run(tmp_path, "realtime", records(9, 9.0))
    assert stays(run, always=True) == (Stay("", 0.0, DAY_S),)
    assert stays(run, always=False) == ()


def test_each_stay_is_from_in_service_to_stopped_or_the_end(tmp_path: Path) -> None:
    """An instance that started before the load counts from its start."""
    run = note(
        make_run(tmp_path, "realtime", records(9, 9.0)),
        *stay("a", -3.0),
        *stay("b", 100.0, 400.0),
    )
    assert stays(run, always=True) == (Stay("a", 0.0, DAY_S), Stay("b", 100.0, 400.0))


def test_a_job_is_billed_beyond_the_load_and_an_endpoint_is_not(tmp_path: Path) -> None:
    """The load is short, the work it leaves behind is long."""
    run = note(make_run(tmp_path, "batch", records(9, 9.0)), *stay("a", 10.0, DAY_S + 500))
    assert stays(run, always=False)[0].to_s == DAY_S + 500
    assert stays(run, always=True)[0].to_s == DAY_S


def test_what_the_clock_leaps_over_after_the_load_is_not_billed(tmp_path: Path) -> None:
    """An instance closed with the run counts to the last answer; one scaled in, to its end."""
    run = make_run(tmp_path, "async", records(9, 9.0))
    scaled, closed = stay("a", 10.0, DAY_S + 600), stay("b", 10.0, DAY_S + 21_600)
    closed[1]["reason"] = "closed"
    note(run, *scaled, {"at_s": DAY_S + 18, "kind": "phase", "name": "end"}, *closed)
    assert [one.to_s for one in stays(run, always=False)] == [DAY_S + 600, DAY_S + 18]


def test_whole_seconds_are_billed_at_least_the_minimum() -> None:
    """10.2 s cost a minute, 90.2 s cost 91."""
    assert hours([Stay("a", 0.0, 10.2)], 60) == pytest.approx(60 / 3600)
    assert hours([Stay("a", 0.0, 90.2)], 60) == pytest.approx(91 / 3600)


def test_the_most_at_once_and_those_always_there() -> None:
    """Two overlap; one is there all day, or none when it is gone for a while."""
    found = [Stay("a", 0.0, 100.0), Stay("b", 50.0, 80.0)]
    assert (at_once(found), always_on(found, 100.0)) == (2, 1)
    assert always_on([Stay("a", 0.0, 40.0), Stay("b", 60.0, 100.0)], 100.0) == 0
    assert always_on([Stay("a", 20.0, 100.0)], 100.0) == 0
    assert (at_once([]), always_on([], 100.0)) == (0, 0)


def test_a_kept_fleet_grows_with_its_moving_part() -> None:
    """One always, half a one more on average: at twice the traffic a whole one more."""
    fleet = Fleet(usd_hour=1.0, mean=1.5, least=1.0, most=2.0)
    assert [fleet.instances(n, 1000, MONTH_S) for n in (0, 1000, 2000)] == [1.0, 1.5, 2.0]


def test_a_fleet_from_zero_grows_until_it_never_goes() -> None:
    """A tenth of the time at this traffic; at a hundred times still one, until work fills it."""
    fleet = Fleet(usd_hour=1.0, mean=0.1, least=0.0, most=1.0, work_s=2.0)
    assert fleet.instances(1000, 1000, MONTH_S) == pytest.approx(0.1)
    assert fleet.instances(100_000, 1000, MONTH_S) == 1.0
    assert fleet.instances(MONTH_S, 1000, MONTH_S) == pytest.approx(2.0)


def test_an_asynchronous_endpoint_that_never_goes_to_zero_is_billed_for_the_load(
    tmp_path: Path,
) -> None:
    """An answer and the end of the run that come later cost no more instance-hours."""
    target = {"mode": "async", "instance_type": "ml.m5.large", "min_instances": 1}
    run = make_run(tmp_path, "async", records(9, 9.0), target=target)
    note(run, *stay("a", 0.0, DAY_S + 21_600))
    fleet = cost_of(run, summarise(run), read_prices()).fleet
    assert fleet is not None
    assert (fleet.mean, fleet.least) == (1.0, 1.0)
