"""One timer for many that wait equally long."""

import asyncio
from collections.abc import Awaitable, Callable

from servers.patience import ROOM, Patience
from tests.serving import eventually_async


class Waiter:
    """Notes when its time was over."""

    def __init__(self) -> None:
        self.settled = False
        self.late_at: float | None = None

    def late(self) -> None:
        self.settled = True
        self.late_at = asyncio.get_running_loop().time()


def run(steps: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(steps(), 20))


def test_each_is_told_after_its_own_time_and_not_before() -> None:
    """Whoever came later is told later, and whoever was answered is not told."""

    async def steps() -> None:
        patience, limit_s = Patience(0.05), 0.05
        loop, waiters, began = asyncio.get_running_loop(), [], []
        for number in range(6):
            waiters.append(Waiter())
            began.append(loop.time())
            patience.begin(waiters[-1])
            waiters[-1].settled = number % 2 == 1
            await asyncio.sleep(0.01)
        await eventually_async(lambda: all(each.settled for each in waiters))
        for number, waiter in enumerate(waiters):
            if number % 2:
                assert waiter.late_at is None
            else:
                assert waiter.late_at is not None
                assert waiter.late_at - began[number] >= limit_s - 0.0015  # a timer's own rounding

    run(steps)


def test_one_that_hangs_keeps_no_others() -> None:
    """Those that were answered since are let go."""

    async def steps() -> None:
        patience = Patience(1000.0)
        patience.begin(Waiter())
        for _ in range(10 * ROOM):
            answered = Waiter()
            patience.begin(answered)
            answered.settled = True
        assert len(patience) <= 2 * ROOM

    run(steps)
