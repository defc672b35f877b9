"""The addresses of asynchronous endpoints, and who answers which path of the server.

    POST /endpoints/{name}/async-invocations    InvokeEndpointAsync
    GET  /endpoints/{name}/notifications        a line of JSON for each finished request, as it ends
    GET  /endpoints/{name}/metrics              what CloudWatch would show

Everything under ``/s3`` is the object store's; the rest is `servers.front`'s.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from servers.async_request import BODY_MAX_BYTES
from servers.asynchronous import AsyncEndpoint
from servers.s3_front import PREFIX
from servers.wire import Answer, ApiError, internal_failure, new_request_id, validation_error

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON = {"content-type": "application/json"}


class AsyncFront:
    """Answers for asynchronous endpoints and passes everything else on."""

    def __init__(self, endpoints: dict[str, AsyncEndpoint], store: App | None, rest: App) -> None:
        self._endpoints = endpoints
        self._store = store
        self._rest = rest
        self.direct: object = getattr(rest, "direct", {})
        """What the rest answers without an application (`servers.http_connection`)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP exchange."""
        path = scope["path"]
        if self._store is not None and (path == PREFIX or path.startswith(f"{PREFIX}/")):
            return await self._store(scope, receive, send)
        match (scope["method"], path.split("/")[1:]):
            case ("POST", ["endpoints", name, "async-invocations"]) if name in self._endpoints:
                await self._accept(self._endpoints[name], (scope, receive, send))
            case ("GET", ["endpoints", name, "notifications"]) if name in self._endpoints:
                await _tell(self._endpoints[name], receive, send)
            case ("GET", ["endpoints", name, "metrics"]) if name in self._endpoints:
                metrics = json.dumps(self._endpoints[name].measures.described()).encode()
                await _send(send, Answer(200, metrics, _JSON), new_request_id())
            case _:
                await self._rest(scope, receive, send)

    async def _accept(self, endpoint: AsyncEndpoint, exchange: tuple[Scope, Receive, Send]) -> None:
        scope, receive, send = exchange
        request_id = new_request_id()
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            answer = await endpoint.accept(headers, await _body(receive))
        except ApiError as error:
            answer = error.answer()
        except Exception:  # the API's answer to a fault of ours is InternalFailure
            log.exception("request %s failed", request_id)
            answer = internal_failure().answer()
        await _send(send, answer, request_id)


async def _body(receive: Receive) -> bytes:
    """The request's body, or as much of it as shows that it is too long."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise validation_error("The connection closed before the request was complete.")
        more = message.get("more_body", False)
        if len(body) <= BODY_MAX_BYTES:
            body += message.get("body", b"")
    return bytes(body)


async def _tell(endpoint: AsyncEndpoint, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"application/x-ndjson")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    # An empty line at once, so that the listener knows from when on it hears everything.
    queue = endpoint.finished.listen()
    await send({"type": "http.response.body", "body": b"\n", "more_body": True})
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        while not gone.done():
            line = asyncio.ensure_future(queue.get())
            await asyncio.wait([line, gone], return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                line.cancel()
                break
            text = line.result()
            if text is None:
                break
            await send({"type": "http.response.body", "body": text, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        endpoint.finished.leave(queue)
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, answer: Answer, request_id: str) -> None:
    headers = {
        **answer.headers,
        "x-amzn-requestid": request_id,
        "content-length": str(len(answer.body)),
    }
    encoded = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": answer.body})
