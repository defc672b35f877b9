"""Provisioned concurrency, updates and limits, with instances that take no time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from bench.events import EventLog
from bench.metrics import DRAFT, finish_metrics, read_metrics
from bench.target import Lambda, ProvisionedScaling, Scheduled, Serverless
from servers.endpoint import Account
from servers.instance import InstanceFailed, Startup
from servers.profile import profile_for
from servers.wire import ApiError
from tests.serverless_house import House, live

FIXED = {"keep_alive_s": 300, "keep_alive_sigma": 0, "placement_median_s": 2}
PEAK = 4


def kept_ready(units: int, **more: Any) -> Serverless:
    return Serverless(max_concurrency=10, provisioned_concurrency=units, profile={**FIXED}, **more)


async def peak(house: House, requests: int = PEAK) -> list[bool]:
    """So many requests at once; which of them started cold."""
    served = await asyncio.gather(*(house.ask(5.0) for _ in range(requests)))
    return [each.cold is not None for each in served]


def metric(house: House, name: str) -> Any:
    return house.endpoint.status()["metrics"][f"ServerlessProvisionedConcurrency{name}"]


@pytest.mark.parametrize(("units", "spilled"), [(PEAK, 0), (PEAK - 1, 1), (1, 3)])
def test_what_exceeds_the_provisioned_concurrency_spills_over(
    tmp_path: Path, units: int, spilled: int
) -> None:
    """At the peak's size no request is cold; one below it exactly one is, and is counted."""

    async def steps(house: House) -> None:
        for _ in range(3):
            cold = await peak(house)
            assert sum(cold) == spilled
            await house.wait(1000.0)  # what spilled over has ended; what is provisioned has not
        served = metric(house, "Invocations")["Sum"]
        over = house.endpoint.status()["metrics"].get(
            "ServerlessProvisionedConcurrencySpilloverInvocations", {"Sum": 0}
        )["Sum"]
        assert (served, over) == (3 * units, 3 * spilled)
        assert metric(house, "Utilization")["Maximum"] == 1.0
        assert metric(house, "Executions")["Maximum"] == units

    live(tmp_path, kept_ready(units), steps)


def test_provisioned_environments_are_ready_before_the_first_request(tmp_path: Path) -> None:
    """They start when the endpoint opens, and are noted with the units that are billed."""

    async def steps(house: House) -> None:
        assert house.alive == 2
        assert (await house.ask()).cold is None
        await house.wait(10_000.0)
        assert house.alive == 2

    events = live(tmp_path, kept_ready(2), steps)
    assert [event["units"] for event in events if event["kind"] == "provisioned"] == [2]
    assert not [event for event in events if event["kind"] == "cold_start"]


def test_a_provisioned_environment_that_dies_is_replaced(tmp_path: Path) -> None:
    """The request in between is served on demand."""

    async def steps(house: House) -> None:
        house.instances[0].alive = False
        assert (await house.ask()).cold is not None
        await house.wait(60.0)
        assert (await house.ask()).instance == "provisioned-2"

    live(tmp_path, kept_ready(1), steps)


def test_an_endpoint_whose_provisioned_model_fails_does_not_open(tmp_path: Path) -> None:
    """As on AWS, where its creation fails."""

    async def steps(house: House) -> None:
        house.broken = True
        house.endpoint._provisioned.units = 1
        with pytest.raises(InstanceFailed):
            await house.endpoint.open()

    live(tmp_path, kept_ready(0), steps)


@pytest.mark.parametrize("units", [0, 2])
def test_an_update_loses_every_environment(tmp_path: Path, units: int) -> None:
    """On-demand ones are gone; provisioned ones are started anew before the old ones go."""

    async def steps(house: House) -> None:
        await peak(house, 3)
        before = {each.name for each in house.instances}
        house.endpoint.update()
        await house.wait(30.0)
        assert house.alive == units
        assert not {each.name for each in house.instances if each.alive} & before
        assert await peak(house, 3) == [False] * units + [True] * (3 - units)

    events = live(tmp_path, kept_ready(units), steps)
    reasons = [event["reason"] for event in events if event["kind"] == "instance_stopped"]
    assert reasons.count("endpoint updated") == 3
    assert [event["version"] for event in events if event["kind"] == "endpoint_updated"] == [1]


def test_one_at_work_finishes_its_request_and_is_then_lost(tmp_path: Path) -> None:
    """An update breaks no answer; `updates_s` makes one at its moment."""

    async def steps(house: House) -> None:
        assert (await house.ask(200.0)).answer.status == 200
        await house.wait(1.0)
        assert house.alive == 0

    live(tmp_path, kept_ready(0, updates_s=[100.0]), steps)


def test_a_schedule_changes_what_is_provisioned(tmp_path: Path) -> None:
    """Up after 100 s, down after 1000 s; each change is noted."""

    async def steps(house: House) -> None:
        await house.wait(200.0)
        assert house.alive == 3
        assert await peak(house, 3) == [False] * 3
        await house.wait(1000.0)
        assert house.alive == 1

    plan = [Scheduled(100.0, 3), Scheduled(1000.0, 1)]
    events = live(tmp_path, kept_ready(0, provisioned_schedule=plan), steps)
    units = [event["units"] for event in events if event["kind"] == "provisioned"]
    assert units == [0, 3, 1]
    assert {event["reason"] for event in events if event["kind"] == "scaling"} == {"scheduled"}


def test_target_tracking_follows_the_utilisation(tmp_path: Path) -> None:
    """Busy units above the target add units; a quarter of an hour of silence removes them."""
    scaling = ProvisionedScaling(max_units=4, target_utilization=0.5)

    async def steps(house: House) -> None:
        for _ in range(20):  # about one at a time, without a pause
            await house.ask(15.0)
        await house.wait(60.0)
        assert house.endpoint.status()["provisioned"] == 2
        await house.wait(3000.0)
        assert house.endpoint.status()["provisioned"] == 1
        assert house.alive == 1

    target = kept_ready(1, provisioned_scaling=scaling)
    events = live(tmp_path, target, steps)
    changes = [(e["before"], e["desired"]) for e in events if e["kind"] == "scaling"]
    assert changes == [(1, 2), (2, 1)]


def test_other_bounds_hold_at_once_and_for_the_policy(tmp_path: Path) -> None:
    """Two at once; and the silence that followed removes none of them."""
    scaling = ProvisionedScaling(max_units=4, target_utilization=0.5)

    async def steps(house: House) -> None:
        house.endpoint.hold("AllTraffic", 2, 3, "asked for")
        await house.wait(3000.0)
        assert house.alive == 2
        house.endpoint.hold("AllTraffic", 1, 3, "asked for")
        await house.wait(3000.0)
        assert house.alive == 1  # its policy goes down to the new bound by itself
        with pytest.raises(ApiError, match="above MaxConcurrency 10"):
            house.endpoint.hold("AllTraffic", 1, 11, "asked for")

    live(tmp_path, kept_ready(1, provisioned_scaling=scaling), steps)


def test_the_concurrency_can_be_changed_while_it_serves(tmp_path: Path) -> None:
    """What breaks a limit is refused as the API refuses it, and changes nothing."""

    async def steps(house: House) -> None:
        house.endpoint.change_concurrency(2, 1)
        await house.wait(30.0)
        assert house.alive == 1
        for most, units in ((0, 0), (201, 0), (2, 3)):
            with pytest.raises(ApiError, match="MaxConcurrency") as caught:
                house.endpoint.change_concurrency(most, units)
            assert caught.value.code == "ValidationError"
        assert house.endpoint.max_concurrency == 2

    live(tmp_path, kept_ready(0), steps)


def test_the_account_limit_throttles_across_endpoints(tmp_path: Path) -> None:
    """Requests open in other endpoints of the account count."""
    target = Serverless(max_concurrency=10, profile={**FIXED, "account_concurrency": 5})
    account = Account(open=4)

    async def steps(house: House) -> None:
        answers = await asyncio.gather(house.ask(5.0), house.ask(5.0), return_exceptions=True)
        [refused] = [answer for answer in answers if isinstance(answer, ApiError)]
        assert (refused.code, refused.status) == ("ThrottlingException", 400)
        assert account.open == 4

    live(tmp_path, target, steps, account=account)


def test_fetching_counts_towards_the_startup_limit(tmp_path: Path) -> None:
    """20 GB at 100 MB/s are 200 s: more than three minutes."""
    target = Serverless(profile={**FIXED, "placement_sigma": 0})

    async def steps(house: House) -> None:
        with pytest.raises(ApiError, match=r"took 200\.0 s .* more than the 180 s allowed"):
            await house.ask()
        assert house.alive == 0

    events = live(tmp_path, target, steps, package_bytes=20 * 10**9)
    assert [event["kind"] for event in events if "failed" in event["kind"]] == ["instance_failed"]


def test_a_lambda_start_beyond_ten_seconds_is_begun_again(tmp_path: Path) -> None:
    """The lost first attempt is a modelled part of its own."""

    async def steps(house: House) -> None:
        house.startup = Startup(12.0, 8.0, 3.0)
        cold = (await house.ask()).cold
        assert cold is not None
        assert cold.retry_s == 10.0
        assert cold.modelled_s > 10.0

    live(tmp_path, Lambda(), steps)


def test_metrics_are_kept_by_the_minute(tmp_path: Path) -> None:
    """With those of the other options, in the file of the run."""
    log = EventLog(tmp_path / DRAFT)

    async def steps(house: House) -> None:
        await house.ask()
        await house.wait(600.0)
        await house.ask()
        await house.ask()

    live(tmp_path, kept_ready(0), steps, metrics=log)
    log.close()
    finish_metrics(tmp_path, 0.0)
    rows = read_metrics(tmp_path)
    counted = rows[rows["metric"] == "Invocations"]
    assert list(counted["sum"]) == [1, 2]
    assert set(counted["at_s"]) == {0.0, 600.0}
    setup = rows[rows["metric"] == "ModelSetupTime"]
    assert set(setup["unit"]) == {"Microseconds"}
    assert setup["min"].min() > 500_000
    assert set(rows["variant"]) == {"AllTraffic"}


def test_metrics_have_cloudwatchs_names_and_units(tmp_path: Path) -> None:
    """Set-up and overhead contain the cold start, modelled parts included, in microseconds."""

    async def steps(house: House) -> None:
        await house.ask()
        await house.ask()
        with pytest.raises(ApiError):
            await house.ask(float("nan"))
        metrics = house.endpoint.status()["metrics"]
        setup = metrics["ModelSetupTime"]
        assert (setup["Unit"], setup["SampleCount"]) == ("Microseconds", 1)
        assert setup["Sum"] > 500_000  # the instance says 0.5 s, and there is a placement
        assert metrics["OverheadLatency"]["Maximum"] >= setup["Sum"]
        assert metrics["ModelLatency"]["SampleCount"] == 2
        assert metrics["Invocations"]["Sum"] == 3
        assert metrics["Invocation5XXErrors"]["Sum"] == 1
        assert metrics["ServerlessConcurrentExecutionsUtilization"]["Maximum"] == 0.1

    live(tmp_path, kept_ready(0), steps)


def test_a_functions_metrics_have_lambdas_names_and_units(tmp_path: Path) -> None:
    """The profile's, not SageMaker's: what is throttled is no invocation; set-up is no duration."""
    target = Lambda(max_concurrency=2, provisioned_concurrency=1, profile={**FIXED})
    log = EventLog(tmp_path / DRAFT)

    async def steps(house: House) -> None:
        answers = await asyncio.gather(*(house.ask(5.0) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers].count(ApiError) == 1
        with pytest.raises(ApiError):
            await house.ask(float("nan"))
        found = house.endpoint.status()["metrics"]
        assert {name: (each["Unit"], each["Sum"]) for name, each in found.items()} == {
            "Invocations": ("Count", 3),
            "Errors": ("Count", 1),
            "Throttles": ("Count", 1),
            "Duration": ("Milliseconds", pytest.approx(0, abs=1000)),
            "ConcurrentExecutions": ("Count", pytest.approx(5)),
            "ProvisionedConcurrentExecutions": ("Count", pytest.approx(3)),
            "ProvisionedConcurrencyUtilization": ("Count", pytest.approx(3)),
            "ProvisionedConcurrencyInvocations": ("Count", 2),
            "ProvisionedConcurrencySpilloverInvocations": ("Count", 1),
        }
        assert found["Duration"]["SampleCount"] == 3
        assert found["ConcurrentExecutions"]["Maximum"] == 2
        [pages] = house.endpoint.books
        assert pages.standing("ConcurrentExecutions") == 0, "they are over"

    live(tmp_path, target, steps, metrics=log)
    log.close()
    finish_metrics(tmp_path, 0.0)
    rows = read_metrics(tmp_path)
    shown = profile_for(target).cloudwatch
    assert shown is not None
    assert set(rows["metric"]) == set(shown.metrics)
    assert set(rows["variant"]) == {""}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (kept_ready(11), "provisioned_concurrency = 11: at most max_concurrency, which is 10"),
        (kept_ready(0, provisioned_schedule=[Scheduled(1, 11)]), "schedule: units = 11"),
        (
            kept_ready(5, provisioned_scaling=ProvisionedScaling(max_units=4)),
            "from 1 to 4 units: set provisioned_concurrency, now 5",
        ),
        (Lambda(memory_mb=64), "lambda.memory_mb = 64: choose from 128 to 10240"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(target: Serverless, message: str) -> None:
    """The error names the setting, its value and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        profile_for(target)
