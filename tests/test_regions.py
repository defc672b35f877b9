"""Which option is cheapest where, for costs whose crossings are known."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from reports.bill import Cost
from reports.fleets import Fleet
from reports.option import Option
from reports.regions import cheapest, patchwork, regions
from reports.report import make_report
from tests.make_queued import async_run
from tests.make_runs import make_pair, workload

MONTH_S = 730 * 3600.0


def cost(mode: str, fixed: float = 0.0, each: float = 0.0, fleet: Fleet | None = None) -> Cost:
    period_s, requests = 86_400.0, 1000
    return Cost(mode, (), period_s, requests, fixed, each, MONTH_S, 0.0, False, fleet)


def test_two_lines_cross_once() -> None:
    """$100 a month against a cent each: at 10,000 requests."""
    found = regions([cost("realtime", 100.0), cost("serverless", 0.0, 0.01)], 1.0, 1e9)
    assert [region.mode for region in found] == ["serverless", "realtime"]
    assert found[0].to_requests == found[1].from_requests == pytest.approx(10_000)
    assert "real-time becomes cheaper" in found[1].because


def test_a_step_of_instances_may_turn_the_answer_back_and_says_so() -> None:
    """One instance carries 0.01 a second; where a second is needed serverless wins again."""
    fleet = Fleet(100 / 730, 1.0, 1.0, 1.0, per_instance_rps=0.01)
    found = regions([cost("realtime", fleet=fleet), cost("serverless", 0.0, 0.005)], 1.0, 1e5)
    modes = [region.mode for region in found]
    assert modes[:3] == ["serverless", "realtime", "serverless"]
    assert "real-time needs 2 instances instead of 1" in found[2].because


@pytest.mark.parametrize("seed", range(40))
def test_more_traffic_never_moves_the_answer_back_without_a_stated_reason(seed: int) -> None:
    """Who wins again does so where the loser needs another instance, or its own never go."""
    random = np.random.default_rng(seed)
    costs = [
        cost(
            "realtime",
            fleet=Fleet(
                float(random.uniform(0.05, 2)),
                1.0,
                1.0,
                1.0,
                per_instance_rps=float(random.choice([np.inf, random.uniform(0.001, 1)])),
                peak=float(random.uniform(1, 5)),
            ),
        ),
        cost("serverless", float(random.uniform(0, 50)), float(10 ** random.uniform(-6, -2))),
        cost("async", 0.0, 1e-5, Fleet(0.2, float(random.uniform(0.01, 1)), 0.0, 1.0, work_s=0.5)),
    ]
    found = regions(costs, 1.0, 1e8)
    assert found[0].from_requests == 1.0
    assert found[-1].to_requests == 1e8
    for before, after in pairwise(found):
        assert before.to_requests == after.from_requests
        assert before.mode != after.mode
        assert after.because
    won: set[str] = set()
    for place, region in enumerate(found):
        middle = (region.from_requests * region.to_requests) ** 0.5
        if region.to_requests > region.from_requests * 1.0001:
            assert cheapest(costs, middle).mode == region.mode
        if region.mode in won:
            reasons = [each.because for each in found[: place + 1]]
            stated = ("instances instead of", "run all the time")
            assert any(words in reason for reason in reasons for words in stated), reasons
        won.add(region.mode)


def test_each_cost_rises_with_the_traffic() -> None:
    """So cheaper traffic never costs more."""
    fleets = [
        Fleet(1.0, 1.5, 1.0, 2.0, per_instance_rps=0.02, peak=3.0),
        Fleet(1.0, 0.2, 0.0, 1.0, work_s=1.0),
    ]
    for fleet in fleets:
        bill = cost("realtime", 1.0, 0.001, fleet)
        months = [bill.monthly_usd(float(n)) for n in np.geomspace(1, 1e9, 300)]
        assert all(b >= a for a, b in pairwise(months))


def options(folder: Path) -> list[Option]:
    given = workload(300.0)
    return list(
        make_report([*make_pair(folder, given), async_run(folder / "a", workload=given)]).options
    )


def test_the_map_leaves_out_who_does_not_take_the_payload(tmp_path: Path) -> None:
    """Serverless ends at 4 MB, real-time at 25 MB, asynchronous at 1 GB; nobody takes 2 GB."""
    found = patchwork(options(tmp_path))
    assert found is not None
    for bottom, top, row in zip(
        found.payload_bytes, found.payload_bytes[1:], found.modes, strict=False
    ):
        middle = (bottom * top) ** 0.5
        if middle > 4_194_304:
            assert "serverless" not in row
        if middle > 26_214_400:
            assert set(row) <= {"async", None}
        if middle > 1_073_741_824:
            assert set(row) == {None}
    assert found.modes[0][0] == "serverless"
