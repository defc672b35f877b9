"""`InvokeEndpoint` of a small request that is whole: calls and one write, no ASGI application.

What it answers, and what it refuses, is as in `servers.front`, which answers all other requests.
"""

import functools
import logging
import re
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from servers.endpoint import Endpoint, Invocation, Served
from servers.exchange import Exchange, Head
from servers.outcome import successful
from servers.realtime import RealtimeEndpoint
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
        request_id, began_s = new_request_id(), self._timers.now()
        body = exchange.body()
        headers, good = exchange.head.once(_defined)
        invocation = Invocation(body, headers, request_id, began_s)
        asked = _Asked(exchange, invocation, self._timers)
        try:
            if not good:
                check_headers(headers, endpoint.name)
            if len(body) > endpoint.payload_max_bytes:
                raise endpoint.oversize(request_id)
            asked.holds(self._room)
            if isinstance(endpoint, RealtimeEndpoint):
                endpoint.begin(invocation, asked)
            else:
                asked.later(endpoint.invoke(invocation))
        except Exception as error:  # noqa: BLE001 - it is logged, and answered as InternalFailure
            asked.failed(error)


class _Asked:
    """A request that waits for what comes of it: the `Waiting` of a `DirectTurn`."""

    __slots__ = ("_exchange", "_held", "_invocation", "_timers")

    def __init__(self, exchange: Exchange, invocation: Invocation, timers: Timers) -> None:
        self._exchange = exchange
        self._invocation = invocation
        self._timers = timers
        self._held: AbstractContextManager[None] | None = None

    def holds(self, room: Room) -> None:
        """Until it is answered; ServiceUnavailable when there is no room."""
        held = room.holding(len(self._invocation.body))
        held.__enter__()
        self._held = held

    def served(self, served: Served) -> None:
        self._reply(successful(served, self._timers.now() - self._invocation.began_s))

    def failed(self, error: Exception) -> None:
        self._reply(worded(error, self._invocation.request_id))

    def later(self, answering: Coroutine[Any, Any, Served]) -> None:
        self._exchange.begin(self._when_done(answering))

    async def _when_done(self, answering: Coroutine[Any, Any, Served]) -> None:
        try:
            served = await answering
        except Exception as error:  # noqa: BLE001 - it is logged, and answered as InternalFailure
            self.failed(error)
        else:
            self.served(served)

    def _reply(self, answer: Answer) -> None:
        if self._held is not None:
            self._held.__exit__(None, None, None)
            self._held = None
        self._exchange.answer(_reply, answer, self._invocation.request_id)


def _defined(head: Head) -> tuple[dict[str, str], bool]:
    """Those that the API defines, for the others are stripped; and whether all of them are good."""
    headers = {
        _DEFINED[name]: value.decode("latin-1") for name, value in head.headers if name in _DEFINED
    }
    try:
        check_headers(headers)
    except ApiError:
        return headers, False
    return headers, True


def worded(error: Exception, request_id: str) -> Answer:
    """A failure as the API words it; a fault of ours is InternalFailure, and logged."""
    if isinstance(error, ApiError):
        return error.answer()
    log.error("request %s failed", request_id, exc_info=error)
    return internal_failure().answer()


def _reply(exchange: Exchange, answer: Answer, request_id: str) -> None:
    headers = answer.headers
    values = "".join(headers.values())
    if not values.isprintable() and _CONTROL.search(values):
        raise RuntimeError("A header of the answer has characters that cannot be sent.")
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"{lines}x-amzn-requestid: {request_id}\r\n".encode("latin-1")
    exchange.reply(answer.status, answer.body, head)
