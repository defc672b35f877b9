"""A real-time endpoint on a clock that skips, with instances that are none."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from servers.layout import check_realtime
from servers.wire import ApiError
from tests.house import LAUNCH, House, live, target
from tests.serving import eventually_async

TRACKING = {"kind": "target-tracking", "target_value": 1}


def test_requests_go_to_any_instance_or_to_the_least_busy(tmp_path: Path) -> None:
    """Eight at once: two on each of four instances by outstanding requests, by luck otherwise."""
    most = {}
    for routing in ("LEAST_OUTSTANDING_REQUESTS", "RANDOM"):

        async def steps(house: House, routing: str = routing) -> None:
            house.let.clear()
            asked = [asyncio.create_task(house.ask()) for _ in range(8)]
            await eventually_async(lambda: sum(each.held for each in house.instances) == 8)
            house.let.set()
            await asyncio.gather(*asked)
            most[routing] = house.most_held

        folder = tmp_path / routing
        folder.mkdir()
        live(folder, target(instance_count=4, routing=routing), steps)
    assert most["LEAST_OUTSTANDING_REQUESTS"] == 2
    assert most["RANDOM"] > 2


def test_variants_share_by_weight_and_one_may_be_named(tmp_path: Path) -> None:
    """Three to one, each with its own model; TargetVariant overrides; others do not exist."""
    variants = [
        {"name": "old", "weight": 3, "model": "a"},
        {"name": "new", "weight": 1, "model": "b", "instance_count": 2},
    ]

    async def steps(house: House) -> None:
        served = Counter(
            [(s.variant, s.answer.body) for s in [await house.ask() for _ in range(400)]]
        )
        assert set(served) == {("old", b"a"), ("new", b"b")}
        assert 60 < served["new", b"b"] < 140
        assert (await house.ask(target_variant="new")).variant == "new"
        with pytest.raises(ApiError, match="has no production variant gone"):
            await house.ask(target_variant="gone")
        assert house.endpoint.status()["instances"] == 3

    _, metrics = live(tmp_path, target(variants=variants), steps)
    invocations = [m for m in metrics if m["kind"] == "Invocations"]
    assert {m["variant"] for m in invocations} == {"old", "new"}
    assert sum(m["sum"] for m in invocations) == 401


def test_a_shadow_gets_copies_and_its_answers_go_nowhere(tmp_path: Path) -> None:
    """About half of the requests at half the weight; its failures are in its metrics alone."""
    variants = [{"name": "prod", "weight": 1, "model": "a"}]
    shadow = {"name": "shade", "weight": 0.5, "model": "b"}

    async def steps(house: House) -> None:
        assert {(await house.ask()).answer.body for _ in range(200)} == {b"a"}
        await eventually_async(lambda: house.endpoint.books[1].in_flight == 0)
        shade = next(each for each in house.instances if each.model == "b")
        shade.refuses = True
        assert {(await house.ask()).answer.body for _ in range(20)} == {b"a"}

    _, metrics = live(tmp_path, target(variants=variants, shadow=shadow), steps)
    copies = sum(m["sum"] for m in metrics if (m["kind"], m["variant"]) == ("Invocations", "shade"))
    assert 75 < copies < 145


def test_an_instance_that_dies_is_replaced_and_loses_only_what_it_held(tmp_path: Path) -> None:
    """One of two dies with one request; the other answers on, and soon there are two again."""

    async def steps(house: House) -> None:
        house.let.clear()
        asked = [asyncio.create_task(house.ask()) for _ in range(2)]
        await eventually_async(lambda: sum(each.held for each in house.instances) == 2)
        house.instances[0].alive = False
        house.instances[0].gone.set()
        await eventually_async(lambda: len(house.alive) == 2)
        house.let.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(each, ApiError) for each in answers].count(True) == 1
        assert {(await house.ask()).instance for _ in range(20)} == {"instance-2", "instance-3"}

    events, _ = live(
        tmp_path, target(instance_count=2, routing="LEAST_OUTSTANDING_REQUESTS"), steps
    )
    stopped = [event for event in events if event["kind"] == "instance_stopped"]
    assert stopped[0]["instance"] == "instance-1"
    assert stopped[0]["reason"] == "ended with status -9"


def test_what_could_not_be_sent_goes_to_another_instance(tmp_path: Path) -> None:
    """A connection that is refused costs the caller nothing; the instance rests until a ping."""

    async def steps(house: House) -> None:
        house.instances[0].refuses, house.instances[0].healthy = True, False
        assert {(await house.ask()).instance for _ in range(20)} == {"instance-2"}
        house.instances[1].refuses = True
        with pytest.raises(ApiError, match="no healthy instance") as caught:
            await house.ask()
        assert caught.value.code == "ServiceUnavailable"

    live(tmp_path, target(instance_count=2), steps)


def test_an_unhealthy_instance_is_taken_out_and_restarted(tmp_path: Path) -> None:
    """After two failed health checks another one stands in its place."""
    profile = {**LAUNCH, "health_check_interval_s": 0.01, "unhealthy_after": 2}

    async def steps(house: House) -> None:
        house.instances[0].healthy = False
        await eventually_async(lambda: not house.instances[0].alive and len(house.alive) == 2)
        assert {(await house.ask()).instance for _ in range(20)} == {"instance-2", "instance-3"}

    events, _ = live(tmp_path, target(instance_count=2, profile=profile), steps)
    stopped = [event["reason"] for event in events if event["kind"] == "instance_stopped"]
    assert stopped[0] == "unhealthy: 2 health checks failed in a row"


def test_a_session_stays_on_its_instance(tmp_path: Path) -> None:
    """From the answer that opens it to the one that closes it."""

    async def steps(house: House) -> None:
        house.answer_headers = {
            "x-amzn-sagemaker-new-session-id": "s1; Expires=2099-01-01T00:00:00Z"
        }
        home = (await house.ask(session_id="NEW_SESSION")).instance
        house.answer_headers = {}
        assert {(await house.ask(session_id="s1")).instance for _ in range(20)} == {home}
        house.answer_headers = {"x-amzn-sagemaker-closed-session-id": "s1"}
        await house.ask(session_id="s1")
        house.answer_headers = {}
        assert len({(await house.ask(session_id="s1")).instance for _ in range(40)}) == 4

    live(tmp_path, target(instance_count=4), steps)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "two are called a"),
        ({"variants": [{"name": "a", "weight": 0}]}, "every weight is 0"),
        (
            {"variants": [{"name": "a"}, {"name": "b"}], "shadow": {"name": "c"}},
            "exactly one production variant",
        ),
        (
            {"scaling": {**TRACKING, "min_count": 5}},
            "min_count = 5, max_count = 4",
        ),
        (
            {"scaling": {**TRACKING, "min_count": 0}},
            "Choose 1 <= min_count",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, Any], words: str) -> None:
    """A usage error with the value and the remedy."""
    with pytest.raises(ConfigError, match=words):
        check_realtime(target(**settings))
