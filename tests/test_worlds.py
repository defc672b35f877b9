"""What the answer would be if something assumed were otherwise."""

from pathlib import Path

import pytest

from bench.workload import Workload
from reports.option import Option
from reports.report import make_report
from reports.worlds import Sensitivity, World, cost_in, sensitivity, share_in_time, turned
from tests.make_runs import make_cold, make_run, records, workload


def measured(folder: Path, given: Workload) -> list[Option]:
    """100 requests a day; on serverless each is cold: placement 1 s, set-up 2 s, model 0.1 s."""
    rows = make_cold(records(100, 864.0), slice(None))
    runs = [
        make_run(folder / "r", "realtime", records(100, 864.0), workload=given),
        make_run(folder / "s", "serverless", rows, workload=given),
    ]
    return list(make_report(runs).options)


def found(folder: Path, latency_s: float) -> Sensitivity:
    given = workload(latency_s)
    report = make_report([option.run for option in measured(folder, given)])
    assert report.sensitivity is not None
    return report.sensitivity


def test_each_factor_stretches_its_own_part(tmp_path: Path) -> None:
    """3.1 s as measured; a placement of twice that makes 4.1 s, a set-up 5.1, a model 3.2."""
    _, option = measured(tmp_path, workload())

    def met(limit_s: float, world: World) -> bool:
        return share_in_time(option, limit_s, world) == 1.0

    for world, latency_s in (
        (World(), 3.1),
        (World(placement=2.0), 4.1),
        (World(setup=2.0), 5.1),
        (World(speed=2.0), 3.2),
        (World(placement=0.5, setup=0.5), 1.6),
    ):
        assert met(latency_s + 0.01, world)
        assert not met(latency_s - 0.01, world)


def test_a_longer_keep_alive_saves_the_starts_that_it_covers(tmp_path: Path) -> None:
    """Requests come each 864 s: 300 s of keep-alive start all, 900 s only the first."""
    _, option = measured(tmp_path, workload())
    assert share_in_time(option, 1.0, World()) == 0.0
    assert share_in_time(option, 1.0, World(keep_alive=3.0)) == pytest.approx(0.99)


def test_a_shorter_keep_alive_makes_warm_requests_cold(tmp_path: Path) -> None:
    """Warm requests 100 s apart start cold if nothing survives 60 s."""
    given = workload(duration_s=20_000.0)
    rows = make_cold(records(200, 100.0), slice(0, 1))
    load = {"duration_s": 20_000.0}
    run = make_run(tmp_path, "serverless", rows, workload=given, load=load)
    option = make_report([run]).options[0]
    assert share_in_time(option, 1.0, World()) == pytest.approx(0.995)
    assert share_in_time(option, 1.0, World(keep_alive=0.2)) == 0.0


def test_prices_and_speed_change_the_cost_in_proportion(tmp_path: Path) -> None:
    """Instances by their own price, serverless by its price times the speed."""
    realtime, serverless = (option.cost for option in measured(tmp_path, workload()))
    assert cost_in(realtime, World(instance_price=2.0)).month_usd == pytest.approx(
        2 * realtime.month_usd
    )
    assert cost_in(realtime, World(serverless_price=2.0, speed=2.0)).month_usd == pytest.approx(
        realtime.month_usd
    )
    model = serverless.items[0].amount_usd / serverless.requests
    doubled = cost_in(serverless, World(speed=2.0)).per_request_usd
    assert doubled - serverless.per_request_usd == pytest.approx(model)
    billed = cost_in(serverless, World(bill_setup=True)).per_request_usd
    assert billed - serverless.per_request_usd == pytest.approx(2.0 * 0.00004)


def test_a_constant_that_makes_the_answer_too_late_turns_it(tmp_path: Path) -> None:
    """3.1 s meets 4 s; with twice the placement it is 4.1 s, and real-time is the answer."""
    sensed = found(tmp_path, 4.0)
    assert (sensed.winner, sensed.rival, sensed.rival_meets) == ("serverless", "realtime", True)
    swing = next(each for each in sensed.swings if each.name == "placement of a machine")
    assert swing.winners == ("serverless", "realtime")
    assert turned(sensed, swing) == "twice makes it real-time"
    assert not swing.moves


def test_with_room_to_spare_no_constant_turns_the_answer(tmp_path: Path) -> None:
    """Every request meets a minute in every world that is looked at."""
    sensed = found(tmp_path, 60.0)
    assert not any(sensed.flips(swing) for swing in sensed.swings)


def test_the_rival_is_a_loser_where_only_one_meets_the_objective(tmp_path: Path) -> None:
    """Real-time alone meets 1 s; the cheaper serverless is what it is held against."""
    sensed = found(tmp_path, 1.0)
    assert (sensed.winner, sensed.rival, sensed.rival_meets) == ("realtime", "serverless", False)
    assert sensed.ratio < 1


def test_nothing_is_sensed_where_nothing_meets_or_nothing_else_was_measured(tmp_path: Path) -> None:
    """There is no answer to turn, or nothing to turn to."""
    given = workload(0.01)
    options = measured(tmp_path, given)
    standings = make_report([option.run for option in options]).recommendation.standings
    assert sensitivity(given, options, standings) is None
    assert sensitivity(workload(), options[:1], standings[:1]) is None
