"""Deployment guardrails: which shares of the traffic, and what is refused."""

import itertools
from typing import Any

import msgspec
import pytest

from servers.guardrails import ALL, Course, DeploymentConfig, course_of
from servers.wire import ApiError


def course(kind: str, counts: list[int], size: dict[str, Any] | None = None, **more: Any) -> Course:
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": more.pop("bake_s", 0)}
    name = "LinearStepSize" if kind == "LINEAR" else "CanarySize"
    routing |= {name: size} if size else {}
    policy = {"TrafficRoutingConfiguration": routing, **more}
    sizes = {f"v{number}": count for number, count in enumerate(counts)}
    return course_of(made({"BlueGreenUpdatePolicy": policy}), sizes, sizes)


def made(config: dict[str, Any]) -> DeploymentConfig:
    return msgspec.convert(config, DeploymentConfig)


def rolling(batch: dict[str, Any], new: int, old: int | None = None, **more: Any) -> Course:
    policy = {"MaximumBatchSize": batch, "WaitIntervalInSeconds": 0, **more}
    return course_of(made({"RollingUpdatePolicy": policy}), {"v": new}, {"v": old or new})


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
    steps = course(kind, counts, size).steps
    assert [step.share for step in steps] == pytest.approx(shares)
    assert [step.grown for step in steps] == [ALL] + [0] * (len(shares) - 1)
    assert {step.kept for step in steps} == {ALL}


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
    ("batch", "new", "old", "steps"),
    [
        (instances(1), 3, 3, [(1 / 3, 1, 2), (2 / 3, 2, 1), (1.0, 3, 0)]),
        (instances(3), 7, 7, [(3 / 7, 3, 4), (6 / 7, 6, 1), (1.0, 7, 0)]),
        (percent(50), 5, 5, [(0.4, 2, 3), (0.8, 4, 1), (1.0, 5, 0)]),
        (percent(5), 2, 2, [(0.5, 1, 1), (1.0, 2, 0)]),
        (percent(50), 1, 1, [(1.0, 1, 0)]),
        (percent(29), 100, 1, [(0.29, 29, 1), (0.58, 58, 1), (0.87, 87, 1), (1.0, 100, 0)]),
        (percent(50), 2, 8, [(0.5, 1, 4), (1.0, 2, 0)]),
    ],
)
def test_a_rolling_update_goes_in_batches(
    batch: dict[str, Any], new: int, old: int, steps: list[tuple[float, int, int]]
) -> None:
    """The traffic follows the new instances that there are, and so many old ones go."""
    found = rolling(batch, new, old).steps
    assert [(step.grown, step.kept) for step in found] == [each[1:] for each in steps]
    assert [step.share for step in found] == pytest.approx([each[0] for each in steps])


def test_a_rolling_update_goes_back_in_batches() -> None:
    """First to what the old instances that are left can take; then all at once, or as told."""
    whole = rolling(instances(1), 4).back
    assert whole is not None
    assert [(s.share, s.grown, s.kept) for s in whole.steps(2)] == [(0.5, 2, 2), (0.0, 4, 0)]
    assert [(s.share, s.grown, s.kept) for s in whole.steps(4)] == [(0.0, 4, 0)]
    halves = rolling(instances(1), 4, RollbackMaximumBatchSize=percent(50)).back
    assert halves is not None
    assert [(s.share, s.grown) for s in halves.steps(1)] == [(0.75, 1), (0.25, 3), (0.0, 4)]


def test_there_is_never_more_than_a_batch_beyond_the_larger_fleet() -> None:
    """Whenever it fails, backwards too; and each side that has traffic has instances."""
    for new, old, size in itertools.product(range(1, 21), range(1, 21), (5, 10, 33, 50)):
        found = rolling(percent(size), new, old, RollbackMaximumBatchSize=percent(size))
        assert found.back is not None
        batch = max(1, new * size // 100)
        most = max(new, old) + max(batch, found.back.batch)
        fresh, left = 0, old
        for step in found.steps:
            assert step.grown - fresh <= batch
            assert step.grown + left <= most
            stands, before = step.grown, fresh
            for back in found.back.steps(left):
                assert back.grown + stands <= most
                assert back.share <= before / new
                assert back.share == 0 or back.kept > 0
                stands = min(stands, back.kept)
            assert stands == 0
            fresh, left = step.grown, step.kept
            assert left > 0 or step is found.steps[-1]


@pytest.mark.parametrize(
    ("batch", "count", "more", "words"),
    [
        (percent(4), 9, {}, "MaximumBatchSize is 4% of 9 instances: from 5% to 50% is allowed"),
        (percent(51), 9, {}, "from 5% to 50% is allowed"),
        (instances(1), 1, {}, "MaximumBatchSize is 100% of 1 instances"),
        (percent(9), 9, {"RollbackMaximumBatchSize": instances(10)}, "Rollback.* to 100% is"),
    ],
)
def test_a_batch_that_breaks_a_limit_is_refused(
    batch: dict[str, Any], count: int, more: dict[str, Any], words: str
) -> None:
    """From 5 % to half of the variant; back at most all of it."""
    with pytest.raises(ApiError, match=words):
        rolling(batch, count, **more)


@pytest.mark.parametrize("new", [{"a": 2, "b": 2}, {"b": 2}])
def test_a_rolling_update_is_for_one_variant_whose_name_stays(new: dict[str, int]) -> None:
    """As SageMaker's guide has it under exclusions."""
    policy = {"MaximumBatchSize": instances(1), "WaitIntervalInSeconds": 0}
    with pytest.raises(ApiError, match="of one variant whose name stays"):
        course_of(made({"RollingUpdatePolicy": policy}), new, {"a": 2})


def test_there_is_one_policy_or_none() -> None:
    """Without one all traffic shifts at once; with both nothing does."""
    blue_green = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE"}}
    policy = {"MaximumBatchSize": instances(1), "WaitIntervalInSeconds": 0}
    both = {"BlueGreenUpdatePolicy": blue_green, "RollingUpdatePolicy": policy}
    with pytest.raises(ApiError, match="not both"):
        course_of(made(both), {"v": 2}, {"v": 2})
    for config in (None, made({"AutoRollbackConfiguration": {}})):
        assert course_of(config, {"v": 2}, {"v": 2}) == Course()
