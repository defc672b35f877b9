"""`InvokeEndpoint` of a small request that is whole: one task and one write, no ASGI application.

What it answers, and what it refuses, is as in `servers.front`, which answers all other requests.
"""

import functools
import logging
import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar

from servers.endpoint import Endpoint, Invocation
from servers.exchange import Exchange, Head
from servers.outcome import successful
from servers.timers import Timers
from servers.wire import (
    HEADER_LIMITS,
    Answer,
    ApiError,
    check_headers,
    internal_failure,
    new_request_id,
    unavailable,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_HELD_BYTES = 2 * 2**30
"""Most bytes of request bodies held at once; beyond it ServiceUnavailable."""

_BEFORE, _AFTER = b"/endpoints/", b"/invocations"
_DEFINED = {name.encode(): name for name in HEADER_LIMITS}
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


class Room:
    """How much of all requests' bodies is held."""

    held_bytes = 0

    def holding(self, wanted_bytes: int) -> "_Held":
        """Room for a request's body; ServiceUnavailable when there is none."""
        if self.held_bytes + wanted_bytes > MAX_HELD_BYTES:
            raise unavailable("Too many large requests are open at once. Try again.")
        return _Held(self, wanted_bytes)


class _Held:
    """What @contextmanager would give, at a third of its cost: it is on every request's path."""

    __slots__ = ("_bytes", "_room")

    def __init__(self, room: Room, held_bytes: int) -> None:
        self._room = room
        self._bytes = held_bytes

    def __enter__(self) -> None:
        self._room.held_bytes += self._bytes

    def __exit__(self, *_: object) -> None:
        self._room.held_bytes -= self._bytes


@functools.lru_cache(1024)
def _named(target: bytes) -> str:
    """The endpoint that a target names; empty when it is another target."""
    if not (target.startswith(_BEFORE) and target.endswith(_AFTER)):
        return ""
    return target[len(_BEFORE) : -len(_AFTER)].decode("latin-1")


class Direct:
    """What `servers.http_connection` asks who answers the target of a small request."""

    def __init__(self, endpoints: dict[str, Endpoint], timers: Timers, room: Room) -> None:
        self._endpoints = endpoints
        self._timers = timers
        self._room = room

    def get(self, target: bytes) -> Callable[[Exchange], None] | None:
        """The call that answers; None where the application has to."""
        endpoint = self._endpoints.get(_named(target))
        return None if endpoint is None else partial(self._begin, endpoint)

    def _begin(self, endpoint: Endpoint, exchange: Exchange) -> None:
        exchange.begin(self._answer(endpoint, exchange))

    async def _answer(self, endpoint: Endpoint, exchange: Exchange) -> None:
        request_id = new_request_id()
        answer = await worded(self._invoke(endpoint, exchange, request_id), request_id)
        exchange.answer(_reply, answer, request_id)

    async def _invoke(self, endpoint: Endpoint, exchange: Exchange, request_id: str) -> Answer:
        began_s = self._timers.now()
        body = exchange.body()
        headers = exchange.head.once(_defined)
        check_headers(headers, endpoint.name)
        if len(body) > endpoint.payload_max_bytes:
            raise endpoint.oversize(request_id)
        with self._room.holding(len(body)):
            served = await endpoint.invoke(Invocation(body, headers, request_id, began_s))
        return successful(served, self._timers.now() - began_s)


def _defined(head: Head) -> dict[str, str]:
    """Those that the API defines: the others are stripped, so nobody asks for them."""
    return {
        _DEFINED[name]: value.decode("latin-1") for name, value in head.headers if name in _DEFINED
    }


async def worded(answering: Coroutine[None, None, T], request_id: str) -> T | Answer:
    """What it gives, or its failure as the API words it."""
    try:
        return await answering
    except ApiError as error:
        return error.answer()
    except Exception:  # the API's answer to a fault of ours is InternalFailure
        log.exception("request %s failed", request_id)
        return internal_failure().answer()


def _reply(exchange: Exchange, answer: Answer, request_id: str) -> None:
    headers = answer.headers
    if _CONTROL.search("".join(headers.values())):
        raise RuntimeError("A header of the answer has characters that cannot be sent.")
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"{lines}x-amzn-requestid: {request_id}\r\n".encode("latin-1")
    exchange.reply(answer.status, answer.body, head)
