"""Scaling decisions: from a metric's datapoints to the wanted count."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from bench.scaling import Scaling
from servers.scaling import (
    Alarm,
    Bounds,
    Moment,
    Policy,
    State,
    Stepping,
    Tracking,
    Windows,
    decide,
    decide_all,
    policies_of,
    tracking,
)

WINDOWS = Windows(out_points=3, in_s=900.0, in_share=0.9)
SEVENTY = tracking(70.0, 60.0, WINDOWS, (300.0, 300.0))
BOUNDS = Bounds(1, 10)


def now(now_s: float, capacity: int, bounds: Bounds = BOUNDS) -> Moment:
    return Moment(now_s, capacity, bounds)


def wanted(policy: Policy, values: Sequence[float], capacity: int) -> int:
    return decide(policy, values, now(1000.0, capacity), State(capacity)).desired


@pytest.mark.parametrize(
    ("values", "capacity", "count"),
    [
        ([71, 71], 1, 1),  # two points are not three
        ([70, 70, 70], 1, 1),  # at the target is not above it
        ([500, 60, 500], 1, 1),  # one point below breaks the row
        ([71, 71, 71], 1, 2),
        ([100, 200, 350], 1, 5),  # in proportion to the newest
        ([140, 140, 140], 2, 4),
        ([7000, 7000, 7000], 1, 10),  # no more than the most
    ],
)
def test_target_tracking_scales_out_after_three_points(
    values: list[float], capacity: int, count: int
) -> None:
    """The wanted count is in proportion to the metric, within the bounds."""
    assert wanted(SEVENTY, values, capacity) == count


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([0] * 14, 4),  # 14 minutes are not 15
        ([0] * 15, 1),
        ([60] + [0] * 14, 4),  # what is left could not hold 60 on each of 4
        ([30] + [0] * 14, 2),
        ([63.0] + [0] * 14, 4),  # 63 is 90 % of 70, not below it
    ],
)
def test_target_tracking_scales_in_after_fifteen_points(values: list[float], count: int) -> None:
    """Only as far as the largest of the quarter of an hour allows."""
    assert wanted(SEVENTY, values, 4) == count


def test_a_metric_of_ten_seconds_is_watched_as_long_before_scaling_in() -> None:
    """15 minutes are 90 points of 10 s; out it goes after three of them."""
    fast = tracking(5.0, 10.0, WINDOWS, (300.0, 300.0))
    assert wanted(fast, [0] * 89, 2) == 2
    assert wanted(fast, [0] * 90, 2) == 1
    assert wanted(fast, [9, 9, 9], 2) == 4


def test_scale_in_may_be_disabled() -> None:
    """Without a low alarm nothing is removed."""
    assert wanted(replace(SEVENTY, low=None), [0] * 100, 4) == 4


def test_what_was_added_counts_during_the_cool_down() -> None:
    """A second scale-out is made only if it is larger, and only by what goes beyond."""
    high = [140.0] * 3
    first = decide(SEVENTY, high, now(0.0, 1), State(1))
    assert (first.desired, first.out_from) == (2, 1)
    assert decide(SEVENTY, high, now(60.0, 1), first).desired == 2  # still launching
    assert decide(SEVENTY, [105.0] * 3, now(120.0, 2), first).desired == 2  # +1 again: waits
    assert (
        decide(SEVENTY, [210.0] * 3, now(120.0, 2), first).desired == 5
    )  # +4, of which 1 is there
    assert decide(SEVENTY, [105.0] * 3, now(300.0, 2), first).desired == 3  # rested


def test_removing_rests_before_removing_again_but_not_before_adding() -> None:
    """The cool-down of a scale-in holds back scale-ins alone."""
    low = decide(SEVENTY, [34.0] * 15, now(0.0, 4), State(4))
    assert low.desired == 2
    assert decide(SEVENTY, [0.0] * 15, now(299.0, 2), low).desired == 2
    assert decide(SEVENTY, [0.0] * 15, now(300.0, 2), low).desired == 1
    out = decide(SEVENTY, [100.0] * 3, now(60.0, 2), low)
    assert out.desired == 3
    assert decide(SEVENTY, [0.0] * 15, now(120.0, 3), out).desired == 1  # that rest has ended


STEPS = Stepping(Alarm(100.0, 1), ((0.0, 1.0), (50.0, 3.0)), "change", 300.0)


@pytest.mark.parametrize(("value", "count"), [(100, 2), (101, 3), (149, 3), (150, 5), (900, 5)])
def test_the_step_depends_on_how_far_the_threshold_is_passed(value: float, count: int) -> None:
    """Each range has its change; at the threshold the alarm is silent."""
    assert wanted(STEPS, [value], 2) == count


@pytest.mark.parametrize(
    ("adjustment", "change", "capacity", "count"),
    [
        ("exact", 7, 2, 7),
        ("exact", 0, 4, 1),  # the fewest
        ("percent", 50, 4, 6),
        ("percent", 10, 4, 5),  # 0.4 becomes 1
        ("percent", 30, 9, 10),  # 2.7 becomes 2, and ten are the most
        ("percent", -30, 9, 7),
        ("percent", -10, 4, 3),
        ("change", -2, 4, 2),
    ],
)
def test_a_step_changes_by_number_by_percent_or_to_a_number(
    adjustment: str, change: float, capacity: int, count: int
) -> None:
    """Percentages are rounded as Application Auto Scaling rounds them."""
    policy = Stepping(Alarm(100.0, 1), ((0.0, change),), adjustment, 300.0)  # type: ignore[arg-type]
    assert wanted(policy, [200.0], capacity) == count


def test_a_step_downwards_rings_below_its_threshold() -> None:
    """The distance counts downwards, and two alarms of a target act together."""
    down = Stepping(Alarm(30.0, 2, above=False), ((0.0, -1.0), (20.0, -2.0)), "change", 300.0)
    assert wanted(down, [40, 25], 4) == 4
    assert wanted(down, [25, 25], 4) == 3
    assert wanted(down, [25, 5], 4) == 2
    both = decide_all([(STEPS, [5.0, 5.0]), (down, [5.0, 5.0])], now(0.0, 4), [State(4)] * 2)
    assert [state.desired for state in both] == [2, 2]


def test_a_step_policy_rests_and_adds_what_is_missing() -> None:
    """+1, then within the cool-down a breach that asks for +3: two more."""
    first = decide(STEPS, [110.0], now(0.0, 2), State(2))
    assert first.desired == 3
    assert decide(STEPS, [120.0], now(60.0, 3), first).desired == 3
    assert decide(STEPS, [200.0], now(60.0, 3), first).desired == 5
    assert decide(STEPS, [120.0], now(301.0, 3), first).desired == 4


def test_the_largest_scale_out_of_several_policies_wins() -> None:
    """And only the policy that was followed rests."""
    one, other = decide_all(
        [(SEVENTY, [140.0] * 3), (STEPS, [900.0])], now(50.0, 2), [State(2), State(2)]
    )
    assert (one.desired, other.desired) == (5, 5)
    assert (one.out_s, other.out_s) == (float("-inf"), 50.0)


def test_none_is_removed_while_one_target_needs_it() -> None:
    """Two targets must both want fewer; steps without a wish do not count."""
    quiet = (SEVENTY, [0.0] * 15)
    busy = (tracking(5.0, 60.0, WINDOWS, (300.0, 300.0)), [5.0] * 15)
    states = [State(4), State(4)]
    assert [s.desired for s in decide_all([quiet, busy], now(0.0, 4), states)] == [4, 4]
    assert [s.desired for s in decide_all([quiet, (STEPS, [0.0])], now(0.0, 4), states)] == [1, 1]


def test_from_zero_only_a_step_leads_up() -> None:
    """A metric per instance says nothing where there is none; with least 1 there always is one."""
    none = Moment(0.0, 0, Bounds(0, 4))
    assert decide(SEVENTY, [500.0] * 3, none, State(0)).desired == 0
    assert decide(STEPS, [101.0], none, State(0)).desired == 1
    assert decide(SEVENTY, [], now(0.0, 1), State(0)).desired == 1


def test_policies_are_made_from_what_the_user_wrote() -> None:
    """Cool-downs default to 300 s; steps come in any order; each alarm is a policy."""
    target = {"kind": "target-tracking", "target_value": 5, "metric": "ConcurrentRequestsPerModel"}
    (policy,) = policies_of(msgspec.convert(target, Scaling), WINDOWS)
    assert policy == tracking(5.0, 10.0, WINDOWS, (300.0, 300.0))
    (policy,) = policies_of(msgspec.convert({**target, "disable_scale_in": True}, Scaling), WINDOWS)
    assert isinstance(policy, Tracking)
    assert policy.low is None
    steps = [{"from": 50, "change": 3}, {"change": 1}]
    alarms = [{"threshold": 100, "steps": steps}, {"threshold": 9, "when": "below", "steps": steps}]
    up, down = policies_of(msgspec.convert({"kind": "step", "alarms": alarms}, Scaling), WINDOWS)
    assert up == STEPS
    assert isinstance(down, Stepping)
    assert not down.alarm.above
