"""CloudWatch's alarms decided: datapoints in, a state out. No clock and no metrics.

Follows the CloudWatch user guide, "Configuring how CloudWatch alarms treat missing data":

    state_of(rule, [None, None, 7.0, None, None], "OK")  # one value a period, oldest first
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
Missing = Literal["missing", "ignore", "breaching", "notBreaching"]
Comparison = Literal[
    "GreaterThanOrEqualToThreshold",
    "GreaterThanThreshold",
    "LessThanThreshold",
    "LessThanOrEqualToThreshold",
]

_COMPARISONS: dict[Comparison, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}

EXTRA = 2
"""Periods looked at beyond those evaluated: two in the guide's examples; AWS does not say more."""


@dataclass(frozen=True)
class Rule:
    """ALARM while at least ``points`` of the last ``periods`` datapoints breach the threshold."""

    threshold: float
    comparison: Comparison
    periods: int
    points: int
    missing: Missing = "missing"

    @property
    def looks_at(self) -> int:
        """How many datapoints it is to be given."""
        return self.periods + EXTRA

    def breaches(self, value: float) -> bool:
        return _COMPARISONS[self.comparison](value, self.threshold)


def state_of(rule: Rule, values: Sequence[float | None], current: State) -> State:
    """The state after these datapoints; None is one that is missing."""
    marks = [None if v is None else rule.breaches(v) for v in values[-rule.looks_at :]]
    real = [mark for mark in marks if mark is not None][-rule.periods :]
    breaching = sum(real)
    if breaching >= rule.points:
        return "ALARM"
    if len(real) == rule.periods or rule.missing == "notBreaching":
        return "OK"
    if rule.missing == "breaching":
        return "ALARM" if breaching + rule.periods - len(real) >= rule.points else "OK"
    if False in real:
        return "OK"
    if rule.missing == "ignore":
        return current
    if not real:
        return "INSUFFICIENT_DATA"
    # All that is known breaches, but it is little: it counts once it has become old enough.
    age = len(marks) - marks.index(True)
    return "ALARM" if age >= rule.points else current
