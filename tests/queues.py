"""What tests of the queue share: jobs, and a loop to use a queue in."""

import asyncio
from collections.abc import Awaitable, Callable

from servers.backlog import Backlog, Job


def job(number: int, expires_s: float = 1e12) -> Job:
    name = f"job{number}"
    return Job(name, name, 100.0, expires_s, 900.0, "s3://o/k", "", "s3://i/k")


def inline(name: str) -> Job:
    """A job that comes with its body."""
    return Job(name, name, 1.0, 1e12, 1.0, "s3://o/k", "")


def live(make: Callable[[], Backlog], steps: Callable[[Backlog], Awaitable[None]]) -> None:
    async def run() -> None:
        backlog = make()
        await backlog.open()
        try:
            async with asyncio.timeout(30):
                await steps(backlog)
        finally:
            await backlog.close()

    asyncio.run(run())
