"""The embedded backlog alone: other processes, the machine, the disk, its index of expiry."""

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import pytest

from bench.errors import ConfigError
from servers.backlog import Backlog, Outcome
from servers.journal import Sync
from servers.lmdb_backlog import LmdbBacklog
from tests.queues import inline, job, live

pytestmark = pytest.mark.slow


_HOLDER = """
import asyncio, sys
from pathlib import Path
from servers.backlog import Outcome
from servers.lmdb_backlog import LmdbBacklog

async def hold(backlog):
    print([lease.job.id for lease in await backlog.take(2)], flush=True)
    await asyncio.sleep(600)

async def work(backlog):
    print("up", flush=True)
    while True:
        for lease in await backlog.take(1):
            assert await backlog.decide(lease, Outcome("Completed"))
            assert await backlog.finish(lease)
            if lease.job.id == "job0":
                return
            print(lease.job.id)

async def main():
    backlog = LmdbBacklog(Path(sys.argv[2]))
    await backlog.open()
    await globals()[sys.argv[1]](backlog)

asyncio.run(main())
"""


def holder(does: str, path: Path) -> subprocess.Popen[bytes]:
    """Another process that opens the queue and says so."""
    command = [sys.executable, "-c", _HOLDER, does, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_processes_share_one_queue(tmp_path: Path) -> None:
    """Two work it off while a third fills it: each job goes to one of them."""
    path = tmp_path / "queue"

    async def steps(backlog: Backlog) -> None:
        workers = [holder("work", path) for _ in range(2)]
        for worker in workers:
            assert worker.stdout is not None
            assert await asyncio.to_thread(worker.stdout.readline) == b"up\n"
        for number in range(1, 1000):
            await backlog.put(job(number))
        for _ in workers:
            await backlog.put(job(0))  # the end
        texts = [(await asyncio.to_thread(worker.communicate))[0] for worker in workers]
        done = [line for text in texts for line in text.decode().split()]
        assert sorted(done) == sorted(f"job{number}" for number in range(1, 1000))
        assert (await backlog.counts()).all == 0

    live(lambda: LmdbBacklog(path), steps)


def test_the_jobs_of_a_killed_process_are_free_at_once(tmp_path: Path) -> None:
    """Long before its leases would have ended."""

    async def steps() -> None:
        backlog = LmdbBacklog(tmp_path / "queue")
        await backlog.open()
        for number in range(3):
            await backlog.put(job(number))
        other = holder("hold", tmp_path / "queue")
        assert other.stdout is not None
        assert b"job1" in await asyncio.to_thread(other.stdout.readline)
        assert len(await backlog.take(9)) == 1
        assert await backlog.free_dead() == 0
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        other.stdout.close()
        assert await backlog.free_dead() == 2
        assert [lease.job.id for lease in await backlog.take(9)] == ["job0", "job1"]
        await backlog.close()

    asyncio.run(steps())


def test_setting_the_wall_clock_ends_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither forwards nor backwards: leases end by the time since the machine was started."""
    moment = [1000.0]

    async def steps() -> None:
        path = tmp_path / "queue"
        backlog = LmdbBacklog(path, lease_s=30, monotonic=lambda: moment[0])
        await backlog.open()
        await backlog.put(job(1))
        assert len(await backlog.take(1)) == 1
        for jump_s in (86400.0, -86400.0):
            monkeypatch.setattr(time, "time", lambda jump_s=jump_s: 1.7e9 + jump_s)
            assert await backlog.take(1) == []
        moment[0] += 31
        assert len(await backlog.take(1)) == 1
        await backlog.close()

    asyncio.run(steps())


def test_a_full_file_is_told_to_whoever_puts(tmp_path: Path) -> None:
    """What was put before stays and can be done, and then there is room again."""

    async def steps(backlog: Backlog) -> None:
        async def fill() -> None:
            while True:
                await backlog.put(inline("b"), b"x" * 100_000)

        await backlog.put(job(1))
        with pytest.raises(lmdb.MapFullError):
            await fill()
        counts = await backlog.counts()
        assert 1 < counts.waiting < 12
        leases = await backlog.take(99)
        assert len(leases) == counts.waiting
        for lease in leases:
            assert await backlog.decide(lease, Outcome("Completed"))
            assert await backlog.finish(lease)
        await backlog.put(inline("c"), b"x" * 100_000)

    live(lambda: LmdbBacklog(tmp_path / "queue", map_bytes=1 << 20), steps)


@pytest.mark.parametrize("sync", ["normal", "full"])
def test_a_full_disk_is_told_to_whoever_puts(tmp_path: Path, sync: Sync) -> None:
    """Only to them, and the next put succeeds when there is room.

    A limit on the size of files stands for the full disk: writing fails in the same way.
    """
    path = tmp_path / "queue"

    async def steps(backlog: Backlog) -> None:
        for number in range(20):  # so that there are pages to be used again
            await backlog.put(job(number))
        leases = await backlog.take(20)
        for lease in leases:
            assert await backlog.finish(lease)
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, old[1]))
        try:
            puts = [backlog.put(job(1)), backlog.put(inline("b"), b"x" * 100_000)]
            told = await asyncio.gather(*puts, return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert [type(each) for each in told] == [type(None), lmdb.Error]
        await backlog.put(inline("c"), b"x" * 100_000)
        assert [lease.job.id for lease in await backlog.take(9)] == ["job1", "c"]

    live(lambda: LmdbBacklog(path, sync=sync), steps)


def test_whatever_the_order_of_expiry_all_that_expires_is_found(tmp_path: Path) -> None:
    """Jobs of all lifetimes in a queue of many zones, of which some are taken and put back."""
    draw = random.Random(1)

    async def steps(backlog: Backlog) -> None:
        alive = {number: draw.uniform(60, 21600) for number in range(900)}
        for number, expires_s in alive.items():
            await backlog.put(job(number, expires_s))
        leases = await backlog.take(300)
        for lease in leases[::2]:
            await backlog.release(lease)
        for lease in leases[1::2]:
            assert await backlog.finish(lease)
            del alive[int(lease.job.id.removeprefix("job"))]
        for now_s in (59, 60, 500, 500, 5000, 21600):
            found: dict[int, float] = {}
            while leases := await backlog.expired(now_s, 64):
                found |= {int(lease.job.id[3:]): lease.job.expires_s for lease in leases}
            assert found == {name: at_s for name, at_s in alive.items() if at_s <= now_s}
            alive = {name: at_s for name, at_s in alive.items() if at_s > now_s}
            assert await backlog.next_expiry_s() == min(alive.values(), default=None)
            assert (await backlog.counts()).waiting == len(alive)

    live(lambda: LmdbBacklog(tmp_path / "queue"), steps)


def test_a_queue_that_a_power_failure_has_damaged_is_refused(tmp_path: Path) -> None:
    """At the first start after it, with the remedy."""
    path = tmp_path / "queue"

    async def steps(backlog: Backlog) -> None:
        for number in range(100):
            await backlog.put(job(number))

    live(lambda: LmdbBacklog(path), steps)
    os.utime(path, (0, 0))  # as if last written before the machine was started
    live(lambda: LmdbBacklog(path), lambda backlog: backlog.put(job(1)))
    os.truncate(path, 16384)
    os.utime(path, (0, 0))
    with pytest.raises(ConfigError, match=r"damaged.*Remove the file.*async\.sync=full"):
        live(lambda: LmdbBacklog(path), steps)


def test_jobs_leased_before_the_machine_was_started_again_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time since the start means nothing after another one."""
    from servers import lmdb_backlog

    async def steps(name: str, expected: int) -> None:
        monkeypatch.setattr(lmdb_backlog, "boot", lambda: name)
        backlog = LmdbBacklog(tmp_path / "queue")
        await backlog.open()
        if (name, expected) == ("first", 1):
            await backlog.put(job(1))
        assert len(await backlog.take(1)) == expected
        await backlog.close()

    asyncio.run(steps("first", 1))
    asyncio.run(steps("first", 0))
    asyncio.run(steps("second", 1))
