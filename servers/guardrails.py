"""Deployment guardrails: how the traffic passes from the old instances to the new ones.

Follows SageMaker's developer guide (deployment-guardrails-blue-green, -rolling, -exclusions) and
the API reference (RollingUpdatePolicy, CapacitySize; botocore's model has the same limits). After
each shift the deployment bakes. Blue/green starts all new instances first, and after the last shift
waits to end the old ones. Rolling starts a batch, shifts its part of the traffic, bakes, and ends a
batch of old ones; back it goes in batches too, of the whole fleet unless told otherwise. A share of
the capacity is here a share of the requests, and a batch is at least one instance.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from servers.api_document import invalid

Wait = Annotated[int, Meta(ge=0, le=3600)]
Limit = Annotated[int, Meta(ge=600, le=28800)]

Sizes = Mapping[str, int]
"""Instances by production variant."""

ALL = sys.maxsize
"""Instances: however many there are."""


class CapacitySize(Struct, frozen=True, rename="pascal"):
    """A part of the new capacity."""

    type: Literal["INSTANCE_COUNT", "CAPACITY_PERCENT"]
    value: Annotated[int, Meta(ge=1)]


class TrafficRouting(Struct, frozen=True, rename="pascal"):
    """In which steps the traffic shifts."""

    type: Literal["ALL_AT_ONCE", "CANARY", "LINEAR"]
    wait_interval_in_seconds: Wait = 0
    canary_size: CapacitySize | None = None
    linear_step_size: CapacitySize | None = None


class BlueGreen(Struct, frozen=True, rename="pascal"):
    """BlueGreenUpdatePolicy."""

    traffic_routing_configuration: TrafficRouting
    termination_wait_in_seconds: Wait = 0
    maximum_execution_timeout_in_seconds: Limit | None = None


class Rolling(Struct, frozen=True, rename="pascal"):
    """RollingUpdatePolicy."""

    maximum_batch_size: CapacitySize
    wait_interval_in_seconds: Wait
    maximum_execution_timeout_in_seconds: Limit | None = None
    rollback_maximum_batch_size: CapacitySize | None = None


class AlarmName(Struct, frozen=True, rename="pascal"):
    """An alarm of CloudWatch."""

    alarm_name: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^(?!\s*$)")]


class AutoRollback(Struct, frozen=True, rename="pascal"):
    """AutoRollbackConfiguration."""

    alarms: Annotated[tuple[AlarmName, ...], Meta(max_length=10)] = ()


class DeploymentConfig(Struct, frozen=True, rename="pascal"):
    """As UpdateEndpoint takes it."""

    blue_green_update_policy: BlueGreen | None = None
    rolling_update_policy: Rolling | None = None
    auto_rollback_configuration: AutoRollback | None = None

    @property
    def alarms(self) -> list[str]:
        """Names of those that end the deployment."""
        rollback = self.auto_rollback_configuration or AutoRollback()
        return [alarm.alarm_name for alarm in rollback.alarms]


@dataclass(frozen=True)
class Step:
    """One fleet grows, the traffic shifts, the deployment bakes, the other fleet shrinks."""

    share: float
    """Of the traffic that the new instances get."""
    grown: int = 0
    """Instances that there are at least of the fleet that grows, before the shift."""
    kept: int = ALL
    """Instances that there are at most of the other one, after the bake."""


@dataclass(frozen=True)
class WayBack:
    """How a rolling deployment is undone."""

    old: int
    new: int
    batch: int

    def steps(self, left: int) -> tuple[Step, ...]:
        """From ``left`` old instances to all; the first step starts none, for these are there."""
        counts = [*range(left, self.old, self.batch), self.old]
        return tuple(
            Step((self.old - count) / self.old, count, _rest(count, self.old, self.new))
            for count in counts
        )


@dataclass(frozen=True)
class Course:
    """The steps of a deployment and its waits."""

    steps: tuple[Step, ...] = (Step(1.0, ALL),)
    bake_s: float = 0.0
    """After each shift."""
    termination_s: float = 0.0
    """After the last bake, until the old instances go."""
    limit_s: float = math.inf
    """For all of it, the start of the new instances included; AWS does not say its own."""
    back: WayBack | None = None
    """None: all old instances are there to the end, so all traffic goes back at once."""


def course_of(config: DeploymentConfig | None, new: Sizes, old: Sizes) -> Course:
    """What ``config`` means for an update from these variants to those.

    ValidationException for what breaks a limit.
    """
    if config is None:
        return Course()
    blue_green, rolling = config.blue_green_update_policy, config.rolling_update_policy
    if blue_green is not None and rolling is not None:
        raise invalid("Give a BlueGreenUpdatePolicy or a RollingUpdatePolicy, not both.")
    if rolling is not None:
        return _rolling(rolling, new, old)
    return Course() if blue_green is None else _blue_green(blue_green, list(new.values()))


def _blue_green(policy: BlueGreen, counts: Sequence[int]) -> Course:
    routing = policy.traffic_routing_configuration
    bake_s, termination_s = routing.wait_interval_in_seconds, policy.termination_wait_in_seconds
    limit_s = policy.maximum_execution_timeout_in_seconds or math.inf
    first, *later = _shares(routing, counts)
    steps = (Step(first, ALL), *map(Step, later))
    if (waits_s := len(steps) * bake_s + termination_s) >= limit_s:
        raise invalid(
            f"MaximumExecutionTimeoutInSeconds is {limit_s}: it must be more than all waits, "
            f"{waits_s} s."
        )
    return Course(steps, bake_s, termination_s, limit_s)


def _rolling(policy: Rolling, new: Sizes, old: Sizes) -> Course:
    if len(new) > 1 or new.keys() != old.keys():
        raise invalid(
            f"RollingUpdatePolicy: from {', '.join(old)} to {', '.join(new)}. It is for endpoints "
            "of one variant whose name stays. Give a BlueGreenUpdatePolicy."
        )
    [count], [before] = new.values(), old.values()
    batch = _batch("MaximumBatchSize", policy.maximum_batch_size, count, (0.05, 0.5))
    whole = policy.rollback_maximum_batch_size or CapacitySize("CAPACITY_PERCENT", 100)
    back = _batch("RollbackMaximumBatchSize", whole, before, (0.0, 1.0))
    counts = [*range(batch, count, batch), count]
    return Course(
        steps=tuple(Step(grown / count, grown, _rest(grown, count, before)) for grown in counts),
        bake_s=policy.wait_interval_in_seconds,
        limit_s=policy.maximum_execution_timeout_in_seconds or math.inf,
        back=WayBack(before, count, back),
    )


def _rest(grown: int, whole: int, others: int) -> int:
    """How many of ``others`` are needed while ``grown`` of ``whole`` do their part."""
    return math.ceil(others * (whole - grown) / whole)


def _batch(name: str, size: CapacitySize, count: int, bounds: tuple[float, float]) -> int:
    return max(1, int(_share(name, size, [count], bounds) * count + 1e-9))


def _shares(routing: TrafficRouting, counts: Sequence[int]) -> tuple[float, ...]:
    canary, step = routing.canary_size, routing.linear_step_size
    if (canary is not None, step is not None) != (
        routing.type == "CANARY",
        routing.type == "LINEAR",
    ):
        raise invalid(f"{routing.type}: CANARY has a CanarySize, LINEAR a LinearStepSize.")
    if canary is not None:
        return _share("CanarySize", canary, counts, (0.0, 0.5)), 1.0
    if step is not None:
        share = _share("LinearStepSize", step, counts, (0.1, 0.5))
        steps = math.ceil(1 / share - 1e-9)
        return (*(share * number for number in range(1, steps)), 1.0)
    return (1.0,)


def _share(
    name: str, size: CapacitySize, counts: Sequence[int], bounds: tuple[float, float]
) -> float:
    if size.type == "CAPACITY_PERCENT":
        share = size.value / 100
    elif len(set(counts)) == 1:
        share = size.value / counts[0]
    else:
        raise invalid(f"{name}: the variants differ in size. Give its Type as CAPACITY_PERCENT.")
    least, most = bounds
    if not least <= share <= most:
        raise invalid(
            f"{name} is {share:.0%} of {counts[0]} instances: "
            f"{f'from {least:.0%} ' if least else ''}to {most:.0%} is allowed."
        )
    return share
