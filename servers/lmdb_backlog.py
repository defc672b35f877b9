"""The embedded backlog: an LMDB file, which several processes of one machine may share.

What a call has done survives the end of any process, for it is in the machine's page cache; the
call works in place, in some ten microseconds. With ``full`` it is on the disk and survives a power
failure, and those that come together share a commit, in a thread. Without ``full`` a power failure
can lose the last seconds and damage the file: the next start finds that out and refuses it.

Leases end by the time since the machine was started, which no one can set; a job whose holder's
process is dead, or that was leased before the machine was started, is free at once.

Whoever changes the file waits for whoever is changing it. A process that is killed meanwhile is no
obstacle on Linux and Windows; one that is stopped (SIGSTOP) is, until it goes on, and on macOS a
killed one is, too, until all that have the file open have ended: share a queue by NATS there.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import psutil
from lmdb.verify import VerifyError, verify
from msgspec.structs import replace

from bench.errors import ConfigError
from servers.backlog import Counts, Job, Lease, Outcome
from servers.commits import Commits
from servers.journal import Sync
from servers.lmdb_queue import DECIDED, WAITING, Queue, Transaction
from servers.owner import alive, boot, this_process

LEASE_S = 30.0
MAP_BYTES = 256 << 30
"""As large as the file may get: twice a million jobs with the largest bodies. Costs nothing."""


class LmdbBacklog:
    """A `Backlog` for one endpoint in a file of its own, once in a process."""

    def __init__(
        self,
        path: Path,
        *,
        sync: Sync = "normal",
        lease_s: float = LEASE_S,
        monotonic: Callable[[], float] = time.monotonic,
        map_bytes: int = MAP_BYTES,
    ) -> None:
        self._path = path
        self._sync = sync
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._map_bytes = map_bytes
        self._environment: lmdb.Environment | None = None
        self._commits: Commits[Transaction] | None = None
        self._next_end_s = 0.0
        """No lease that this process knows of ends before."""

    async def open(self) -> None:
        """Make the file if there is none, and free what dead holders have left."""
        self._owner = this_process()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_check, self._path)
        try:
            self._environment = lmdb.open(
                str(self._path),
                subdir=False,
                map_size=self._map_bytes,
                max_dbs=2,
                mode=0o644,
                sync=self._sync == "full",
            )
            self._queue = Queue(self._environment)
        except lmdb.Error as error:
            raise ConfigError(f"The queue in {self._path} cannot be opened: {error}.") from error
        if self._sync == "full":
            self._commits = Commits(self._path.stem, self._begin)
        await self._run(lambda transaction: self._queue.restarted(transaction, boot()))
        await self.free_dead()

    async def close(self) -> None:
        if self._commits is not None:
            await self._commits.close()
        if self._environment is not None:
            self._environment.close()
        self._commits = self._environment = None

    async def put(self, job: Job, body: bytes | None = None) -> None:
        await self._run(lambda transaction: self._queue.put(transaction, job, body))

    async def take(self, limit: int) -> list[Lease]:
        def oldest(transaction: Transaction) -> list[bytes]:
            decided = self._queue.first(transaction, DECIDED, limit)
            return decided + self._queue.first(transaction, WAITING, limit - len(decided))

        return await self._taken(oldest)

    async def expired(self, now_s: float, limit: int) -> list[Lease]:
        return await self._taken(lambda each: self._queue.expired(each, now_s, limit))

    async def next_expiry_s(self) -> float | None:
        next_s: float | None = await self._run(self._queue.next_expiry_s)
        return next_s

    async def extend(self, leases: Sequence[Lease]) -> list[bool]:
        ends_s = self._monotonic() + self._lease_s

        def renew(transaction: Transaction) -> list[bool]:
            return [self._changed(transaction, lease, ends_s=ends_s) for lease in leases]

        renewed: list[bool] = await self._run(renew)
        return renewed

    async def decided(self, limit: int) -> list[Lease]:
        return await self._taken(lambda each: self._queue.first(each, DECIDED, limit))

    async def decide(self, lease: Lease, outcome: Outcome, again: bool = False) -> bool:
        def note(transaction: Transaction) -> bool:
            entry = self._queue.held(transaction, lease)
            if entry is None or (entry.outcome is not None and not again):
                return False
            self._queue.write(transaction, lease, replace(entry, outcome=outcome))
            return True

        return bool(await self._run(note))

    async def finish(self, lease: Lease) -> bool:
        return bool(await self._run(lambda each: self._queue.forget(each, lease)))

    async def release(self, lease: Lease, delay_s: float = 0.0) -> None:
        # A lease of nobody, which ends when the job may be taken again.
        ready_s = self._monotonic() + delay_s

        def hold_back(transaction: Transaction) -> None:
            new = {"owner": "", "token": transaction.id(), "ends_s": ready_s}
            if self._changed(transaction, lease, **new):
                self._next_end_s = min(self._next_end_s, ready_s)

        await self._run(hold_back)

    async def counts(self) -> Counts:
        def count(transaction: Transaction) -> Counts:
            self._free_ended(transaction)
            self._queue.tidy(transaction)
            return self._queue.counts(transaction)

        counted: Counts = await self._run(count)
        return counted

    async def free_dead(self) -> int:
        """Free the jobs of processes that are dead; how many."""
        taken = await self._run(self._queue.taken)
        owners = {entry.owner for _, entry in taken} - {""}
        dead = {owner for owner in owners if not alive(owner)}

        def free(transaction: Transaction) -> int:
            left = [each for each in self._queue.taken(transaction) if each[1].owner in dead]
            for key, entry in left:
                self._queue.free(transaction, key, entry)
            return len(left)

        return int(await self._run(free)) if dead else 0

    async def _taken(self, choose: Callable[[Transaction], list[bytes]]) -> list[Lease]:
        def take(transaction: Transaction) -> list[Lease]:
            now_s = self._monotonic()
            if now_s >= self._next_end_s:
                self._free_ended(transaction)
            ends_s = now_s + self._lease_s
            keys = choose(transaction)
            return [self._queue.take(transaction, key, self._owner, ends_s) for key in keys]

        leases: list[Lease] = await self._run(take)
        return leases

    def _changed(self, transaction: Transaction, lease: Lease, **changes: Any) -> bool:
        entry = self._queue.held(transaction, lease)
        if entry is not None:
            self._queue.write(transaction, lease, replace(entry, **changes))
        return entry is not None

    def _free_ended(self, transaction: Transaction) -> None:
        now_s = self._monotonic()
        self._next_end_s = now_s + self._lease_s  # what is taken from now on ends later
        for key, entry in self._queue.taken(transaction):
            if entry.ends_s <= now_s:
                self._queue.free(transaction, key, entry)
            else:
                self._next_end_s = min(self._next_end_s, entry.ends_s)

    async def _run(self, change: Callable[[Transaction], Any]) -> Any:
        """What ``change`` returns, once it is committed; what it raises undoes it."""
        if self._commits is not None:
            return await self._commits.run(change)
        with self._begin() as transaction:
            return change(transaction)

    def _begin(self) -> Transaction:
        assert self._environment is not None
        return self._environment.begin(write=True)


def _check(path: Path) -> None:
    """ConfigError when a power failure has damaged the file."""

    def unused() -> bool:
        return path.exists() and path.stat().st_mtime < psutil.boot_time()

    if not unused():
        return
    try:
        problems = verify(str(path), subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as error:
        problems = [str(error)]
    if problems and unused():  # else another process uses it by now, and found it sound
        raise ConfigError(
            f"The queue in {path} is damaged ({problems[0]}), as a power failure can leave it. "
            "Remove the file, and what waited in it is lost. async.sync=full prevents this."
        )
