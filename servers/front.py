"""The runtime API over HTTP: ``POST /endpoints/{name}/invocations`` for every endpoint.

A raw ASGI application; small requests are answered without it (`servers.direct`). ``GET /status``
tells how each stands, ``GET /metrics`` the same as CloudWatch would, as Prometheus text.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any

from servers import eventstream, lambda_api
from servers.control import MAX_BODY_BYTES, Control
from servers.direct import Direct, Room, worded
from servers.endpoint import (
    Endpoint,
    Invocation,
    Streamed,
    StreamEnded,
    StreamingEndpoint,
)
from servers.outcome import RETURNED, successful
from servers.prometheus import CONTENT_TYPE, exposition
from servers.timers import Timers
from servers.wire import (
    STREAM_ACCEPT,
    STREAM_CONTENT_TYPE,
    Answer,
    ApiError,
    check_headers,
    endpoint_not_found,
    new_request_id,
    validation_error,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

_NOT_FOUND = ApiError(404, "UnknownOperationException", "POST /endpoints/{name}/invocations")


class Front:
    """Routes requests to endpoints and words their outcomes as SageMaker does."""

    def __init__(
        self,
        endpoints: dict[str, Endpoint],
        timers: Timers,
        control: Control | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._control = control or Control()
        self._timers = timers
        self._room = Room()
        self.direct = Direct(endpoints, timers, self._room)
        """Answers what is small and whole without this application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP exchange."""
        assert scope["type"] == "http", "the server is run with lifespan and websockets off"
        request_id = new_request_id()
        began_s = self._timers.now()
        try:
            answer = await self._route(scope, (receive, send), request_id, began_s)
        except Exception as error:  # noqa: BLE001 - it is logged, and answered as InternalFailure
            answer = worded(error, request_id)
        if answer is not None:
            await _send(send, answer, request_id)

    async def _route(
        self, scope: Scope, channels: tuple[Receive, Send], request_id: str, began_s: float
    ) -> Answer | None:
        """The answer; None when it has been sent already."""
        receive, send = channels
        match (scope["method"], scope["path"].split("/")[1:]):
            case ("POST", ["endpoints", name, "invocations"]):
                endpoint, headers = self._endpoint(name), _headers(scope)
                with self._holding(endpoint, headers):
                    body = await self._body(receive, endpoint, headers, request_id)
                    served = await endpoint.invoke(Invocation(body, headers, request_id, began_s))
                return successful(served, self._timers.now() - began_s)
            case ("POST", ["endpoints", name, "invocations-response-stream"]):
                endpoint, headers = self._endpoint(name), _headers(scope)
                if not isinstance(endpoint, StreamingEndpoint):
                    raise _unsupported(name)
                if STREAM_ACCEPT in headers:
                    headers["accept"] = headers[STREAM_ACCEPT]
                with self._holding(endpoint, headers):
                    body = await self._body(receive, endpoint, headers, request_id)
                    invocation = Invocation(body, headers, request_id, began_s)
                    async with endpoint.stream(invocation) as streamed:
                        total_s = self._timers.now() - began_s
                        head = _stream_head(streamed, total_s, request_id)
                        await _send_stream(receive, send, head, streamed)
                return None
            case ("POST", ["endpoints", name, "async-invocations"]):
                self._endpoint(name)
                raise _unsupported(name)
            case ("POST", [""]):
                return await self._controlled(scope, receive)
            case ("GET", ["status"]):
                return self._status()
            case ("POST", [lambda_api.VERSION, "functions", name, "invocations"]):
                return await self._function(name, scope, receive, request_id)
            case ("GET", ["metrics"]):
                return Answer(200, exposition(self._endpoints), {"content-type": CONTENT_TYPE})
        raise _NOT_FOUND

    async def _controlled(self, scope: Scope, receive: Receive) -> Answer:
        order = await _read_body(receive, MAX_BODY_BYTES)
        return await self._control.answer(_headers(scope).get("x-amz-target", ""), order)

    async def _function(self, name: str, scope: Scope, receive: Receive, request_id: str) -> Answer:
        function, headers = lambda_api.function_named(name, self._endpoints), _headers(scope)
        began_s = self._timers.now()
        with self._holding(function, headers):
            body = await self._body(receive, function, headers, request_id)
            try:
                served = await function.invoke(Invocation(body, headers, request_id, began_s))
            except ApiError as error:
                return lambda_api.function_error(error)
        return successful(served, self._timers.now() - began_s)

    def _holding(self, endpoint: Endpoint, headers: dict[str, str]) -> AbstractContextManager[None]:
        # A body in chunks may become as large as the limit.
        largest = int(headers.get("content-length", endpoint.payload_max_bytes))
        return self._room.holding(min(largest, endpoint.payload_max_bytes))

    async def _body(
        self, receive: Receive, endpoint: Endpoint, headers: dict[str, str], request_id: str
    ) -> bytes:
        body = await _read_body(receive, endpoint.payload_max_bytes)
        check_headers(headers, endpoint.name)
        if body is None:
            raise endpoint.oversize(request_id)
        return body

    def _endpoint(self, name: str) -> Endpoint:
        if name not in self._endpoints:
            raise endpoint_not_found(name)
        return self._endpoints[name]

    def _status(self) -> Answer:
        status = {name: endpoint.status() for name, endpoint in self._endpoints.items()}
        return Answer(200, json.dumps(status).encode(), {"content-type": "application/json"})


def _headers(scope: Scope) -> dict[str, str]:
    return {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}


def _unsupported(name: str) -> ApiError:
    return validation_error(f"Endpoint {name} does not support this kind of invocation.")


def _stream_head(streamed: Streamed, total_s: float, request_id: str) -> dict[str, str]:
    """Headers of a streamed answer. Its Server-Timing is that of the model's head."""
    overhead_s = max(0.0, total_s - streamed.model_s)
    model_type = streamed.headers.get("content-type", "application/octet-stream")
    return {
        "content-type": eventstream.CONTENT_TYPE,
        STREAM_CONTENT_TYPE: model_type,
        "x-amzn-invoked-production-variant": streamed.variant,
        "x-amzn-requestid": request_id,
        "server-timing": f"model;dur={streamed.model_s * 1e3:.3f}, "
        f'overhead;dur={overhead_s * 1e3:.3f}, instance;desc="{streamed.instance}"',
        **{name: streamed.headers[name] for name in RETURNED if name in streamed.headers},
    }


async def _send_stream(
    receive: Receive, send: Send, head: dict[str, str], streamed: Streamed
) -> None:
    """The head, and a frame for each piece of the model's answer until it ends or the caller."""
    watch = asyncio.ensure_future(_until_gone(receive))
    watch.add_done_callback(lambda _: streamed.abort())
    try:
        await send({"type": "http.response.start", "status": 200, "headers": _encoded(head)})
        try:
            async for piece in streamed.chunks:
                frame = eventstream.part(piece)
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            last = b""
        except StreamEnded as ended:
            last = eventstream.exception("ModelStreamError", str(ended), ended.code)
        except Exception:
            log.exception("a streamed answer failed")
            last = eventstream.exception("InternalStreamFailure", "An internal failure occurred.")
        await send({"type": "http.response.body", "body": last})
    finally:
        watch.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """The request's body; None when it is larger than allowed, the rest read and thrown away.

    A client that is still sending would see a broken connection instead of the error.
    """
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise validation_error("The connection closed before the request was complete.")
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
        if size <= limit_bytes:
            chunks.append(message.get("body", b""))
        else:
            chunks.clear()
    if size > limit_bytes:
        return None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _send(send: Send, answer: Answer, request_id: str) -> None:
    headers = {
        **answer.headers,
        "x-amzn-requestid": request_id,
        "content-length": str(len(answer.body)),
    }
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": _encoded(headers)}
    )
    await send({"type": "http.response.body", "body": answer.body})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
