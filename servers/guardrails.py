"""Deployment guardrails: how the traffic passes from the old instances to the new ones.

Follows SageMaker's guide: after each shift the deployment bakes, after the last one it waits to
terminate the old instances. A share of the capacity is here a share of the requests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from servers.api_document import invalid

Wait = Annotated[int, Meta(ge=0, le=3600)]


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
    maximum_execution_timeout_in_seconds: Annotated[int, Meta(ge=600, le=28800)] | None = None


class DeploymentConfig(Struct, frozen=True, rename="pascal"):
    """As UpdateEndpoint takes it."""

    blue_green_update_policy: BlueGreen | None = None
    rolling_update_policy: dict[str, Any] | None = None
    auto_rollback_configuration: dict[str, Any] | None = None


@dataclass(frozen=True)
class Course:
    """The shares of the traffic that the new instances get, one after another, and the waits."""

    shares: tuple[float, ...] = (1.0,)
    bake_s: float = 0.0
    """After each shift."""
    termination_s: float = 0.0
    """After the last bake, until the old instances go."""
    limit_s: float = math.inf
    """For all of it, the start of the new instances included; AWS does not say its own."""


def course_of(config: DeploymentConfig | None, counts: Sequence[int]) -> Course:
    """What ``config`` means for new variants of so many instances each.

    ValidationException for what breaks a limit, and for what is not done here.
    """
    if config is None:
        return Course()
    if (config.auto_rollback_configuration or {}).get("Alarms"):
        raise invalid(
            "AutoRollbackConfiguration: there are no alarms of CloudWatch here. Leave Alarms out."
        )
    if config.rolling_update_policy is not None:
        raise invalid("RollingUpdatePolicy is not done here. Give a BlueGreenUpdatePolicy.")
    if (policy := config.blue_green_update_policy) is None:
        return Course()
    routing = policy.traffic_routing_configuration
    bake_s, termination_s = routing.wait_interval_in_seconds, policy.termination_wait_in_seconds
    limit_s = policy.maximum_execution_timeout_in_seconds or math.inf
    course = Course(_shares(routing, counts), bake_s, termination_s, limit_s)
    if (waits_s := len(course.shares) * bake_s + termination_s) >= limit_s:
        raise invalid(
            f"MaximumExecutionTimeoutInSeconds is {limit_s}: it must be more than all waits, "
            f"{waits_s} s."
        )
    return course


def _shares(routing: TrafficRouting, counts: Sequence[int]) -> tuple[float, ...]:
    canary, step = routing.canary_size, routing.linear_step_size
    if (canary is not None, step is not None) != (
        routing.type == "CANARY",
        routing.type == "LINEAR",
    ):
        raise invalid(f"{routing.type}: CANARY has a CanarySize, LINEAR a LinearStepSize.")
    if canary is not None:
        return _share("CanarySize", canary, counts, 0.0), 1.0
    if step is not None:
        share = _share("LinearStepSize", step, counts, 0.1)
        steps = math.ceil(1 / share - 1e-9)
        return (*(share * number for number in range(1, steps)), 1.0)
    return (1.0,)


def _share(name: str, size: CapacitySize, counts: Sequence[int], least: float) -> float:
    if size.type == "CAPACITY_PERCENT":
        share = size.value / 100
    elif len(set(counts)) == 1:
        share = size.value / counts[0]
    else:
        raise invalid(f"{name}: the variants differ in size. Give its Type as CAPACITY_PERCENT.")
    if not least <= share <= 0.5:
        raise invalid(
            f"{name} is {share:.0%} of {counts[0]} instances: "
            f"{f'from {least:.0%} ' if least else ''}to 50% is allowed."
        )
    return share
