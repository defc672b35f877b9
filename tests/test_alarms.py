"""When an alarm rings: the tables of the CloudWatch user guide, and comparisons."""

import pytest

from servers.alarms import Comparison, Missing, Rule, State, state_of

KEEP = None
"""The state before."""


def rule(points: int, missing: Missing) -> Rule:
    return Rule(0.5, "GreaterThanThreshold", 3, points, missing)


def values(text: str) -> list[float | None]:
    """``0 - X``: within the threshold, missing, beyond it."""
    return [{"0": 0.0, "-": None, "X": 1.0}[mark] for mark in text.split()]


@pytest.mark.parametrize(
    ("points", "seen", "states"),
    [
        # As the guide has them: missing, ignore, breaching, notBreaching.
        (3, "0 - X - X", ["OK", "OK", "OK", "OK"]),
        (3, "0 - - - -", ["OK", "OK", "OK", "OK"]),
        (3, "- - - - -", ["INSUFFICIENT_DATA", KEEP, "ALARM", "OK"]),
        (3, "0 X X - X", ["ALARM", "ALARM", "ALARM", "ALARM"]),
        (3, "- - X - -", ["ALARM", KEEP, "ALARM", "OK"]),
        (2, "0 - X - X", ["ALARM", "ALARM", "ALARM", "ALARM"]),
        (2, "0 0 X 0 X", ["ALARM", "ALARM", "ALARM", "ALARM"]),
        (2, "0 - X - -", ["OK", "OK", "ALARM", "OK"]),
        (2, "- - - - 0", ["OK", "OK", "ALARM", "OK"]),
        (2, "- - - X -", ["ALARM", KEEP, "ALARM", "OK"]),
        # Too early to tell, it says of these.
        (3, "- - - - X", [KEEP, KEEP, "ALARM", "OK"]),
        (3, "- - - X -", [KEEP, KEEP, "ALARM", "OK"]),
    ],
)
def test_missing_datapoints_count_as_told(
    points: int, seen: str, states: list[State | None]
) -> None:
    """Only as far as they are needed."""
    kinds: tuple[Missing, ...] = ("missing", "ignore", "breaching", "notBreaching")
    befores: tuple[State, ...] = ("OK", "ALARM", "INSUFFICIENT_DATA")
    for before in befores:
        found = [state_of(rule(points, kind), values(seen), before) for kind in kinds]
        assert found == [state or before for state in states]


@pytest.mark.parametrize(
    ("comparison", "rings"),
    [
        ("GreaterThanOrEqualToThreshold", [False, True, True]),
        ("GreaterThanThreshold", [False, False, True]),
        ("LessThanThreshold", [True, False, False]),
        ("LessThanOrEqualToThreshold", [True, True, False]),
    ],
)
def test_a_value_is_compared_with_the_threshold(comparison: Comparison, rings: list[bool]) -> None:
    """Below it, at it and above."""
    one = Rule(2.0, comparison, 1, 1)
    assert [state_of(one, [v], "OK") == "ALARM" for v in (1.0, 2.0, 3.0)] == rings


def test_an_alarm_that_is_over_is_ok() -> None:
    """The last periods decide, and no earlier ones."""
    seen = values("X X X 0 X")
    assert state_of(rule(2, "missing"), seen, "ALARM") == "ALARM"
    assert state_of(rule(3, "missing"), seen, "ALARM") == "OK"
