"""A real-time endpoint that scales, on a clock that skips, with instances that are none."""

import asyncio
from pathlib import Path

import pytest

from servers.endpoint_operations import Change
from tests.house import House, live, target
from tests.serving import eventually_async

TRACKING = {
    "kind": "target-tracking",
    "target_value": 10,
    "max_count": 3,
    "scale_in_cooldown_s": 60,
}


@pytest.mark.slow
def test_target_tracking_adds_after_three_minutes_and_removes_after_fifteen(
    tmp_path: Path,
) -> None:
    """From one to three and back; each launch takes its modelled time, then really starts."""

    async def steps(house: House) -> None:
        await house.traffic(minutes=8, a_minute=40)
        assert len(house.alive) == 3
        await house.wait(3600.0)
        assert len(house.alive) == 1

    events, _ = live(tmp_path, target(scaling=TRACKING), steps)
    scaling = [event for event in events if event["kind"] == "scaling"]
    assert [(event["before"], event["desired"]) for event in scaling] == [(1, 3), (3, 1)]
    assert scaling[0]["at_s"] == pytest.approx(180, abs=2)
    assert scaling[0]["reason"] == "InvocationsPerInstance: 40 is above the target of 10"
    launched = [event for event in events if event["kind"] == "instance_launched"]
    started = [event for event in events if event["kind"] == "instance_started"]
    assert [event["placement_s"] for event in launched] == [100.0, 100.0]
    assert [event["at_s"] for event in started[1:]] == pytest.approx([280, 280], abs=2)
    # Three minutes after the traffic ended three instances held 13 each: 15 silent ones later.
    assert scaling[1]["at_s"] == pytest.approx(480 + 15 * 60, abs=65)


@pytest.mark.slow
def test_concurrency_scales_out_within_half_a_minute(tmp_path: Path) -> None:
    """Three datapoints of ten seconds with six in flight, where two are wanted."""
    scaling = {**TRACKING, "metric": "ConcurrentRequestsPerModel", "target_value": 2}

    async def steps(house: House) -> None:
        for _ in range(5):
            house.let.clear()
            asked = [asyncio.create_task(house.ask()) for _ in range(6)]
            await eventually_async(lambda: house.instances[0].held == 6)
            house.let.set()
            await asyncio.gather(*asked)
            await house.wait(10.0)

    events, _ = live(tmp_path, target(scaling=scaling), steps)
    [event] = [event for event in events if event["kind"] == "scaling"]
    assert (event["before"], event["desired"]) == (1, 3)
    assert event["at_s"] == pytest.approx(30, abs=2)


@pytest.mark.slow
def test_other_bounds_take_nothing_from_what_a_policy_has_seen(tmp_path: Path) -> None:
    """Set each minute, as by a schedule: it adds after three all the same, and keeps to them."""

    async def steps(house: House) -> None:
        for _ in range(6):
            await house.traffic(minutes=1, a_minute=40)
            house.endpoint.hold("AllTraffic", 1, 2, "scheduled")
        assert len(house.alive) == 2
        house.endpoint.hold("AllTraffic", 2, 2, "scheduled")
        await house.wait(3600.0)
        assert len(house.alive) == 2

    events, _ = live(tmp_path, target(scaling=TRACKING), steps)
    [change] = [event for event in events if event["kind"] == "scaling"]
    assert (change["before"], change["desired"]) == (1, 2)
    assert change["at_s"] == pytest.approx(180, abs=2)


@pytest.mark.slow
def test_a_silent_day_is_skipped_although_the_endpoint_scales(tmp_path: Path) -> None:
    """With nothing to remove nobody looks: a day passes in one jump."""

    async def steps(house: House) -> None:
        await house.ask()
        await house.wait(1200.0)
        await house.wait(86_400.0)

    events, _ = live(tmp_path, target(scaling=TRACKING), steps)
    assert max(e["to_s"] - e["at_s"] for e in events if e["kind"] == "skip") > 86_000


def test_what_is_scaled_in_finishes_what_it_holds(tmp_path: Path) -> None:
    """No new requests for it; it ends when the last one is answered."""

    async def steps(house: House) -> None:
        house.let.clear()
        asked = [asyncio.create_task(house.ask()) for _ in range(2)]
        await eventually_async(lambda: sum(each.held for each in house.instances) == 2)
        house.endpoint.change([Change("AllTraffic", desired_instance_count=1)])
        await asyncio.sleep(0)
        assert house.endpoint.status() == {"instances": 2, "in_flight": 2, "backlog": 0}
        house.let.set()
        await asyncio.gather(*asked)
        await eventually_async(lambda: len(house.alive) == 1)
        assert (await house.ask()).instance == house.alive[0].name

    events, _ = live(
        tmp_path, target(instance_count=2, routing="LEAST_OUTSTANDING_REQUESTS"), steps
    )
    assert "scaled in" in [event.get("reason") for event in events]


def test_a_launch_that_fails_is_tried_again(tmp_path: Path) -> None:
    """After another launch's time; what is not wanted any more is not launched."""

    async def steps(house: House) -> None:
        house.broken_starts = 1
        house.endpoint.change([Change("AllTraffic", desired_instance_count=2)])
        await house.wait(150.0)
        assert len(house.alive) == 1
        await house.wait(100.0)
        assert len(house.alive) == 2
        house.endpoint.change([Change("AllTraffic", desired_instance_count=4)])
        house.endpoint.change([Change("AllTraffic", desired_instance_count=2)])
        await house.wait(300.0)
        assert len(house.alive) == 2

    events, _ = live(tmp_path, target(), steps)
    assert [e["reason"] for e in events if e["kind"] == "instance_failed"] == ["no weights"]


def test_metrics_have_the_services_names_units_and_periods(tmp_path: Path) -> None:
    """By the minute, concurrency by ten seconds; per instance it is a share of each request."""

    async def steps(house: House) -> None:
        await house.traffic(minutes=2, a_minute=4)

    _, metrics = live(tmp_path, target(instance_count=2), steps)
    by_name = {m["kind"]: m for m in metrics}
    assert by_name["Invocations"]["sum"] == 4
    assert by_name["InvocationsPerInstance"]["sum"] == 2
    assert by_name["ModelLatency"]["unit"] == by_name["OverheadLatency"]["unit"] == "Microseconds"
    assert {m["period_s"] for m in metrics if m["kind"] != "ConcurrentRequestsPerModel"} == {60.0}
    assert by_name["ConcurrentRequestsPerModel"]["period_s"] == 10.0
    assert by_name["ConcurrentRequestsPerModel"]["max"] == 1
    assert [m["at_s"] for m in metrics if m["kind"] == "Invocations"] == [0.0, 60.0]


@pytest.mark.slow
def test_nothing_is_removed_before_the_first_request(tmp_path: Path) -> None:
    """An endpoint that waits for its traffic is not idle."""

    async def steps(house: House) -> None:
        await house.wait(3600.0)
        assert len(house.alive) == 3
        await house.ask()
        await house.wait(1200.0)
        assert len(house.alive) == 1

    live(tmp_path, target(instance_count=3, scaling=TRACKING), steps)
