"""Scheduled actions that an unmodified boto3 client puts, on a clock that skips."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bench.clock import Clock, Member
from bench.deployment import Deployment, Endpoint
from bench.raw import read_events
from bench.target import Realtime, Serverless
from tests.containers import COMMAND
from tests.serving import ECHO, Serving, eventually, serving
from tests.test_scaling_operations import COUNT, UNITS

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Day:
    """A server on a clock that stands until it is let go."""

    server: Serving
    clock: Clock
    hold: Member
    folder: Path

    @property
    def scaling(self) -> Any:
        return self.server.client("application-autoscaling")

    def in_(self, **time: float) -> datetime:
        """A moment from now, by the clock's date."""
        return datetime.fromtimestamp(self.clock.date_s, UTC) + timedelta(**time)

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Inside, the clock is turned whenever nothing is under way."""
        self.hold.update(work=-1)
        yield
        self.hold.update(work=1)

    def wait(self, seconds: float) -> None:
        """Let the clock come to a moment from now, and stand there."""
        at_s = self.clock.now() + seconds
        self.hold.update(work=-1, next_s=at_s)
        eventually(lambda: self.clock.now() >= at_s, f"{seconds:g} s have passed")
        self.hold.update(work=1, next_s=math.inf)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in read_events(self.folder) if event["kind"] == kind]


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """A real-time and a serverless endpoint."""
    tmp_path = tmp_path_factory.mktemp("scheduled")
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(ECHO)
    model = str(tmp_path / "model")
    zero = Serverless(max_concurrency=4, profile={"placement_median_s": 0})
    endpoints = [
        Endpoint("one", Realtime(), model, command=COMMAND),
        Endpoint("zero", zero, model),
    ]
    (tmp_path / "c").mkdir()
    clock = Clock.create(tmp_path / "c", fast_forward=True)
    hold = clock.join()
    hold.update(work=1)
    deployment = Deployment(
        endpoints, clock=str(tmp_path / "c"), events=str(tmp_path / "events.jsonl")
    )
    with serving(deployment, tmp_path / "run") as server:
        yield Day(server, clock, hold, tmp_path)
    clock.close()


@pytest.fixture
def day(standing: Day) -> Iterator[Day]:
    """Both registered, with one to two units of capacity, and afterwards no longer."""
    scaling = standing.scaling
    for target in (COUNT, UNITS):
        scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    yield standing
    for target in (COUNT, UNITS):
        with contextlib.suppress(scaling.exceptions.ObjectNotFoundException):
            scaling.deregister_scalable_target(**target)


def at(moment: datetime) -> str:
    return f"at({moment:%Y-%m-%dT%H:%M:%S})"


def put(scaling: Any, target: dict[str, str], name: str, schedule: str, **more: Any) -> None:
    scaling.put_scheduled_action(
        **target, ScheduledActionName=name, Schedule=schedule, **{"Timezone": "UTC", **more}
    )


def bounds(scaling: Any, target: dict[str, str]) -> tuple[int, int]:
    found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    [known] = [each for each in found if each["ResourceId"] == target["ResourceId"]]
    return known["MinCapacity"], known["MaxCapacity"]


def test_capacity_changes_when_an_action_is_due(day: Day) -> None:
    """Up in ten hours, down a day later, and what is silent in between is skipped."""
    scaling, began_s = day.scaling, day.clock.now()
    morning, evening = day.in_(hours=10), day.in_(hours=34)
    for target in (COUNT, UNITS):
        put(scaling, target, "up", at(morning), ScalableTargetAction={"MinCapacity": 2})
    zone = "Asia/Tokyo"  # which has no summer time
    there = evening + timedelta(hours=9)
    down = f"cron({there.minute} {there.hour} {there.day} {there.month} ? {there.year})"
    less = {"MinCapacity": 1, "MaxCapacity": 1}
    put(scaling, COUNT, "down", down, Timezone=zone, ScalableTargetAction=less)
    with day.passing():
        eventually(lambda: len(day.events("scheduled_action")) == 3, "all were due")
        eventually(lambda: day.server.status()["zero"]["instances"] == 2, "two are kept ready")
        eventually(lambda: day.server.status()["one"]["instances"] == 1, "one is left")
    assert (bounds(scaling, COUNT), bounds(scaling, UNITS)) == ((1, 1), (2, 2))
    changes = [e for e in day.events("scaling") if e.get("variant") == "AllTraffic"]
    assert [(e["before"], e["desired"], e["reason"]) for e in changes] == [
        (1, 2, "scheduled action up"),
        (2, 1, "scheduled action down"),
    ]
    assert changes[0]["at_s"] - began_s == pytest.approx(10 * 3600, abs=30)
    assert changes[1]["at_s"] - began_s == pytest.approx(34 * 3600, abs=90)


def test_a_rate_runs_from_its_start_to_its_end(day: Day) -> None:
    """Three times an hour apart; an action that cannot be carried out is noted and no more."""
    begin = day.in_(minutes=5)
    limits = {"StartTime": begin, "EndTime": begin + timedelta(hours=2, minutes=30)}
    more = {"MaxCapacity": 3}
    put(day.scaling, UNITS, "hourly", "rate(1 hour)", ScalableTargetAction=more, **limits)
    put(day.scaling, COUNT, "many", at(begin), ScalableTargetAction={"MinCapacity": 200})

    def times() -> list[float]:
        events = day.events("scheduled_action")
        return [each["at_s"] for each in events if each["reason"] == "scheduled action hourly"]

    with day.passing():
        eventually(lambda: len(times()) == 3, "three times")
    assert times()[2] - times()[0] == pytest.approx(7200, abs=1)
    [failed] = day.events("scheduled_action_failed")
    assert failed["error"] == "MinCapacity 200 is more than MaxCapacity 2."
    assert bounds(day.scaling, COUNT) == (1, 2)


def test_an_action_that_is_due_during_an_update_waits_for_its_end(day: Day) -> None:
    """An hour of baking after the launch, and the action an hour after the beginning."""
    control = day.server.client("sagemaker")
    now = control.describe_endpoint(EndpointName="one")["EndpointConfigName"]
    variants = control.describe_endpoint_config(EndpointConfigName=now)["ProductionVariants"]
    control.create_endpoint_config(EndpointConfigName="again", ProductionVariants=variants)
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 3600}
    guardrails = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
    put(day.scaling, COUNT, "amid", at(day.in_(hours=1)), ScalableTargetAction={"MinCapacity": 2})
    control.update_endpoint(
        EndpointName="one", EndpointConfigName="again", DeploymentConfig=guardrails
    )
    with day.passing():
        eventually(lambda: day.server.status()["one"]["instances"] == 2, "two serve")
        eventually(lambda: bounds(day.scaling, COUNT) == (2, 2), "the action was carried out")
    [ended] = day.events("endpoint_updated")
    reason = "scheduled action amid"
    [acted] = [e for e in day.events("scheduled_action") if e["reason"] == reason]
    assert acted["at_s"] == pytest.approx(ended["at_s"], abs=1)
    assert [e["desired"] for e in day.events("scaling") if e["reason"] == reason] == [2]


def test_actions_are_shown_changed_and_deleted(day: Day) -> None:
    """What is not said again stays, but for start and end; a deregistered target keeps none."""
    scaling, start = day.scaling, day.in_(hours=1).replace(microsecond=0)
    up = {"MinCapacity": 2, "MaxCapacity": 4}
    put(scaling, COUNT, "a", "cron(0 8 ? * MON-FRI *)", ScalableTargetAction=up, StartTime=start)
    put(scaling, UNITS, "b", "rate(1 day)", ScalableTargetAction={"MinCapacity": 1})

    def shown(**search: Any) -> list[dict[str, Any]]:
        found = scaling.describe_scheduled_actions(ServiceNamespace="sagemaker", **search)
        actions: list[dict[str, Any]] = found["ScheduledActions"]
        return actions

    assert {each["ScheduledActionName"] for each in shown()} == {"a", "b"}
    [first] = shown(ScheduledActionNames=["a"])
    assert first["StartTime"] == start
    assert first["ScalableTargetAction"] == up
    assert first["ScheduledActionARN"].endswith(":scheduledActionName/a")
    scaling.put_scheduled_action(
        **COUNT, ScheduledActionName="a", ScalableTargetAction={"MaxCapacity": 3}
    )
    [changed] = shown(ResourceId=COUNT["ResourceId"])
    assert changed["Schedule"] == "cron(0 8 ? * MON-FRI *)"
    assert changed["ScalableTargetAction"] == {"MaxCapacity": 3}
    assert "StartTime" not in changed
    assert changed["CreationTime"] == first["CreationTime"]
    scaling.delete_scheduled_action(**COUNT, ScheduledActionName="a")
    with pytest.raises(scaling.exceptions.ObjectNotFoundException, match="called a"):
        scaling.delete_scheduled_action(**COUNT, ScheduledActionName="a")
    scaling.deregister_scalable_target(**UNITS)
    assert shown() == []


def test_what_can_never_be_carried_out_is_refused(day: Day) -> None:
    """ValidationException with the reason; ObjectNotFoundException without a target."""
    scaling, more = day.scaling, {"ScalableTargetAction": {"MinCapacity": 1}}
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("cron(0 8 * * *)", more, "six fields"),
        ("rate(1 hour)", {}, "MinCapacity or MaxCapacity"),
        ("rate(1 hour)", {**more, "Timezone": "Mars/Olympus"}, "no time zone"),
        ("rate(1 hour)", {"ScalableTargetAction": {"MinCapacity": 3, "MaxCapacity": 2}}, "more"),
        (at(day.in_(hours=-1)), more, "never due from now on"),
        ("rate(1 hour)", {**more, "EndTime": day.in_(minutes=5)}, "never due from now on"),
    ]
    for schedule, settings, words in refused:
        with pytest.raises(scaling.exceptions.ValidationException, match=words):
            put(scaling, COUNT, "a", schedule, **settings)
    with pytest.raises(ClientError, match="validation error"):
        put(scaling, COUNT, "a:b", "rate(1 hour)", **more)
    scaling.deregister_scalable_target(**COUNT)
    with pytest.raises(scaling.exceptions.ObjectNotFoundException):
        put(scaling, COUNT, "a", "rate(1 hour)", **more)
