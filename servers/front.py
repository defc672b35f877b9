"""The runtime API over HTTP: ``POST /endpoints/{name}/invocations`` for every endpoint.

A raw ASGI application: the hot path is one function long. ``GET /status`` tells how each stands.
"""

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from servers.endpoint import Endpoint, Invocation, Served
from servers.timers import Timers
from servers.wire import (
    CUSTOM_ATTRIBUTES,
    VARIANT,
    Answer,
    ApiError,
    check_headers,
    endpoint_not_found,
    internal_failure,
    new_request_id,
    unavailable,
    validation_error,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

MAX_HELD_BYTES = 2 * 2**30
"""Most bytes of request bodies held at once; beyond it ServiceUnavailable."""

_NOT_FOUND = ApiError(404, "UnknownOperationException", "POST /endpoints/{name}/invocations")


class Front:
    """Routes requests to endpoints and words their outcomes as SageMaker does."""

    def __init__(self, endpoints: dict[str, Endpoint], timers: Timers) -> None:
        self._endpoints = endpoints
        self._timers = timers
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP exchange."""
        assert scope["type"] == "http", "the server is run with lifespan and websockets off"
        request_id = new_request_id()
        began_s = self._timers.now()
        try:
            answer = await self._route(scope, receive, request_id, began_s)
        except ApiError as error:
            answer = error.answer()
        except Exception:  # the API's answer to a fault of ours is InternalFailure
            log.exception("request %s failed", request_id)
            answer = internal_failure().answer()
        await _send(send, answer, request_id)

    async def _route(
        self, scope: Scope, receive: Receive, request_id: str, began_s: float
    ) -> Answer:
        match (scope["method"], scope["path"].split("/")[1:]):
            case ("GET", ["status"]):
                return self._status()
            case ("POST", ["endpoints", name, "invocations"]):
                headers = {
                    key.decode("latin-1"): value.decode("latin-1")
                    for key, value in scope["headers"]
                }
                served = await self._invoke(self._endpoint(name), headers, (receive, request_id))
                return _successful(served, self._timers.now() - began_s)
            case ("POST", ["endpoints", name, "invocations-response-stream" | "async-invocations"]):
                self._endpoint(name)
                raise validation_error(f"Endpoint {name} does not support this kind of invocation.")
        raise _NOT_FOUND

    async def _invoke(
        self, endpoint: Endpoint, headers: dict[str, str], request: tuple[Receive, str]
    ) -> Served:
        receive, request_id = request
        # A body in chunks may become as large as the limit.
        largest = int(headers.get("content-length", endpoint.payload_max_bytes))
        held = min(largest, endpoint.payload_max_bytes)
        if self._held_bytes + held > MAX_HELD_BYTES:
            raise unavailable("Too many large requests are open at once. Try again.")
        self._held_bytes += held
        try:
            body = await _read_body(receive, endpoint.payload_max_bytes)
            check_headers(headers)
            if body is None:
                raise endpoint.oversize(request_id)
            return await endpoint.invoke(Invocation(body, headers, request_id))
        finally:
            self._held_bytes -= held

    def _endpoint(self, name: str) -> Endpoint:
        if name not in self._endpoints:
            raise endpoint_not_found(name)
        return self._endpoints[name]

    def _status(self) -> Answer:
        status = {name: endpoint.status() for name, endpoint in self._endpoints.items()}
        return Answer(200, json.dumps(status).encode(), {"content-type": "application/json"})


def _successful(served: Served, total_s: float) -> Answer:
    headers = {
        "content-type": served.answer.headers.get("content-type", "application/octet-stream"),
        "x-amzn-invoked-production-variant": VARIANT,
        "server-timing": _server_timing(served, total_s),
    }
    if CUSTOM_ATTRIBUTES in served.answer.headers:
        headers[CUSTOM_ATTRIBUTES] = served.answer.headers[CUSTOM_ATTRIBUTES]
    return Answer(200, served.answer.body, headers)


def _server_timing(served: Served, total_s: float) -> str:
    """The parts of the answer's time, in milliseconds (W3C Server-Timing)."""
    cold = served.cold
    started_s = cold.placement_s + cold.wait_s + cold.startup.setup_s if cold else 0.0
    overhead_s = max(0.0, total_s - served.model_s - started_s)
    parts = [f"model;dur={served.model_s * 1e3:.3f}", f"overhead;dur={overhead_s * 1e3:.3f}"]
    if cold:
        parts.append(f'placement;dur={cold.placement_s * 1e3:.3f};desc="modelled"')
        parts.append(f'wait;dur={cold.wait_s * 1e3:.3f};desc="for a core of this machine"')
        parts.append(f"setup;dur={cold.startup.setup_s * 1e3:.3f}")
    parts.append(f'instance;desc="{served.instance}"')
    return ", ".join(parts)


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
    return b"".join(chunks) if size <= limit_bytes else None


async def _send(send: Send, answer: Answer, request_id: str) -> None:
    headers = {
        **answer.headers,
        "x-amzn-requestid": request_id,
        "content-length": str(len(answer.body)),
    }
    encoded = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": answer.body})
