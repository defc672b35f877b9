"""What the S3 address asks of the embedded store beside objects: lists, buckets, multipart."""

import hashlib
import json
import sqlite3
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

from servers.local_store import LocalStore
from servers.store import About, Location, Pieces, StoreError, check_key, no_such_bucket

MAX_LISTED = 1000
MAX_PARTS = 10_000
MAX_UPLOADS = 10_000
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class Query:
    """What a list is asked for."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: int = MAX_LISTED


@dataclass(frozen=True)
class Listed:
    """Objects in the order of their keys' bytes, and what the delimiter has put together."""

    objects: list[tuple[str, About]]
    prefixes: list[str]
    next_after: str = ""
    """Where to go on; empty: that was all."""


def listed(db: sqlite3.Connection, query: Query) -> Listed:
    """Up to ``limit`` objects and common prefixes."""
    need_bucket(db, query.bucket)
    objects: list[tuple[str, About]] = []
    prefixes: list[str] = []
    after, last = query.after, ""
    sql = "SELECT key, about FROM objects WHERE bucket = ? AND key > ? AND key >= ? ORDER BY key"
    while True:
        rows = db.execute(f"{sql} LIMIT 256", (query.bucket, after, query.prefix)).fetchall()
        for key, about in rows:
            if not key.startswith(query.prefix):
                return Listed(objects, prefixes)
            if key <= after:  # inside a common prefix that is listed already
                continue
            if len(objects) + len(prefixes) >= query.limit:
                return Listed(objects, prefixes, last)
            rest = key[len(query.prefix) :]
            if query.delimiter and query.delimiter in rest:
                common = query.prefix + rest.partition(query.delimiter)[0] + query.delimiter
                prefixes.append(common)
                after = last = common + _LAST
                break  # over all that it holds
            objects.append((key, About(**json.loads(about))))
            after = last = key
        else:
            if len(rows) < 256:
                return Listed(objects, prefixes)


def need_bucket(db: sqlite3.Connection, bucket: str) -> None:
    if not db.execute("SELECT 1 FROM buckets WHERE name = ?", (bucket,)).fetchone():
        raise no_such_bucket(bucket)


def buckets(db: sqlite3.Connection) -> list[tuple[str, float]]:
    """Names, and when each was made."""
    return list(db.execute("SELECT name, made_s FROM buckets ORDER BY name"))


def remove_bucket(db: sqlite3.Connection, bucket: str) -> None:
    """Remove an empty bucket."""
    need_bucket(db, bucket)
    if db.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)).fetchone():
        raise StoreError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
    db.execute("DELETE FROM buckets WHERE name = ?", (bucket,))


class Uploads:
    """Objects that come in parts."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    async def begin(self, where: Location, about: About) -> str:
        """The id under which parts are sent."""
        check_key(where.key)
        name = uuid.uuid4().hex
        row = (name, where.bucket, where.key, json.dumps(vars(about)), time.time())

        def insert(db: sqlite3.Connection) -> None:
            need_bucket(db, where.bucket)
            if db.execute("SELECT count(*) FROM uploads").fetchone()[0] >= MAX_UPLOADS:
                raise StoreError(503, "SlowDown", f"{MAX_UPLOADS} uploads are open. Abort some.")
            db.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?)", row)

        await self._store.index.run(insert)
        return name

    async def part(self, upload: str, number: int, pieces: Pieces) -> About:
        """Keep one part; a later one of the same number takes its place."""
        if not 1 <= number <= MAX_PARTS:
            raise StoreError(400, "InvalidArgument", f"Part number must be 1 to {MAX_PARTS}.")
        await self._store.index.run(lambda db: _upload(db, upload))
        stored, etag = await self._store.write(pieces)
        about = About(stored.size, etag, time.time())

        def insert(db: sqlite3.Connection) -> list[str]:
            _upload(db, upload)
            sql = "SELECT file FROM parts WHERE upload = ? AND number = ?"
            old = [file for (file,) in db.execute(sql, (upload, number))]
            row = (upload, number, json.dumps(vars(about)), stored.file)
            db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?)", row)
            return old

        try:
            self._store.drop(await self._store.index.run(insert))
        except BaseException:
            self._store.drop([stored.file])
            raise
        return about

    async def parts(self, upload: str) -> list[tuple[int, About, str]]:
        """Number, description and file of each part that is there."""
        rows: list[tuple[int, About, str]] = await self._store.index.run(
            lambda db: _parts(db, upload)
        )
        return rows

    async def complete(self, upload: str, wanted: list[tuple[int, str]]) -> tuple[Location, About]:
        """Make the object of the parts with these numbers and ETags."""

        def change(db: sqlite3.Connection) -> tuple[Location, About, list[str]]:
            where, about = _upload(db, upload)
            there = {number: (part, file) for number, part, file in _parts(db, upload)}
            chosen = _chosen(wanted, there)
            digest = hashlib.md5(
                b"".join(bytes.fromhex(part.etag) for part, _ in chosen), usedforsecurity=False
            )
            whole = replace(
                about,
                size=sum(part.size for part, _ in chosen),
                etag=f"{digest.hexdigest()}-{len(chosen)}",
                modified_s=time.time(),
            )
            sql = "SELECT files FROM objects WHERE bucket = ? AND key = ?"
            old = db.execute(sql, (where.bucket, where.key)).fetchone()
            files = json.dumps([[file, part.size] for part, file in chosen])
            row = (where.bucket, where.key, json.dumps(vars(whole)), files)
            db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row)
            used = {file for _, file in chosen}
            unused = [file for _, file in there.values() if file not in used]
            _forget(db, upload)
            return where, whole, unused + [file for file, _ in json.loads(old[0] if old else "[]")]

        where, whole, unneeded = await self._store.index.run(change)
        self._store.drop(unneeded)
        return where, whole

    async def abort(self, upload: str) -> None:
        """Forget the upload and its parts."""

        def change(db: sqlite3.Connection) -> list[str]:
            files = [file for _, _, file in _parts(db, upload)]
            _forget(db, upload)
            return files

        self._store.drop(await self._store.index.run(change))


def _chosen(
    wanted: list[tuple[int, str]], there: dict[int, tuple[About, str]]
) -> list[tuple[About, str]]:
    numbers = [number for number, _ in wanted]
    if not wanted or numbers != sorted(set(numbers)):
        raise StoreError(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    for number, etag in wanted:
        if number not in there or there[number][0].etag != etag:
            raise StoreError(400, "InvalidPart", f"Part {number} is not there, or is another.")
    return [there[number] for number in numbers]


def _upload(db: sqlite3.Connection, upload: str) -> tuple[Location, About]:
    row = db.execute("SELECT bucket, key, about FROM uploads WHERE id = ?", (upload,)).fetchone()
    if row is None:
        raise StoreError(404, "NoSuchUpload", "The specified upload does not exist.")
    return Location(row[0], row[1]), About(**json.loads(row[2]))


def _parts(db: sqlite3.Connection, upload: str) -> list[tuple[int, About, str]]:
    _upload(db, upload)
    sql = "SELECT number, about, file FROM parts WHERE upload = ? ORDER BY number"
    rows: list[Any] = db.execute(sql, (upload,)).fetchall()
    return [(number, About(**json.loads(about)), file) for number, about, file in rows]


def _forget(db: sqlite3.Connection, upload: str) -> None:
    db.execute("DELETE FROM parts WHERE upload = ?", (upload,))
    db.execute("DELETE FROM uploads WHERE id = ?", (upload,))
