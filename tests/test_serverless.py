"""When environments start and end, with instances that take no time, on a clock that skips."""

import asyncio
from pathlib import Path

import pytest

from bench.target import Serverless
from servers.instance import Startup
from servers.wire import ApiError
from tests.serverless_house import House, live

KEPT = Serverless(
    max_concurrency=3, profile={"keep_alive_s": 300, "keep_alive_sigma": 0, "placement_median_s": 2}
)


def test_the_first_request_starts_cold_and_the_next_is_warm(tmp_path: Path) -> None:
    """Only the first waits for a start; both are answered by the same environment."""

    async def steps(house: House) -> None:
        first, second = await house.ask(), await house.ask()
        assert (first.cold is not None, second.cold is not None) == (True, False)
        assert first.cold is not None
        assert first.cold.placement_s > 0
        assert first.instance == second.instance == "environment-1"

    live(tmp_path, KEPT, steps)


@pytest.mark.parametrize(("gap_s", "cold"), [(299.0, False), (301.0, True)])
def test_an_idle_environment_is_kept_for_the_profiles_time(
    tmp_path: Path, gap_s: float, cold: bool
) -> None:
    """A request just within the keep-alive is warm, one just after it is cold."""

    async def steps(house: House) -> None:
        await house.ask()
        await house.wait(gap_s)
        assert ((await house.ask()).cold is not None) == cold

    live(tmp_path, KEPT, steps)


def test_every_use_renews_the_keep_alive(tmp_path: Path) -> None:
    """Requests every 200 s keep one environment warm for ever."""

    async def steps(house: House) -> None:
        for _ in range(10):
            await house.ask()
            await house.wait(200.0)
        assert len(house.instances) == 1

    live(tmp_path, KEPT, steps)


def test_an_environment_serves_one_request_at_a_time(tmp_path: Path) -> None:
    """A second request at the same time starts a second environment."""

    async def steps(house: House) -> None:
        both = await asyncio.gather(house.ask(10.0), house.ask(10.0))
        assert {served.instance for served in both} == {"environment-1", "environment-2"}
        assert all(served.cold for served in both)

    live(tmp_path, KEPT, steps)


def test_the_environment_used_last_is_taken_first(tmp_path: Path) -> None:
    """With little traffic the others grow idle and end."""

    async def steps(house: House) -> None:
        await asyncio.gather(house.ask(1.0), house.ask(5.0))
        for _ in range(3):
            await house.wait(200.0)
            assert (await house.ask()).instance == "environment-2"
        assert house.alive == 1

    live(tmp_path, KEPT, steps)


def test_above_the_maximum_concurrency_requests_are_throttled(tmp_path: Path) -> None:
    """Those that wait for a start count, too; afterwards there is room again."""

    async def steps(house: House) -> None:
        answers = await asyncio.gather(*(house.ask(5.0) for _ in range(5)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, ApiError)]
        assert [error.code for error in refused] == ["ThrottlingException"] * 2
        await house.ask()

    live(tmp_path, KEPT, steps)


def test_the_modelled_placement_passes_on_the_clock_alone(tmp_path: Path) -> None:
    """An hour of placement is skipped, and told apart from what was measured."""
    target = Serverless(profile={"placement_median_s": 3600, "placement_sigma": 0})

    async def steps(house: House) -> None:
        began_s = house.timers.now()
        served = await house.ask(0.0)
        assert house.timers.now() - began_s == pytest.approx(3600, abs=1)
        assert served.cold is not None
        assert served.cold.placement_s == 3600
        assert served.cold.startup == Startup(0.5, 0.4, 0.1)

    events = live(tmp_path, target, steps)
    cold = next(event for event in events if event["kind"] == "cold_start")
    assert (cold["placement_s"], cold["setup_s"]) == (3600, 0.5)


def test_the_same_seed_draws_the_same_placements(tmp_path: Path) -> None:
    """Two runs of one schedule have the same modelled delays."""
    drawn: list[list[float]] = []
    for name in ("one", "two"):
        delays: list[float] = []

        async def steps(house: House, delays: list[float] = delays) -> None:
            for _ in range(5):
                cold = (await house.ask()).cold
                assert cold is not None
                delays.append(cold.placement_s)
                await house.wait(400.0)

        (tmp_path / name).mkdir()
        live(tmp_path / name, KEPT, steps)
        drawn.append(delays)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 5


def test_an_environment_that_died_is_not_used(tmp_path: Path) -> None:
    """The next request starts another instead of failing."""

    async def steps(house: House) -> None:
        await house.ask()
        house.instances[0].alive = False
        assert (await house.ask()).instance == "environment-2"

    events = live(tmp_path, KEPT, steps)
    assert "ended by itself" in [event.get("reason") for event in events]


def test_an_environment_that_gave_no_answer_is_ended(tmp_path: Path) -> None:
    """After a time-out it may still be at work: the next request gets another."""

    async def steps(house: House) -> None:
        with pytest.raises(ApiError, match="Your invocation timed out"):
            await house.ask(float("nan"))
        assert (await house.ask()).instance == "environment-2"
        assert [instance.alive for instance in house.instances] == [False, True]

    events = live(tmp_path, KEPT, steps)
    assert "gave no answer" in [event.get("reason") for event in events]


def test_a_failed_start_is_a_model_error_and_frees_its_place(tmp_path: Path) -> None:
    """The caller reads the reason, and the concurrency is not used up."""

    async def steps(house: House) -> None:
        house.broken = True
        for _ in range(4):
            with pytest.raises(ApiError, match="could not be started: its process ended") as caught:
                await house.ask()
            assert caught.value.code == "ModelError"
        house.broken = False
        await house.ask()

    live(tmp_path, KEPT, steps)


def test_starts_beyond_the_cores_wait_and_say_so(tmp_path: Path) -> None:
    """With places for two, the third start waits for one of them, as a part of its own."""
    target = Serverless(profile={"placement_median_s": 0})

    async def steps(house: House) -> None:
        house.start_takes_s = 0.05
        served = await asyncio.gather(*(house.ask(0.0) for _ in range(3)))
        waits = sorted(each.cold.wait_s for each in served if each.cold)
        assert waits[1] < 0.04 < waits[2]

    events = live(tmp_path, target, steps)
    assert sum(event["wait_s"] > 0.04 for event in events if event["kind"] == "cold_start") == 1
