"""The embedded object store as batch jobs see it: listed here, read and written over HTTP."""

import contextlib
import sqlite3
from functools import partial
from urllib.parse import quote

from servers.bucket_view import MAX_LISTED, Listed, NoSuchPlace
from servers.local_store import LocalStore
from servers.s3_front import PREFIX
from servers.s3_index import Listed as Page
from servers.s3_index import Query, listed
from servers.store import Location, StoreError


def _page(query: Query, db: sqlite3.Connection) -> Page:
    return listed(db, query)


class StoreView:
    """A `BucketView` of ``store``, which answers at ``address``."""

    def __init__(self, store: LocalStore, address: str) -> None:
        self._store = store
        self._address = address

    async def listed(self, bucket: str, prefix: str) -> list[Listed]:
        found: list[Listed] = []
        after = ""
        try:
            while True:
                query = Query(bucket, prefix, after=after)
                page = await self._store.index.run(partial(_page, query))
                found += [Listed(key, about.size) for key, about in page.objects]
                after = page.next_after
                if len(found) > MAX_LISTED:
                    raise NoSuchPlace(f"s3://{bucket}/{prefix} has over {MAX_LISTED:,} objects")
                if not after:
                    return found
        except StoreError as error:
            raise NoSuchPlace(f"ClientError: {error}") from error

    async def read(self, bucket: str, key: str, limit: int) -> bytes:
        try:
            about, pieces = await self._store.read(Location(bucket, key))
        except StoreError as error:
            raise NoSuchPlace(f"ClientError: {error}") from error
        async with contextlib.aclosing(pieces):
            if about.size > limit:
                raise NoSuchPlace(f"ClientError: s3://{bucket}/{key} exceeds {limit:,} bytes")
            return b"".join([piece async for piece in pieces])

    async def remove(self, bucket: str, key: str) -> None:
        with contextlib.suppress(StoreError):
            await self._store.delete(Location(bucket, key))

    def location(self, bucket: str, key: str) -> str:
        return f"{self._address}{PREFIX}/{bucket}/{quote(key)}"
