"""What the container answers: ``/ping``, ``/invocations`` and ``/execution-parameters``."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import orjson

from servers.handlers import Answer, Handlers, Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_WAITING = 1_000
"""Most calls held at once; beyond it 503, so that a flood cannot fill the memory."""

EXECUTION_PARAMETERS = orjson.dumps(
    {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}
)


@dataclass(frozen=True)
class Startup:
    """Seconds of each part of a cold start, as the container itself saw them."""

    import_s: float = 0.0
    load_s: float = 0.0
    warmup_s: float = 0.0


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready, with the functions that know how to call it."""

    handlers: Handlers
    model: Any

    def transform(self, request: Request, arrived_s: float) -> tuple[Answer, float]:
        """The answer, and the seconds that the request waited for its turn."""
        queue_s = time.perf_counter() - arrived_s
        return self.handlers.transform(self.model, request), queue_s


class _TooLarge(Exception):
    pass


class _Gone(Exception):
    """The caller hung up before its body was complete."""


def make_app(
    loaded: LoadedModel, model_thread: Executor, startup: Startup, max_payload_bytes: int
) -> App:
    """The container as an ASGI application; ``model_thread`` runs one call at a time."""
    ping_timing = server_timing(
        {"import": startup.import_s, "load": startup.load_s, "warmup": startup.warmup_s}
    )
    waiting = 0

    async def ping(_: Scope, __: Receive, send: Send) -> None:
        await _respond(send, 200, b"", server_timing=ping_timing)

    async def execution_parameters(_: Scope, __: Receive, send: Send) -> None:
        await _respond(send, 200, EXECUTION_PARAMETERS, content_type="application/json")

    async def invocations(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal waiting
        if waiting >= MAX_WAITING:
            text = f"{waiting} requests are waiting already. Send fewer at once.".encode()
            return await _respond(
                send, 503, text, server_timing=_timing_of(Answer(503, b"", ""), 0)
            )
        waiting += 1
        try:
            request = await _read_request(scope, receive, max_payload_bytes)
            answer, queue_s = await asyncio.get_running_loop().run_in_executor(
                model_thread, loaded.transform, request, time.perf_counter()
            )
        except _TooLarge:
            text = f"The body is over {max_payload_bytes:,} bytes. Send less at once.".encode()
            answer, queue_s = Answer(413, text, "text/plain"), 0.0
        except _Gone:
            return None
        finally:
            waiting -= 1
        timing = _timing_of(answer, queue_s)
        await _respond(send, answer.status, answer.body, answer.content_type, server_timing=timing)

    routes = {
        "/ping": ("GET", ping),
        "/invocations": ("POST", invocations),
        "/execution-parameters": ("GET", execution_parameters),
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        method, answer = routes.get(scope["path"], (None, None))
        if answer is None:
            text = f"No such path. There are {', '.join(routes)}.".encode()
            await _respond(send, 404, text)
        elif scope["method"] != method:
            await _respond(
                send,
                405,
                f"Use {method} for {scope['path']}.".encode(),
                allow=(method or "").encode(),
            )
        else:
            await answer(scope, receive, send)

    return app


def server_timing(spans_s: dict[str, float]) -> bytes:
    """The value of a Server-Timing header: milliseconds with three decimals."""
    return ", ".join(f"{name};dur={value * 1e3:.3f}" for name, value in spans_s.items()).encode()


def _timing_of(answer: Answer, queue_s: float) -> bytes:
    return server_timing(
        {
            "queue": queue_s,
            "decode": answer.decode_s,
            "predict": answer.predict_s,
            "encode": answer.encode_s,
        }
    )


async def _read_request(scope: Scope, receive: Receive, limit: int) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    # The parser below has checked that it is a number; without it the body comes in chunks.
    if int(headers.get("content-length", 0)) > limit:
        raise _TooLarge
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise _TooLarge
        chunks.append(chunk)
    body = b"".join(chunks)
    return Request(body, headers.get("content-type"), headers.get("accept"), headers)


async def _respond(
    send: Send, status: int, body: bytes, content_type: str = "text/plain", **more: bytes
) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    if body:
        headers.append((b"content-type", content_type.encode("latin-1")))
    headers += [(name.replace("_", "-").encode(), value) for name, value in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
