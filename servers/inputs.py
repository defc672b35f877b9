"""Where a request's bytes come from: the call itself, an object, or an https address."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp

from servers.backlog import Lease
from servers.store import PIECE_BYTES, Store, StoreError, location, pieces_of
from servers.transfer import Source

CONNECT_S = 10.0
READ_S = 60.0


class Unreadable(Exception):
    """The request cannot be had: the text says why, as the caller reads it."""


@contextlib.asynccontextmanager
async def opened(
    lease: Lease, store: Store, session: aiohttp.ClientSession, limit_bytes: int
) -> AsyncIterator[Source]:
    """The request of a job, to be read once; Unreadable when there is none, or it is too large."""
    source = lease.job.input
    if not source:
        body = lease.body or b""
        yield Source(pieces_of(body), len(body))
    elif source.startswith("s3://"):
        try:
            where = location(source)
            about, reading = await store.read(where)
        except (StoreError, ValueError) as error:
            raise Unreadable(f"Unable to read {source}: {error}") from error
        try:
            _check_size(about.size, limit_bytes)
            yield Source(aiter(reading), about.size)
        finally:
            await reading.aclose()
    else:
        async with _fetched(source, session) as answer:
            size = answer.content_length
            _check_size(size or 0, limit_bytes)
            yield Source(_limited(answer, limit_bytes), size)


@contextlib.asynccontextmanager
async def _fetched(
    source: str, session: aiohttp.ClientSession
) -> AsyncIterator[aiohttp.ClientResponse]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
    async with contextlib.AsyncExitStack() as stack:
        try:
            # A redirect could lead to an address that the caller may not reach by itself.
            asked = session.get(source, timeout=timeout, allow_redirects=False)
            answer = await stack.enter_async_context(asked)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unreadable(f"Unable to read {_plain(source)}: {type(error).__name__}") from error
        if answer.status != 200:
            raise Unreadable(f"Unable to read {_plain(source)}: HTTP status {answer.status}")
        yield answer


def _plain(source: str) -> str:
    """The address without what signs it."""
    return source.partition("?")[0]


async def _limited(answer: aiohttp.ClientResponse, limit_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in answer.content.iter_chunked(PIECE_BYTES):
        size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        yield piece


def _check_size(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise Unreadable(str(_too_large(limit_bytes)))


def _too_large(limit_bytes: int) -> StoreError:
    return StoreError(400, "EntityTooLarge", f"The input exceeds {limit_bytes} bytes.")
