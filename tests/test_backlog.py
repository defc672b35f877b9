"""The backlog: the same facts of the embedded one and of the one on NATS JetStream."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers.backlog import Backlog, Outcome
from servers.backlog_nats import NatsBacklog
from servers.lmdb_backlog import LmdbBacklog
from tests.asynchronous import nats_server
from tests.queues import inline, job, live

LEASE_S = 1.5

Make = Callable[[], Backlog]


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JetStream server of its own."""
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@pytest.fixture(params=["lmdb", "nats"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes backlogs on one queue that is empty at first."""
    if request.param == "lmdb":
        return lambda: LmdbBacklog(tmp_path / "queue", lease_s=LEASE_S)
    url = request.getfixturevalue("nats_url")
    return lambda: NatsBacklog(url, tmp_path.name.replace("_", "-"), lease_s=LEASE_S)


async def taken_again(backlog: Backlog) -> list[object]:
    """Poll until something can be taken."""
    while not (leases := await backlog.take(1)):
        await asyncio.sleep(0.05)
    return list(leases)


pytestmark = pytest.mark.slow


def test_jobs_are_taken_in_their_order_once(make: Make) -> None:
    """And each is gone when it is finished."""

    async def steps(backlog: Backlog) -> None:
        for number in range(5):
            await backlog.put(job(number))
        leases = await backlog.take(3) + await backlog.take(9)
        assert [lease.job.id for lease in leases] == [f"job{number}" for number in range(5)]
        assert await backlog.take(9) == []
        counts = await backlog.counts()
        assert (counts.waiting, counts.taken, counts.all) == (0, 5, 5)
        for lease in leases:
            assert await backlog.decide(lease, Outcome("Completed"))
            assert await backlog.finish(lease)
        assert (await backlog.counts()).all == 0

    live(make, steps)


def test_a_small_body_is_kept_with_its_job(make: Make) -> None:
    """As it came, also with bytes that are no text."""

    async def steps(backlog: Backlog) -> None:
        body = bytes(range(256)) * 500
        await backlog.put(inline("a"), body)
        [lease] = await backlog.take(1)
        assert lease.body == body

    live(make, steps)


def test_an_old_token_is_worth_nothing(make: Make) -> None:
    """When a lease has ended, only the new holder can decide and finish."""

    async def steps(backlog: Backlog) -> None:
        await backlog.put(job(1))
        [old] = await backlog.take(1)
        [new] = await taken_again(backlog)
        assert (new.deliveries, new.token > old.token) == (2, True)  # type: ignore[attr-defined]
        assert not await backlog.decide(old, Outcome("Failed"))
        assert not await backlog.finish(old)
        assert await backlog.extend([old]) == [False]
        assert await backlog.decide(new, Outcome("Completed"))  # type: ignore[arg-type]
        assert await backlog.finish(new)  # type: ignore[arg-type]

    live(make, steps)


def test_a_job_whose_lease_has_ended_counts_as_waiting(make: Make) -> None:
    """Nobody would ask for it otherwise."""

    async def steps(backlog: Backlog) -> None:
        await backlog.put(job(1))
        assert len(await backlog.take(1)) == 1
        assert (await backlog.counts()).waiting == 0
        while not (await backlog.counts()).waiting:
            await asyncio.sleep(0.05)
        [lease] = await taken_again(backlog)
        assert lease.deliveries == 2  # type: ignore[attr-defined]

    live(make, steps)


def test_a_lease_that_is_renewed_does_not_end(make: Make) -> None:
    """Twice as long as a lease lasts, and nobody else gets the job."""

    async def steps(backlog: Backlog) -> None:
        await backlog.put(job(1))
        [lease] = await backlog.take(1)
        end_s = time.monotonic() + 2 * LEASE_S
        while time.monotonic() < end_s:
            assert await backlog.extend([lease]) == [True]
            assert await backlog.take(1) == []
            await asyncio.sleep(0.1)
        assert await backlog.decide(lease, Outcome("Completed"))

    live(make, steps)


def test_a_job_is_decided_once(make: Make) -> None:
    """Whoever takes a decided job is told the decision, and cannot make another."""

    async def steps(backlog: Backlog) -> None:
        await backlog.put(job(1))
        [lease] = await backlog.take(1)
        assert await backlog.decide(lease, Outcome("Failed", "because"))
        await backlog.release(lease)
        [again] = await taken_again(backlog)
        assert again.decided == Outcome("Failed", "because")  # type: ignore[attr-defined]
        assert not await backlog.decide(again, Outcome("Completed"))  # type: ignore[arg-type]

    live(make, steps)


def test_a_released_job_is_taken_again_after_its_delay(make: Make) -> None:
    """Not before, and by anyone."""

    async def steps(backlog: Backlog) -> None:
        await backlog.put(job(1))
        [lease] = await backlog.take(1)
        began = time.monotonic()
        await backlog.release(lease, 0.5)
        [again] = await taken_again(backlog)
        assert time.monotonic() - began >= 0.45
        assert again.job == lease.job  # type: ignore[attr-defined]

    live(make, steps)


def test_expired_jobs_are_found(make: Make) -> None:
    """Those whose time has passed, and when the next one's will."""

    async def steps(backlog: Backlog) -> None:
        await backlog.put(job(1, expires_s=200.0))
        await backlog.put(job(2, expires_s=300.0))
        assert await backlog.next_expiry_s() == 200.0
        assert await backlog.expired(199.0, 9) == []
        [lease] = await backlog.expired(250.0, 9)
        assert lease.job.id == "job1"
        assert await backlog.decide(lease, Outcome("Failed"))
        assert await backlog.finish(lease)
        assert await backlog.next_expiry_s() == 300.0
        assert (await backlog.counts()).oldest_s == 100.0

    live(make, steps)


def test_two_holders_of_one_queue_share_its_jobs(nats_url: str) -> None:
    """Each job goes to one of them."""

    async def steps(one: Backlog) -> None:
        other = NatsBacklog(nats_url, "shared", lease_s=LEASE_S)
        await other.open()
        for number in range(40):
            await one.put(job(number))
        takes = await asyncio.gather(*(each.take(10) for each in (one, other, one, other)))
        taken = [lease.job.id for leases in takes for lease in leases]
        assert len(taken) == len(set(taken)) == 40
        await other.close()

    live(lambda: NatsBacklog(nats_url, "shared", lease_s=LEASE_S), steps)


def test_what_is_put_survives_a_new_start(make: Make) -> None:
    """Closed and opened again, the jobs are there."""

    async def steps(backlog: Backlog) -> None:
        await backlog.put(job(1))
        await backlog.close()
        other = make()
        await other.open()
        [lease] = await other.take(1)
        assert lease.job.id == "job1"
        await other.close()

    live(make, steps)
