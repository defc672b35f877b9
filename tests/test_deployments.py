"""Deployments on the run's clock: bakes, waits and limits, with instances that are none."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from servers.endpoint_config import EndpointConfig, Request
from servers.endpoint_operations import Update
from servers.guardrails import DeploymentConfig
from tests.house import House, live, target
from tests.serving import eventually_async


def config(count: int = 1) -> EndpointConfig:
    variant = {"VariantName": "AllTraffic", "ModelName": "next", "InitialInstanceCount": count}
    document = {"EndpointConfigName": "next", "ProductionVariants": [variant]}
    return EndpointConfig(msgspec.convert(document, Request), document)


def begin(house: House, deployment: dict[str, Any], count: int = 1) -> asyncio.Future[str]:
    """Begin a deployment; its failure, or nothing, when it has ended."""
    house.models["next"] = "new"
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    how = msgspec.convert(deployment, DeploymentConfig)
    house.endpoint.renew(Update(config(count), False, how), ended.set_result)
    return ended


def deploy(
    house: House, kind: str, size: dict[str, Any], bake_s: int = 600, **more: int
) -> asyncio.Future[str]:
    routing = {"Type": kind, "WaitIntervalInSeconds": bake_s, **size}
    return begin(house, {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **more}})


def roll(house: House, count: int, **more: Any) -> asyncio.Future[str]:
    """One instance after the other, with a bake of ten minutes."""
    batch = {"Type": "INSTANCE_COUNT", "Value": 1}
    policy = {"MaximumBatchSize": batch, "WaitIntervalInSeconds": 600, **more}
    return begin(house, {"RollingUpdatePolicy": policy}, count)


def fleets(house: House) -> tuple[int, int]:
    """Old and new instances that are alive."""
    models = [instance.model for instance in house.alive]
    return models.count(None), models.count("new")


CANARY = {"CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 25}}
LINEAR = {"LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 40}}


async def share_of_new(house: House) -> float:
    answers = [(await house.ask(b".")).answer.body for _ in range(400)]
    return answers.count(b"new.") / len(answers)


@pytest.mark.slow
def test_a_canary_gets_its_share_for_its_time_and_then_all(tmp_path: Path) -> None:
    """25 % for ten minutes, all for ten, and the old instance stands for five more."""

    async def steps(house: House) -> None:
        ended = deploy(house, "CANARY", CANARY, TerminationWaitInSeconds=300)
        assert await share_of_new(house) == 0
        await house.wait(300.0)  # the launch takes 100 s
        assert 0.15 < await share_of_new(house) < 0.35
        await house.wait(600.0)
        assert await share_of_new(house) == 1
        assert len(house.alive) == 2
        await house.wait(800.0)
        assert ended.result() == ""
        assert [each.model for each in house.alive] == ["new"]
        assert await share_of_new(house) == 1

    events, _ = live(tmp_path, target(), steps)
    times = {e.get("share", e["kind"]): e["at_s"] for e in events if "instance" not in e["kind"]}
    assert times[0.25] == pytest.approx(100, abs=5)
    assert times[1.0] - times[0.25] == pytest.approx(600, abs=5)
    assert times["endpoint_updated"] - times[1.0] == pytest.approx(900, abs=5)


@pytest.mark.slow
def test_linear_steps_follow_each_other(tmp_path: Path) -> None:
    """40 %, 80 % and all, ten minutes apart; what is asked meanwhile is answered."""

    async def steps(house: House) -> None:
        ended = deploy(house, "LINEAR", LINEAR)
        await house.traffic(minutes=45, a_minute=5)
        assert ended.result() == ""
        assert [each.model for each in house.alive] == ["new"]

    events, _ = live(tmp_path, target(), steps)
    shifts = [event for event in events if event["kind"] == "traffic_shifted"]
    assert [event["share"] for event in shifts] == [0.4, 0.8, 1.0]
    assert shifts[2]["at_s"] - shifts[0]["at_s"] == pytest.approx(1200, abs=5)


def test_a_deployment_that_takes_too_long_goes_back(tmp_path: Path) -> None:
    """The launch takes an hour, where ten minutes and its waits are allowed."""

    async def steps(house: House) -> None:
        limit = {"MaximumExecutionTimeoutInSeconds": 1300}
        ended = deploy(house, "CANARY", CANARY, **limit)
        await house.wait(1200.0)
        assert not ended.done()
        await house.wait(200.0)
        assert ended.result() == "It took more than 1300 s."
        assert await share_of_new(house) == 0
        await house.wait(10_000.0)
        assert [each.model for each in house.alive] == [None]

    slow = {"launch_median_s": 3600.0, "launch_sigma": 0.0}
    events, _ = live(tmp_path, target(profile=slow), steps)
    assert [e["kind"] for e in events if e["kind"].startswith(("endpoint_", "update_"))] == [
        "update_failed"
    ]


def test_an_endpoint_that_closes_in_a_deployment_ends_both(tmp_path: Path) -> None:
    """In the middle of a bake."""

    async def steps(house: House) -> None:
        deploy(house, "CANARY", CANARY)
        await house.wait(300.0)
        assert len(house.alive) == 2

    live(tmp_path, target(), steps)


@pytest.mark.slow
def test_an_endpoint_that_closes_while_old_instances_finish_waits_for_them(tmp_path: Path) -> None:
    """What they hold is answered, and no process is left."""
    answers: list[bytes] = []

    async def steps(house: House) -> None:
        deploy(house, "ALL_AT_ONCE", {}, bake_s=0)
        await house.wait(99.9)
        house.let.clear()
        held = asyncio.create_task(house.ask(b"."))
        held.add_done_callback(lambda task: answers.append(task.result().answer.body))
        old = house.endpoint.branches[0].replicas
        await eventually_async(lambda: old.in_service == 0)  # it is to go, and holds a request
        asyncio.get_running_loop().call_later(0.05, house.let.set)

    live(tmp_path, target(), steps)
    assert answers == [b"."]


def test_a_session_stays_with_its_instance_until_all_traffic_has_shifted(tmp_path: Path) -> None:
    """Its requests are none of the canary's."""

    async def steps(house: House) -> None:
        house.answer_headers = {"x-amzn-sagemaker-new-session-id": "s"}
        await house.ask(session_id="NEW_SESSION")
        house.answer_headers = {}
        deploy(house, "CANARY", CANARY)
        await house.wait(300.0)
        answers = {(await house.ask(b".", session_id="s")).answer.body for _ in range(50)}
        assert answers == {b"."}
        await house.wait(600.0)
        assert (await house.ask(b".", session_id="s")).answer.body == b"new."

    live(tmp_path, target(), steps)


@pytest.mark.slow
def test_a_rolling_update_replaces_one_batch_after_the_other(tmp_path: Path) -> None:
    """Each is launched, gets its part of the requests, bakes, and as many old ones end."""

    async def steps(house: House) -> None:
        ended = roll(house, 3)
        seen = []
        for _ in range(3):
            await house.wait(150.0)  # a launch takes 100 s
            seen.append((fleets(house), round(await share_of_new(house), 1)))
            await house.wait(550.0)
        assert [each[0] for each in seen] == [(3, 1), (2, 2), (1, 3)]
        assert [each[1] for each in seen] == pytest.approx([1 / 3, 2 / 3, 1.0], abs=0.15)
        assert (ended.result(), fleets(house)) == ("", (0, 3))

    events, _ = live(tmp_path, target(instance_count=3), steps)
    times = {e["share"]: e["at_s"] for e in events if e["kind"] == "traffic_shifted"}
    assert list(times) == pytest.approx([1 / 3, 2 / 3, 1.0], abs=1e-6)
    assert list(times.values()) == pytest.approx([100, 800, 1500], abs=5)


@pytest.mark.slow
@pytest.mark.parametrize(("rollback", "shares"), [(None, [0.5, 0.0]), (1, [0.5, 0.25, 0.0])])
def test_a_rolling_update_whose_last_batch_does_not_start_goes_back(
    tmp_path: Path, rollback: int | None, shares: list[float]
) -> None:
    """Old instances are launched again where they had gone, before the new ones end."""

    async def steps(house: House) -> None:
        size = {"Type": "INSTANCE_COUNT", "Value": rollback}
        ended = roll(house, 4, **({"RollbackMaximumBatchSize": size} if rollback else {}))
        await house.wait(1450.0)  # the third is being launched
        assert fleets(house) == (2, 2)
        house.broken_starts = 2  # the third, and the first that goes back
        assert not house.endpoint.rolling_back
        await house.wait(60.0)
        for _ in range(40):
            await house.ask()
            await house.wait(10.0)
            assert sum(fleets(house)) <= 4 + (rollback or 2)
            assert house.endpoint.rolling_back == (not ended.done())
        assert "no weights" in ended.result()
        assert fleets(house) == (4, 0)
        assert await share_of_new(house) == 0

    events, _ = live(tmp_path, target(instance_count=4), steps)
    shifts = [event["share"] for event in events if event["kind"] == "traffic_shifted"]
    assert shifts == [0.25, 0.5, *shares]


def test_a_rolling_update_that_takes_too_long_goes_back(tmp_path: Path) -> None:
    """In the second bake, ten minutes and two launches after it began."""

    async def steps(house: House) -> None:
        ended = roll(house, 2, MaximumExecutionTimeoutInSeconds=1000)
        await house.wait(900.0)
        assert fleets(house) == (1, 2)
        await house.wait(300.0)
        assert ended.result() == "It took more than 1000 s."
        assert fleets(house) == (2, 0)

    live(tmp_path, target(instance_count=2), steps)


def test_no_policy_changes_the_counts_of_a_rolling_update(tmp_path: Path) -> None:
    """It rests meanwhile, and scales out when the update has ended."""
    scaling = {"kind": "target-tracking", "target_value": 10, "min_count": 2, "max_count": 3}

    async def steps(house: House) -> None:
        ended = roll(house, 2)
        while not ended.done():
            await house.traffic(minutes=1, a_minute=40)
            assert sum(fleets(house)) <= 3
        assert fleets(house) == (0, 2)
        await house.traffic(minutes=7, a_minute=40)
        assert fleets(house) == (0, 3)

    live(tmp_path, target(instance_count=2, scaling=scaling), steps)


def test_an_endpoint_that_closes_in_a_rolling_update_ends_both(tmp_path: Path) -> None:
    """In a bake, and while it goes back."""

    async def steps(house: House) -> None:
        roll(house, 2, MaximumExecutionTimeoutInSeconds=900)
        await house.wait(910.0)
        assert house.endpoint.rolling_back

    live(tmp_path, target(instance_count=2), steps)
