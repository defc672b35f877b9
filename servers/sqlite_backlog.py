"""The embedded backlog: an SQLite file, which several processes of one machine may share.

Leases end by the time since the machine was started, which no one can set; a job whose holder's
process is dead, or that was leased before the machine was started, is free at once.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from servers.backlog import Counts, Job, Lease, Outcome
from servers.journal import Journal, Sync
from servers.owner import alive, boot, this_process

LEASE_S = 30.0

_WAITING, _TAKEN = 0, 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT, state INTEGER,
  received_s REAL, expires_s REAL,
  token INTEGER DEFAULT 0, deliveries INTEGER DEFAULT 0, owner TEXT DEFAULT '',
  lease_s REAL DEFAULT 0, outcome BLOB, job BLOB);
CREATE TABLE IF NOT EXISTS bodies (seq INTEGER PRIMARY KEY, body BLOB);
CREATE TABLE IF NOT EXISTS boot (id TEXT);
CREATE INDEX IF NOT EXISTS waiting ON jobs (endpoint, seq) WHERE state = 0;
CREATE INDEX IF NOT EXISTS expiring ON jobs (endpoint, expires_s) WHERE state = 0;
CREATE INDEX IF NOT EXISTS decided ON jobs (endpoint) WHERE state = 0 AND outcome IS NOT NULL;
CREATE INDEX IF NOT EXISTS taken ON jobs (endpoint, lease_s) WHERE state = 1;
"""
_TAKE = """
UPDATE jobs SET state = 1, token = token + 1, deliveries = deliveries + 1, owner = ?, lease_s = ?
WHERE seq IN ({}) RETURNING seq, token, deliveries, outcome, job
"""
_OLDEST = "SELECT seq FROM jobs WHERE endpoint = ? AND state = 0 ORDER BY seq LIMIT ?"
_EXPIRED = """
SELECT seq FROM jobs WHERE endpoint = ? AND state = 0 AND expires_s <= ? ORDER BY expires_s LIMIT ?
"""
_DECIDED = """
SELECT seq FROM jobs WHERE endpoint = ? AND state = 0 AND outcome IS NOT NULL LIMIT ?
"""
_MINE = "WHERE seq = ? AND token = ? AND state = 1"

_jobs = msgspec.msgpack.Decoder(Job)
_outcomes = msgspec.msgpack.Decoder(Outcome)
_encode = msgspec.msgpack.encode


class SqliteBacklog:
    """A `Backlog` for one endpoint in a file that may hold those of others."""

    def __init__(
        self,
        path: Path,
        endpoint: str,
        *,
        sync: Sync = "normal",
        lease_s: float = LEASE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._endpoint = endpoint
        self._sync = sync
        self._lease_s = lease_s
        self._monotonic = monotonic

    async def open(self) -> None:
        """Make the file if there is none, and free what dead holders have left."""
        self._journal = Journal(self._path, _SCHEMA, self._sync)
        await self._journal.run(_free_after_restart)
        await self.free_dead()

    async def close(self) -> None:
        await self._journal.close()

    async def put(self, job: Job, body: bytes | None = None) -> None:
        row = (self._endpoint, job.received_s, job.expires_s, _encode(job))

        def insert(db: sqlite3.Connection) -> None:
            sql = "INSERT INTO jobs (endpoint, state, received_s, expires_s, job)"
            seq = db.execute(f"{sql} VALUES (?, 0, ?, ?, ?)", row).lastrowid
            if body is not None:
                db.execute("INSERT INTO bodies VALUES (?, ?)", (seq, body))

        await self._journal.run(insert)

    async def take(self, limit: int) -> list[Lease]:
        return await self._taken(_OLDEST, (self._endpoint, limit))

    async def expired(self, now_s: float, limit: int) -> list[Lease]:
        return await self._taken(_EXPIRED, (self._endpoint, now_s, limit))

    async def next_expiry_s(self) -> float | None:
        sql = "SELECT min(expires_s) FROM jobs WHERE endpoint = ? AND state = 0"
        row = await self._journal.run(lambda db: db.execute(sql, (self._endpoint,)).fetchone())
        return None if row[0] is None else float(row[0])

    async def extend(self, leases: Sequence[Lease]) -> list[bool]:
        until_s = self._monotonic() + self._lease_s
        sql = f"UPDATE jobs SET lease_s = ? {_MINE}"

        def renew(db: sqlite3.Connection) -> list[bool]:
            return [db.execute(sql, (until_s, le.key, le.token)).rowcount == 1 for le in leases]

        renewed: list[bool] = await self._journal.run(renew)
        return renewed

    async def decided(self, limit: int) -> list[Lease]:
        return await self._taken(_DECIDED, (self._endpoint, limit))

    async def decide(self, lease: Lease, outcome: Outcome, again: bool = False) -> bool:
        sql = f"UPDATE jobs SET outcome = ? {_MINE}" + ("" if again else " AND outcome IS NULL")
        return await self._changed(sql, (_encode(outcome), lease.key, lease.token))

    async def finish(self, lease: Lease) -> bool:
        def forget(db: sqlite3.Connection) -> bool:
            key = (lease.key, lease.token)
            if db.execute(f"DELETE FROM jobs {_MINE}", key).rowcount != 1:
                return False
            db.execute("DELETE FROM bodies WHERE seq = ?", key[:1])
            return True

        return bool(await self._journal.run(forget))

    async def release(self, lease: Lease, delay_s: float = 0.0) -> None:
        # A lease of nobody, which ends when the job may be taken again.
        ready_s = self._monotonic() + delay_s
        sql = f"UPDATE jobs SET owner = '', lease_s = ?, token = token + 1 {_MINE}"
        await self._changed(sql, (ready_s, lease.key, lease.token))

    async def counts(self) -> Counts:
        where = "FROM jobs WHERE endpoint = ? AND state ="

        def count(db: sqlite3.Connection) -> Counts:
            self._free_ended(db)
            mine = (self._endpoint,)
            (waiting,) = db.execute(f"SELECT count(*) {where} 0", mine).fetchone()
            (taken,) = db.execute(f"SELECT count(*) {where} 1", mine).fetchone()
            oldest = f"SELECT received_s {where} 0 ORDER BY seq LIMIT 1"
            row = db.execute(oldest, mine).fetchone()
            return Counts(waiting, taken, row[0] if row else None)

        counted: Counts = await self._journal.run(count)
        return counted

    async def free_dead(self) -> int:
        """Free the jobs of processes that are dead; how many."""
        sql = "SELECT DISTINCT owner FROM jobs WHERE state = 1 AND owner != ''"
        owners = await self._journal.run(lambda db: db.execute(sql).fetchall())
        dead = [(owner,) for (owner,) in owners if not alive(owner)]
        if not dead:
            return 0
        free = "UPDATE jobs SET state = 0 WHERE state = 1 AND owner = ?"
        change = partial(_execute_many, free, dead)
        return int(await self._journal.run(change))

    async def _taken(self, choice: str, values: tuple[Any, ...]) -> list[Lease]:
        def take(db: sqlite3.Connection) -> list[Lease]:
            self._free_ended(db)
            until_s = self._monotonic() + self._lease_s
            rows = db.execute(_TAKE.format(choice), (this_process(), until_s, *values)).fetchall()
            return [_lease(db, row) for row in sorted(rows)]

        leases: list[Lease] = await self._journal.run(take)
        return leases

    def _free_ended(self, db: sqlite3.Connection) -> None:
        sql = "UPDATE jobs SET state = 0 WHERE endpoint = ? AND state = 1 AND lease_s <= ?"
        db.execute(sql, (self._endpoint, self._monotonic()))

    async def _changed(self, sql: str, values: tuple[Any, ...]) -> bool:
        return bool(await self._journal.run(lambda db: db.execute(sql, values).rowcount == 1))


def _lease(db: sqlite3.Connection, row: tuple[Any, ...]) -> Lease:
    seq, token, deliveries, outcome, packed = row
    job = _jobs.decode(packed)
    body = None
    if not job.input:
        body = db.execute("SELECT body FROM bodies WHERE seq = ?", (seq,)).fetchone()[0]
    decided = None if outcome is None else _outcomes.decode(outcome)
    return Lease(job, seq, token, deliveries, decided, body)


def _free_after_restart(db: sqlite3.Connection) -> None:
    """Time since the start of the machine means nothing after another start."""
    row = db.execute("SELECT id FROM boot").fetchone()
    if row is None or row[0] != boot():
        db.execute("UPDATE jobs SET state = 0")
        db.execute("DELETE FROM boot")
        db.execute("INSERT INTO boot VALUES (?)", (boot(),))


def _execute_many(sql: str, values: list[tuple[Any, ...]], db: sqlite3.Connection) -> int:
    return sum(db.execute(sql, each).rowcount for each in values)
