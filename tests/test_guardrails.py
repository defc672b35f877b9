"""Deployment guardrails: which shares of the traffic, and what is refused."""

from typing import Any

import msgspec
import pytest

from servers.guardrails import Course, DeploymentConfig, course_of
from servers.wire import ApiError


def course(kind: str, counts: list[int], size: dict[str, Any] | None = None, **more: Any) -> Course:
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": more.pop("bake_s", 0)}
    name = "LinearStepSize" if kind == "LINEAR" else "CanarySize"
    routing |= {name: size} if size else {}
    policy = {"TrafficRoutingConfiguration": routing, **more}
    config = msgspec.convert({"BlueGreenUpdatePolicy": policy}, DeploymentConfig)
    return course_of(config, counts)


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


@pytest.mark.parametrize(
    ("kind", "counts", "size", "shares"),
    [
        ("ALL_AT_ONCE", [1], None, [1.0]),
        ("CANARY", [1], percent(5), [0.05, 1.0]),
        ("CANARY", [4, 4], instances(1), [0.25, 1.0]),
        ("LINEAR", [1], percent(50), [0.5, 1.0]),
        ("LINEAR", [1, 7], percent(30), [0.3, 0.6, 0.9, 1.0]),
        ("LINEAR", [3], instances(1), [1 / 3, 2 / 3, 1.0]),
        ("LINEAR", [10], instances(1), [number / 10 for number in range(1, 11)]),
    ],
)
def test_the_traffic_shifts_in_steps(
    kind: str, counts: list[int], size: dict[str, Any] | None, shares: list[float]
) -> None:
    """Of the share of the new capacity; the last step takes what is left."""
    assert list(course(kind, counts, size).shares) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("kind", "counts", "size", "words"),
    [
        ("CANARY", [1], percent(51), "CanarySize is 51%"),
        ("CANARY", [1], instances(1), "CanarySize is 100% of 1 instances"),
        ("CANARY", [1, 2], instances(1), "the variants differ in size"),
        ("LINEAR", [1], percent(9), "from 10% to 50% is allowed"),
        ("LINEAR", [11], instances(1), "LinearStepSize is 9%"),
        ("LINEAR", [1], None, "LINEAR a LinearStepSize"),
        ("ALL_AT_ONCE", [1], percent(10), "CANARY has a CanarySize"),
    ],
)
def test_a_step_that_breaks_a_limit_is_refused(
    kind: str, counts: list[int], size: dict[str, Any] | None, words: str
) -> None:
    """The error names the size, its share and what is allowed."""
    with pytest.raises(ApiError, match=words):
        course(kind, counts, size)


def test_the_whole_takes_longer_than_its_waits() -> None:
    """Three bakes of 300 s and 300 s at the end do not fit into 1200 s."""
    waits = {"bake_s": 300, "TerminationWaitInSeconds": 300}
    fits = course("LINEAR", [3], instances(1), MaximumExecutionTimeoutInSeconds=1201, **waits)
    assert (fits.bake_s, fits.termination_s, fits.limit_s) == (300, 300, 1201)
    with pytest.raises(ApiError, match="1200: it must be more than all waits, 1200 s"):
        course("LINEAR", [3], instances(1), MaximumExecutionTimeoutInSeconds=1200, **waits)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}, "no alarms"),
        ({"RollingUpdatePolicy": {"WaitIntervalInSeconds": 0}}, "is not done here"),
    ],
)
def test_what_is_not_done_is_refused(config: dict[str, Any], words: str) -> None:
    """Alarms and rolling updates; without either it is all at once."""
    with pytest.raises(ApiError, match=words):
        course_of(msgspec.convert(config, DeploymentConfig), [2])
    assert course_of(DeploymentConfig(auto_rollback_configuration={}), [2]) == Course()
    assert course_of(None, [2]) == Course()
