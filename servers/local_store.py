"""The embedded object store: bytes in files, names in an index.

A key never becomes a path: an object's bytes lie in files that the store names itself, and the
index (SQLite) says which. So no key can lead out of the store, "a" and "a/b" may both exist, and an
object changes at one moment, when its row does. Parts of a multipart upload stay the files that
they came as: completing one of a gigabyte copies nothing.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from servers.journal import Journal, Sync
from servers.owner import alive, this_process
from servers.store import (
    PIECE_BYTES,
    About,
    Location,
    Pieces,
    Reading,
    Staged,
    StoreError,
    check_bucket,
    check_key,
    no_such_bucket,
    no_such_key,
)

ORPHAN_S = 3600
"""A file that no row names and that is older is left over from a killed process."""
STAGED = "staged-"
STAGED_S = 86400
"""The same of what an asynchronous endpoint has staged: its backlog may still publish that."""
HANDOVER_BYTES = 1 << 20
"""Smaller pieces are written from the event loop; a thread costs more than they do."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, made_s REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (bucket TEXT, key TEXT, about TEXT, files TEXT,
  PRIMARY KEY (bucket, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, bucket TEXT, key TEXT, about TEXT,
  made_s REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (upload TEXT, number INTEGER, about TEXT, file TEXT,
  PRIMARY KEY (upload, number)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Stored:
    """A file that holds an object or a part of one."""

    file: str
    size: int


class LocalStore:
    """A `Store` in one folder. Several processes may share it."""

    def __init__(self, folder: Path, sync: Sync = "normal") -> None:
        self._blobs = folder / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._sync = sync
        self.index = Journal(folder / "index.db", _SCHEMA, sync)

    async def open(self) -> None:
        """Remove what killed processes left behind."""
        known = await self.index.run(_known_files)
        for path in self._blobs.iterdir():
            if path.name in known:
                continue
            owner, _, rest = path.name.partition("~")
            with contextlib.suppress(FileNotFoundError):
                limit_s = STAGED_S if path.name.startswith(STAGED) else ORPHAN_S
                old = time.time() - path.stat().st_mtime > limit_s
                if (rest and not alive(owner)) or (not rest and old):
                    path.unlink()

    async def close(self) -> None:
        await self.index.close()

    async def make_bucket(self, bucket: str) -> None:
        """Make it if it is not there."""
        check_bucket(bucket)
        sql = "INSERT OR IGNORE INTO buckets VALUES (?, ?)"
        await self.index.run(lambda db: db.execute(sql, (bucket, time.time())))

    async def put(self, where: Location, pieces: Pieces, about: About) -> About:
        """Store an object; readers see the old one or the whole new one."""
        await self.need_bucket(where.bucket)
        stored, etag = await self.write(pieces)
        whole = replace(about, size=stored.size, etag=etag, modified_s=time.time())
        try:
            await self._show(where, whole, stored)
        except BaseException:
            self.drop([stored.file])
            raise
        return whole

    async def stage(self, pieces: Pieces) -> Staged:
        stored, etag = await self.write(pieces, STAGED)
        return Staged(f"{stored.file} {stored.size} {etag}", stored.size, etag)

    async def publish(self, where: Location, staged: str, about: About) -> None:
        file, size, etag = staged.split(" ")
        if not (self._blobs / file).exists():
            return  # published before, and since replaced or deleted
        whole = replace(about, size=int(size), etag=etag, modified_s=time.time())
        await self._show(where, whole, Stored(file, int(size)))

    async def discard(self, staged: str) -> None:
        self.drop([staged.split(" ")[0]])

    async def check(self, where: Location) -> None:
        await self.need_bucket(where.bucket)

    async def write(self, pieces: Pieces, prefix: str = "") -> tuple[Stored, str]:
        """Bytes in a file that nothing names yet, and their MD5; nothing is left of a failure."""
        name = prefix + uuid.uuid4().hex
        draft = self._blobs / f"{this_process()}~{name}"
        digest, size = hashlib.md5(usedforsecurity=False), 0
        try:
            with draft.open("wb", buffering=0) as file:
                async for piece in pieces:
                    size += len(piece)
                    if len(piece) < HANDOVER_BYTES:
                        _write(file.fileno(), piece, digest)
                    else:
                        await asyncio.to_thread(_write, file.fileno(), piece, digest)
                if self._sync == "full":
                    await asyncio.to_thread(os.fsync, file.fileno())
            draft.rename(self._blobs / name)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StoreError(
                507, "InsufficientStorage", f"It cannot be written: {error}"
            ) from error
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return Stored(name, size), digest.hexdigest()

    async def _show(self, where: Location, about: About, stored: Stored) -> None:
        """Let this file be the object from now on."""
        check_key(where.key)
        files = json.dumps([[stored.file, stored.size]])
        row = (where.bucket, where.key, _packed(about), files)
        old = await self.index.run(lambda db: _replace(db, row))
        self.drop([file for file in old if file != stored.file])

    async def read(
        self, where: Location, begin: int = 0, end: int | None = None
    ) -> tuple[About, Reading]:
        """The object and its bytes from ``begin`` up to ``end``."""
        for _ in range(10):
            row = await self.index.run(lambda db: _find(db, where))
            about, files = _unpacked(row[0]), json.loads(row[1])
            try:
                # Opened now: an object that is replaced later is still read to its end.
                opened = [(os.open(self._blobs / file, os.O_RDONLY), size) for file, size in files]
            except FileNotFoundError:  # replaced between the look and the opening
                continue
            return about, _Reading(opened, begin, about.size if end is None else end)
        raise StoreError(500, "InternalError", f"The bytes of {where} are missing.")

    async def head(self, where: Location) -> About:
        row = await self.index.run(lambda db: _find(db, where))
        return _unpacked(row[0])

    async def delete(self, where: Location) -> None:
        """Remove the object, if there is one."""
        await self.need_bucket(where.bucket)
        self.drop(await self.index.run(lambda db: _delete(db, where)))

    async def need_bucket(self, bucket: str) -> None:
        sql = "SELECT 1 FROM buckets WHERE name = ?"
        if not await self.index.run(lambda db: db.execute(sql, (bucket,)).fetchone()):
            raise no_such_bucket(bucket)

    def drop(self, files: Sequence[str]) -> None:
        """Remove files that no row names any more."""
        for file in files:
            with contextlib.suppress(OSError):
                (self._blobs / file).unlink()


class _Reading:
    """The bytes of opened files, in pieces; closes them at the end or when asked to."""

    def __init__(self, opened: list[tuple[int, int]], begin: int, end: int) -> None:
        self._opened = opened
        self._begin, self._end = begin, end
        self._pieces = self._read()

    def __aiter__(self) -> "_Reading":
        return self

    async def __anext__(self) -> bytes:
        piece = next(self._pieces, None)
        if piece is None:
            await self.aclose()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        opened, self._opened = self._opened, []
        for descriptor, _ in opened:
            os.close(descriptor)

    def _read(self) -> Iterator[bytes]:
        at = 0
        for descriptor, size in self._opened:
            first, last = max(self._begin - at, 0), min(self._end - at, size)
            while first < last:
                piece = os.pread(descriptor, min(PIECE_BYTES, last - first), first)
                if not piece:
                    raise StoreError(500, "InternalError", "The object's file was cut short.")
                first += len(piece)
                yield piece
            at += size


def _write(descriptor: int, piece: bytes, digest: Any) -> None:
    digest.update(piece)
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def _known_files(db: sqlite3.Connection) -> set[str]:
    rows = db.execute("SELECT files FROM objects").fetchall()
    known = {file for (files,) in rows for file, _ in json.loads(files)}
    return known | {file for (file,) in db.execute("SELECT file FROM parts")}


def _find(db: sqlite3.Connection, where: Location) -> Any:
    sql = "SELECT about, files FROM objects WHERE bucket = ? AND key = ?"
    row = db.execute(sql, (where.bucket, where.key)).fetchone()
    if row is None:
        if not db.execute("SELECT 1 FROM buckets WHERE name = ?", (where.bucket,)).fetchone():
            raise no_such_bucket(where.bucket)
        raise no_such_key(where)
    return row


def _files_of(db: sqlite3.Connection, bucket: str, key: str) -> list[str]:
    sql = "SELECT files FROM objects WHERE bucket = ? AND key = ?"
    row = db.execute(sql, (bucket, key)).fetchone()
    return [file for file, _ in json.loads(row[0])] if row else []


def _replace(db: sqlite3.Connection, row: tuple[str, str, str, str]) -> list[str]:
    if not db.execute("SELECT 1 FROM buckets WHERE name = ?", (row[0],)).fetchone():
        raise no_such_bucket(row[0])
    old = _files_of(db, row[0], row[1])
    db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row)
    return old


def _delete(db: sqlite3.Connection, where: Location) -> list[str]:
    old = _files_of(db, where.bucket, where.key)
    db.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (where.bucket, where.key))
    return old


def _packed(about: About) -> str:
    return json.dumps(vars(about))


def _unpacked(text: str) -> About:
    return About(**json.loads(text))
