"""How an endpoint's capacity follows its load: policies as a user writes them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Seconds = Annotated[float, Meta(ge=0)]

COOLDOWN_S = 300.0
"""What Application Auto Scaling takes when a policy names no cool-down."""

PERIODS_S = {
    "InvocationsPerInstance": 60.0,
    "ConcurrentRequestsPerModel": 10.0,
}
"""Metrics that instances may follow, each with the seconds between its datapoints."""

Metric = Literal["InvocationsPerInstance", "ConcurrentRequestsPerModel"]


class TargetTracking(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="target-tracking"
):
    """Keeps a metric near a value."""

    target_value: Annotated[float, Meta(gt=0, description="value of the metric to keep")]
    metric: Annotated[
        Metric,
        Meta(description="InvocationsPerInstance (a minute) or ConcurrentRequestsPerModel (10 s)"),
    ] = "InvocationsPerInstance"
    min_count: Annotated[Count, Meta(description="fewest instances")] = 1
    max_count: Annotated[Count, Meta(description="most instances")] = 4
    scale_out_cooldown_s: Annotated[
        Seconds, Meta(description="rest after adding, unless more is needed")
    ] = COOLDOWN_S
    scale_in_cooldown_s: Annotated[Seconds, Meta(description="rest after removing")] = COOLDOWN_S
    disable_scale_in: Annotated[bool, Meta(description="true: never remove")] = False


class Step(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """What one range of the metric changes."""

    change: float
    """Instances to add (negative: to remove), percent of them, or their number."""
    from_: float = 0.0
    """Where the range begins, as a distance from the alarm's threshold in its direction."""


class StepAlarm(Struct, frozen=True, forbid_unknown_fields=True):
    """An alarm and what it does: the larger the breach, the later the step."""

    threshold: float
    steps: Annotated[list[Step], Meta(min_length=1, max_length=20)]
    when: Literal["above", "below"] = "above"
    points: Annotated[int, Meta(ge=1, le=1440)] = 1
    """Datapoints in a row beyond the threshold."""
    adjustment: Literal["change", "percent", "exact"] = "change"
    min_change: Count = 1
    """Fewest instances that a percentage changes."""
    cooldown_s: Seconds = COOLDOWN_S


class StepScaling(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="step"):
    """Changes the count by steps when alarms ring."""

    alarms: Annotated[
        list[StepAlarm],
        Meta(
            min_length=1,
            max_length=10,
            description="list of {threshold, when, points, adjustment, cooldown_s, steps}; "
            "a step is {from, change}",
        ),
    ]
    metric: Annotated[
        Metric,
        Meta(description="InvocationsPerInstance (a minute) or ConcurrentRequestsPerModel (10 s)"),
    ] = "InvocationsPerInstance"
    min_count: Annotated[Count, Meta(description="fewest instances")] = 1
    max_count: Annotated[Count, Meta(description="most instances")] = 4


Scaling = TargetTracking | StepScaling
