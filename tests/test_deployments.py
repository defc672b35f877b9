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

CONFIG = {
    "EndpointConfigName": "next",
    "ProductionVariants": [
        {"VariantName": "AllTraffic", "ModelName": "next", "InitialInstanceCount": 1}
    ],
}


def deploy(
    house: House, kind: str, size: dict[str, Any], bake_s: int = 600, **more: int
) -> asyncio.Future[str]:
    """Begin a deployment; its failure, or nothing, when it has ended."""
    house.models["next"] = "new"
    routing = {"Type": kind, "WaitIntervalInSeconds": bake_s, **size}
    policy = {"TrafficRoutingConfiguration": routing, **more}
    deployment = msgspec.convert({"BlueGreenUpdatePolicy": policy}, DeploymentConfig)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    config = EndpointConfig(msgspec.convert(CONFIG, Request), CONFIG)
    house.endpoint.renew(Update(config, False, deployment), ended.set_result)
    return ended


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
