"""One invocation of a container with bodies of any size: streamed in, streamed out, never held."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from servers.store import PIECE_BYTES, Pieces, StoreError

Sink = Callable[[Pieces], Awaitable[None]]


class ContainerLost(Exception):
    """The connection broke before the answer was complete."""


class ContainerSilent(Exception):
    """No whole answer within the time."""


@dataclass
class Source:
    """The request's bytes, with the time that getting them took and what went wrong with that."""

    pieces: Pieces
    size: int | None
    waited_s: float = 0.0
    failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            began = time.perf_counter()
            try:
                piece = await anext(self.pieces, None)
            except (StoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
                self.failure = error
                raise
            finally:
                self.waited_s += time.perf_counter() - began
            if piece is None:
                return
            yield piece


@dataclass(frozen=True)
class Call:
    """What to send, and the limits of the answer."""

    source: Source
    headers: dict[str, str]
    timeout_s: float
    limit_bytes: int


@dataclass
class Heard:
    """The container's answer; its body has gone to the sink."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0
    model_s: float = 0.0


async def invoke(session: aiohttp.ClientSession, address: str, call: Call, sink: Sink) -> Heard:
    """Post to ``address``/invocations and pour the answer into ``sink``.

    What the source or the sink raises comes through. An answer that is too long is a 500.
    """
    began = time.perf_counter()
    headers = dict(call.headers)
    if call.source.size is not None:
        headers["content-length"] = str(call.source.size)
    try:
        async with (
            asyncio.timeout(call.timeout_s),
            session.post(
                f"{address}/invocations",
                data=aiter(call.source),
                headers=headers,
                skip_auto_headers=("content-type", "accept"),
                timeout=aiohttp.ClientTimeout(total=None),
            ) as answer,
        ):
            heard = Heard(answer.status, {k.lower(): v for k, v in answer.headers.items()})
            body = _Body(answer, call.limit_bytes)
            async with contextlib.aclosing(body.pieces()) as pieces:
                await sink(pieces)
    except TimeoutError:
        if call.source.failure is not None:
            raise call.source.failure from None
        raise ContainerSilent from None
    except aiohttp.ClientError as error:
        if call.source.failure is not None:
            raise call.source.failure from None
        raise ContainerLost(str(error) or type(error).__name__) from error
    heard.size = body.size
    heard.model_s = time.perf_counter() - began - call.source.waited_s - body.sink_s
    return heard


class TooLong(Exception):
    """The container's answer exceeds the limit."""


class _Body:
    """The answer's pieces; the time between two of them is the sink's."""

    def __init__(self, answer: aiohttp.ClientResponse, limit_bytes: int) -> None:
        self._content = answer.content
        self._limit_bytes = limit_bytes
        self.size = 0
        self.sink_s = 0.0

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        buffer = bytearray()
        async for piece in self._content.iter_any():
            self.size += len(piece)
            if self.size > self._limit_bytes:
                raise TooLong
            buffer += piece
            if len(buffer) >= PIECE_BYTES:
                async for each in self._given(buffer):
                    yield each
        async for each in self._given(buffer):
            yield each

    async def _given(self, buffer: bytearray) -> AsyncIterator[bytes]:
        if buffer:
            began = time.perf_counter()
            yield bytes(buffer)
            self.sink_s += time.perf_counter() - began
            buffer.clear()


async def healthy(session: aiohttp.ClientSession, address: str, limit_s: float) -> bool:
    """Whether ``address``/ping answers 200 within its time."""
    try:
        timeout = aiohttp.ClientTimeout(total=limit_s)
        async with session.get(f"{address}/ping", timeout=timeout) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
