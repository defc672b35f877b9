"""Objects under ``s3://bucket/key``: what an asynchronous endpoint reads and writes."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

PIECE_BYTES = 1 << 20
"""Objects are read and written in pieces of about this size: no object is ever held whole."""

MAX_KEY_BYTES = 1024

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

Pieces = AsyncIterator[bytes]


class StoreError(Exception):
    """The store did not do it; ``code`` is S3's own word for why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Location:
    """Where an object is."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class About:
    """What an object is, without its bytes."""

    size: int
    etag: str
    modified_s: float
    """Seconds since 1970."""
    content_type: str = "binary/octet-stream"
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Staged:
    """Bytes that the store has and shows to nobody yet."""

    ref: str
    """What the store calls them; a text that another process may use."""
    size: int
    etag: str


class Reading(Protocol):
    """The bytes of an object, in pieces. Close it when you do not read to the end."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None: ...


class Store(Protocol):
    """Whole objects or none: a put is seen by readers when it is complete, and at once."""

    async def stage(self, pieces: Pieces) -> Staged:
        """Keep bytes for a `publish`; after a failure nothing is left."""

    async def publish(self, where: Location, staged: str, about: About) -> None:
        """Show staged bytes as an object; once more does no harm, and is no error."""

    async def discard(self, staged: str) -> None:
        """Forget staged bytes that are not published."""

    async def check(self, where: Location) -> None:
        """StoreError when nothing can be put there."""

    async def read(
        self, where: Location, begin: int = 0, end: int | None = None
    ) -> tuple[About, Reading]:
        """The object and its bytes from ``begin`` up to ``end``; StoreError when there is none."""

    async def head(self, where: Location) -> About: ...

    async def close(self) -> None: ...


def described(content_type: str = "", metadata: dict[str, str] | None = None) -> About:
    """What a put says of a new object; the rest is found out by the store."""
    return About(0, "", 0.0, content_type or "binary/octet-stream", metadata or {})


def location(uri: str) -> Location:
    """The place that ``s3://bucket/key`` names; ValueError says what is wrong with it."""
    parts = urlsplit(uri)
    key = uri.split("/", 3)[3] if uri.count("/") >= 3 else ""
    if parts.scheme != "s3":
        raise ValueError(f"{uri!r} does not begin with s3://")
    bucket = uri.split("/", 3)[2]
    check_bucket(bucket)
    check_key(key)
    return Location(bucket, key)


def check_bucket(name: str) -> None:
    """ValueError unless S3 allows a bucket to be called so."""
    if not _BUCKET.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} is no name of a bucket: 3 to 63 of a-z, 0-9, dots and hyphens"
        )


def check_key(key: str) -> None:
    """ValueError unless S3 allows an object to be called so."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError("the key is not UTF-8") from None
    if not 0 < size <= MAX_KEY_BYTES:
        raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes, this one {size}")


def no_such_key(where: Location) -> StoreError:
    return StoreError(404, "NoSuchKey", f"The specified key does not exist: {where.key}")


def no_such_bucket(bucket: str) -> StoreError:
    return StoreError(404, "NoSuchBucket", f"The specified bucket does not exist: {bucket}")


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    """Bytes that are there already."""
    yield data
