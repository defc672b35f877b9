"""What one instance carries, from a measured curve."""

import json
from math import inf
from pathlib import Path

import pytest

from bench.errors import ConfigError
from reports.costs import cost_of, read_prices
from reports.curve import FILE, Curve, adopt, curve_of
from reports.report import make_report
from reports.summary import summarise
from tests.make_runs import make_run, records, workload

RISING = Curve((10.0, 20.0, 40.0, 80.0), (0.1, 0.12, 0.3, 2.0), (True, True, True, True), 0.95)


def test_the_most_is_the_highest_rate_up_to_which_all_meet_the_latency() -> None:
    """40 a second at 0.5 s, 20 at 0.2 s, none at 50 ms."""
    assert [RISING.most_rps(each) for each in (0.5, 0.2, 0.05)] == [40.0, 20.0, 0.0]


def test_a_good_point_behind_a_bad_one_does_not_count() -> None:
    """Nor does one that is not valid."""
    dip = Curve((10.0, 20.0, 40.0), (0.1, 0.9, 0.1), (True, True, True), 0.95)
    invalid = Curve((10.0, 20.0), (0.1, 0.1), (True, False), 0.95)
    assert (dip.most_rps(0.5), invalid.most_rps(0.5)) == (10.0, 10.0)


def test_instances_are_whole_and_enough() -> None:
    """Exactly twice the most needs two, a little more needs three; none helps at 50 ms."""
    assert RISING.instances(80.0, 0.5) == 2
    assert RISING.instances(80.1, 0.5) == 3
    assert RISING.instances(1.0, 0.5) == 1
    assert RISING.instances(1.0, 0.05) is None


def test_a_curve_that_never_bends_says_so() -> None:
    """Its highest rate is a lower bound."""
    assert RISING.ends_below(3.0)
    assert not RISING.ends_below(0.5)


def written(folder: Path, points: object, quantile: object = 0.95) -> Path:
    document = {"quantile": quantile, "objective_s": 0.5, "steps": points}
    (folder / FILE).write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_the_file_of_a_run_is_read_in_the_order_of_the_rates(tmp_path: Path) -> None:
    """A latency of null is one that no request reached; a miss for errors alone is not valid."""
    points = [
        {"rate_rps": 20, "latency_s": None, "verdict": "misses"},
        {"rate_rps": 10, "latency_s": 0.1, "verdict": "meets"},
        {"rate_rps": 30, "latency_s": 0.2, "verdict": "misses"},
        {"rate_rps": 40, "latency_s": 0.2, "verdict": "invalid"},
    ]
    run = make_run(tmp_path, "realtime", records(9, 9.0))
    assert curve_of(run) is None
    written(tmp_path, points)
    valid = (True, True, False, False)
    assert curve_of(run) == Curve((10.0, 20.0, 30.0, 40.0), (0.1, inf, 0.2, 0.2), valid, 0.95)


@pytest.mark.parametrize(
    ("points", "quantile"),
    [
        ("x", 0.9),
        ([{}], 0.9),
        ([{"rate_rps": 0, "latency_s": 1, "verdict": "meets"}], 0.9),
        ([], 1.5),
    ],
)
def test_a_file_that_holds_no_curve_is_an_error(
    tmp_path: Path, points: object, quantile: object
) -> None:
    """It names the file and the remedy."""
    run = make_run(tmp_path, "realtime", records(9, 9.0))
    written(tmp_path, points, quantile)
    with pytest.raises(ConfigError, match=r"capacity\.json holds no curve.*Search"):
        curve_of(run)


def test_the_bill_counts_the_instances_that_the_traffic_needs(tmp_path: Path) -> None:
    """10 a second where one carries 4: three, though one ran; the report says it."""
    given = workload(0.5, duration_s=600.0)
    load = {"duration_s": 600.0}
    run = make_run(tmp_path, "realtime", records(6000, 0.1), workload=given, load=load)
    alone = cost_of(run, summarise(run), read_prices())
    assert not alone.capacity.checked
    written(tmp_path, [{"rate_rps": 4, "latency_s": 0.1, "verdict": "meets"}])
    checked = cost_of(run, summarise(run), read_prices())
    assert checked.capacity.needed == 3
    assert checked.month_usd == pytest.approx(3 * alone.month_usd)
    assert checked.monthly_usd(checked.requests_a_month / 3) == pytest.approx(alone.month_usd)
    slower = cost_of(run, summarise(run), read_prices(speed_factor=2.0))
    assert slower.capacity.needed == 5
    assert any("3 needed, 1 ran" in doubt.text for _, doubt in make_report([run]).doubts)


def test_the_curve_of_a_search_is_taken_over_by_option(tmp_path: Path) -> None:
    """From the folder of the option of that name; another model is refused."""
    run = make_run(tmp_path / "run", "realtime", records(9, 9.0))
    search = tmp_path / "search"
    assert adopt(run, search) is None
    step = make_run(search / "realtime" / "01", "realtime", records(9, 9.0))
    written(search / "realtime", [{"rate_rps": 4, "latency_s": 0.1, "verdict": "meets"}])
    assert adopt(run, search) == run.folder / FILE
    assert curve_of(run) == Curve((4.0,), (0.1,), (True,), 0.95)
    other = make_run(step.folder, "realtime", records(9, 9.0), model={"sha256": "another"})
    assert other.manifest["model"]["sha256"] == "another"
    with pytest.raises(ConfigError, match="the same model"):
        adopt(run, search)


@pytest.mark.parametrize(
    ("verdict", "checked", "text"),
    [("invalid", False, "no rate well enough"), ("misses", True, "at no measured rate")],
)
def test_a_search_that_found_no_rate_says_why(
    tmp_path: Path, verdict: str, checked: bool, text: str
) -> None:
    """The generator could not keep the schedule, or the instance could not keep up."""
    given = workload(0.5, duration_s=600.0)
    run = make_run(tmp_path, "realtime", records(600, 1.0), workload=given)
    written(tmp_path, [{"rate_rps": 4, "latency_s": 0.9, "verdict": verdict}])
    capacity = cost_of(run, summarise(run), read_prices()).capacity
    assert (capacity.checked, capacity.needed) == (checked, None)
    assert text in capacity.text
