"""What a batch job asks of an object store: list, read a small object, remove, and an address."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from servers.places import file_location

MAX_LISTED = 1_000_000
"""Most objects one job may have."""


class NoSuchPlace(Exception):
    """The store has no such bucket or object; the text names it."""


@dataclass(frozen=True)
class Listed:
    """An object as a listing shows it."""

    key: str
    size: int


class BucketView(Protocol):
    """A store as batch jobs see it; agents in other processes use the address."""

    async def listed(self, bucket: str, prefix: str) -> list[Listed]:
        """The objects whose key begins with ``prefix``, by key; NoSuchPlace without the bucket."""

    async def read(self, bucket: str, key: str, limit: int) -> bytes:
        """A small object; NoSuchPlace when there is none, or a larger one than ``limit`` bytes."""

    async def remove(self, bucket: str, key: str) -> None:
        """Remove an object, if there is one."""

    def location(self, bucket: str, key: str) -> str:
        """Where agents read and write it, as `servers.places` understands."""


class FolderView:
    """Buckets that are folders: for jobs over files of this machine."""

    def __init__(self, buckets: Callable[[str], Path | None]) -> None:
        self._folder_of = buckets

    async def listed(self, bucket: str, prefix: str) -> list[Listed]:
        return await asyncio.to_thread(self._walk, bucket, prefix)

    async def read(self, bucket: str, key: str, limit: int) -> bytes:
        path = self._path(bucket, key)
        if not path.is_file() or path.stat().st_size > limit:
            raise NoSuchPlace(f"s3://{bucket}/{key} does not exist, or exceeds {limit:,} bytes")
        return path.read_bytes()

    async def remove(self, bucket: str, key: str) -> None:
        self._path(bucket, key).unlink(missing_ok=True)

    def location(self, bucket: str, key: str) -> str:
        return file_location(self._path(bucket, key))

    def _walk(self, bucket: str, prefix: str) -> list[Listed]:
        root = self._root(bucket)
        found = []
        for folder, folders, names in os.walk(root):
            above = "" if Path(folder) == root else f"{Path(folder).relative_to(root).as_posix()}/"
            # Not into folders that the prefix leads past.
            folders[:] = [
                name
                for name in folders
                if prefix.startswith(f"{above}{name}/") or f"{above}{name}/".startswith(prefix)
            ]
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(root).as_posix()
                if key.startswith(prefix) and not name.startswith(".") and path.is_file():
                    found.append(Listed(key, path.stat().st_size))
                if len(found) > MAX_LISTED:
                    raise NoSuchPlace(f"s3://{bucket}/{prefix} has over {MAX_LISTED:,} objects")
        return sorted(found, key=lambda each: each.key)

    def _root(self, bucket: str) -> Path:
        root = self._folder_of(bucket)
        if root is None:
            raise NoSuchPlace(f"The bucket {bucket} does not exist")
        return root

    def _path(self, bucket: str, key: str) -> Path:
        root = self._root(bucket).resolve()
        path = (root / key).resolve()
        if not key or not path.is_relative_to(root):
            raise NoSuchPlace(f"s3://{bucket}/{key} leads out of the bucket")
        return path


def folder_of_buckets(root: Path) -> Callable[[str], Path | None]:
    """Each folder in ``root`` is a bucket of its name."""

    def find(bucket: str) -> Path | None:
        path = root / bucket
        return (
            path if bucket not in ("", ".", "..") and "/" not in bucket and path.is_dir() else None
        )

    return find


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = uri.split("://", 1)[1].partition("/")
    return bucket, key
