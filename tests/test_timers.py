import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from bench.clock import Clock
from bench.events import EventLog
from servers.timers import Timers


def on_clock(folder: Path, steps: Callable[[Timers], Awaitable[None]]) -> float:
    """Run ``steps`` with timers on a fresh clock that skips; the seconds skipped."""
    clock = Clock.create(folder, fast_forward=True)

    async def run() -> None:
        timers = Timers(clock, EventLog(None))
        async with asyncio.timeout(20):
            await steps(timers)
        await timers.close()

    asyncio.run(run())
    skipped_s = clock.skipped_s
    clock.close()
    return skipped_s


def test_a_long_sleep_takes_no_real_time(tmp_path: Path) -> None:
    """An hour on the clock passes at once when nothing else is under way."""

    async def steps(timers: Timers) -> None:
        began_s = timers.now()
        with timers.working():
            await timers.sleep(3600.0)
        assert timers.now() - began_s == pytest.approx(3600.0, abs=0.5)

    assert on_clock(tmp_path, steps) > 3599


def test_timers_fire_in_the_order_of_their_moments(tmp_path: Path) -> None:
    """Three timers set in another order fire by time, each at its own moment."""
    fired: list[tuple[str, float]] = []

    def note(name: str, timers: Timers) -> None:
        fired.append((name, timers.now()))

    async def steps(timers: Timers) -> None:
        done = asyncio.Event()
        with timers.working():
            for name, when_s in (("b", 200.0), ("c", 300.0), ("a", 100.0)):
                timers.call_at(when_s, partial(note, name, timers))
            timers.call_at(400.0, done.set)
        await done.wait()

    on_clock(tmp_path, steps)
    assert [name for name, _ in fired] == ["a", "b", "c"]
    assert [when for _, when in fired] == pytest.approx([100, 200, 300], abs=0.2)


def test_a_cancelled_timer_is_neither_called_nor_jumped_to(tmp_path: Path) -> None:
    """Cancelling takes the event off the account as well."""
    called: list[str] = []

    async def steps(timers: Timers) -> None:
        done = asyncio.Event()
        with timers.working():
            timers.call_at(500.0, lambda: called.append("cancelled")).cancel()
            timers.call_at(900.0, done.set)
        await done.wait()

    skipped_s = on_clock(tmp_path, steps)
    assert called == []
    assert skipped_s == pytest.approx(900.0, abs=0.5)


def test_started_work_holds_the_clock_until_it_ends(tmp_path: Path) -> None:
    """A timer an hour away fires only after the work that was started in between."""
    order: list[str] = []

    async def steps(timers: Timers) -> None:
        done = asyncio.Event()

        async def work() -> None:
            await asyncio.sleep(0)
            order.append("work")

        with timers.working():
            timers.call_at(3600.0, lambda: order.append("timer"))
            timers.call_at(3601.0, done.set)
            timers.start(work())
        await done.wait()

    on_clock(tmp_path, steps)
    assert order == ["work", "timer"]


def test_what_counts_from_the_loads_begin_waits_for_it(tmp_path: Path) -> None:
    """The clock is not turned before the timers are set; without a load it counts from now."""
    told: list[float] = []

    async def run() -> None:
        clock = Clock.create(tmp_path, fast_forward=True, awaits_load=True)
        timers, other = Timers(clock, EventLog(None)), clock.join()
        other.update(work=1)
        done = asyncio.Event()

        def begun(at_s: float) -> None:
            told.append(at_s)
            timers.call_at(at_s + 100.0, fired)

        def fired() -> None:
            told.append(clock.now())
            done.set()

        timers.when_load_begins(begun)
        other.update(work=-1, next_s=3600.0)
        await asyncio.sleep(0)
        assert not told
        assert clock.skipped_s == 0
        at_s = clock.now()
        other.begin_load(at_s)
        async with asyncio.timeout(20):
            await done.wait()
        assert told[0] == at_s
        assert told[1] - at_s == pytest.approx(100.0, abs=0.5)
        timers.when_load_begins(told.append)
        assert told[2] == at_s
        await timers.close()
        clock.close()

    asyncio.run(run())


def test_where_no_load_is_awaited_it_counts_from_now(tmp_path: Path) -> None:
    """As in a server that somebody has started by hand."""
    told: list[float] = []

    async def steps(timers: Timers) -> None:
        timers.when_load_begins(told.append)
        assert told[0] == pytest.approx(timers.now(), abs=0.5)

    on_clock(tmp_path, steps)


def test_what_runs_together_gives_its_part_back_without_a_gap(tmp_path: Path) -> None:
    """Two rests beside each other: no jump comes between the longer one's end and what follows."""

    async def steps(timers: Timers) -> None:
        with timers.working():
            timers.call_at(10_000.0, lambda: None)  # where a gap would lead
            outcomes = await timers.together([timers.rest(100.0), timers.rest(200.0), fails()])
            assert timers.now() == pytest.approx(200, abs=1)
            await timers.rest(100.0)
            assert timers.now() == pytest.approx(300, abs=1)
            assert await timers.together([]) == []
        assert [type(each) for each in outcomes] == [type(None), type(None), ValueError]

    async def fails() -> None:
        raise ValueError

    on_clock(tmp_path, steps)


def test_a_rest_that_is_cancelled_leaves_the_account_as_it_was(tmp_path: Path) -> None:
    """The work of whoever was cancelled holds the clock while it cleans up."""

    async def steps(timers: Timers) -> None:
        cleaning, let_go = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                await timers.rest(9000.0)
            finally:
                timers.call_at(5000.0, lambda: None)
                cleaning.set()
                await let_go.wait()
                assert timers.now() < 1

        with timers.working():
            task = timers.start(work())
            await asyncio.sleep(0)
            task.cancel()
            await cleaning.wait()
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    on_clock(tmp_path, steps)
