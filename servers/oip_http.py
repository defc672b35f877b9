"""The Open Inference Protocol over HTTP, as an ASGI application."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import orjson

from bench import __version__
from servers.batcher import Batcher, Overloaded, Ticket, timeout_text
from servers.engine import Computed, Tensors
from servers.exchange import Exchange
from servers.loop_sink import LoopSink
from servers.model_app import (
    Gone,
    Receive,
    Scope,
    Send,
    TooLarge,
    read_body,
    respond,
)
from servers.oip_body import HEADER_LENGTH, Asked, inflated, parsed, written
from servers.open_inference import EXTENSIONS, VERSION, OpenModel, ProtocolError
from servers.tensors import BadTensor

JSON = "application/json"
BINARY = "application/octet-stream"
_JSON_HEAD = b"content-type: application/json\r\nserver-timing: %b\r\n"
_BINARY_HEAD = (
    b"content-type: application/octet-stream\r\n"
    b"inference-header-content-length: %d\r\nserver-timing: %b\r\n"
)
_REFUSED = (ProtocolError, BadTensor, TooLarge, Overloaded)


class OpenInference:
    """The application for every path under ``/v2``; ``direct`` answers small requests to infer."""

    def __init__(self, model: OpenModel, batcher: Batcher, max_payload_bytes: int) -> None:
        self._model = model
        self._limit = max_payload_bytes
        self._sink = LoopSink(batcher)
        self._late = timeout_text(batcher.timeout_s)
        path = f"/v2/models/{quote(model.name)}"
        paths = f"{path}/infer", f"{path}/versions/{VERSION}/infer"
        self.direct = dict.fromkeys((each.encode() for each in paths), self._direct)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = [unquote(part) for part in scope["path"].split("/")[2:] if part]
        try:
            if scope["method"] == "POST" and path[-1:] == ["infer"] and path[0] == "models":
                await self._infer(path[1:-1], scope, receive, send)
                return
            value = _described(self._model, scope["method"], path)
            await respond(send, 200, b"" if value is None else orjson.dumps(value), JSON)
        except _REFUSED as error:
            await respond(send, _status_of(error), _error(str(error)), JSON)
        except TimeoutError:
            await respond(send, 503, _error(self._late), JSON)
        except Gone:
            return

    async def _infer(self, path: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        began_s = time.perf_counter()
        self._model.check_name(*_name_and_version(path))
        body, headers = await read_body(scope, receive, self._limit)
        try:
            asked, wanted = self._asked(body, headers)
            computed, ticket = await self._sink.call(wanted)
            whole, length = self._answer(asked, computed)
        except Exception:
            self._model.statistics.note_failure(time.perf_counter() - began_s)
            raise
        more = {"server_timing": self._note(began_s, ticket, computed)}
        if length:
            more["inference_header_content_length"] = b"%d" % length
        await respond(send, 200, whole, BINARY if length else JSON, **more)

    def _direct(self, exchange: Exchange) -> None:
        began_s = time.perf_counter()
        try:
            body = exchange.body()
            if len(body) > self._limit:
                raise TooLarge(f"The body is over {self._limit:,} bytes. Send less at once.")
            asked, wanted = self._asked(body, exchange.named())
            self._sink.submit(wanted, partial(exchange.answer, self._settle, asked, began_s))
        except _REFUSED as error:
            self._refuse(exchange, began_s, error)

    def _settle(self, exchange: Exchange, asked: Asked, began_s: float, ticket: Ticket) -> None:
        try:
            if ticket.given_up:
                raise ProtocolError(503, self._late)
            computed: Computed = ticket.answer
            whole, length = self._answer(asked, computed)
        except _REFUSED as error:
            self._refuse(exchange, began_s, error)
            return
        timing = self._note(began_s, ticket, computed)
        if length:
            exchange.reply(200, whole, _BINARY_HEAD % (length, timing))
        else:
            exchange.reply(200, whole, _JSON_HEAD % timing)

    def _refuse(self, exchange: Exchange, began_s: float, error: Exception) -> None:
        self._model.statistics.note_failure(time.perf_counter() - began_s)
        text = _error(str(error))
        exchange.reply(_status_of(error), text, b"content-type: application/json\r\n")

    def _asked(self, body: bytes, headers: Mapping[str, str]) -> tuple[Asked, Tensors]:
        body = inflated(body, headers.get("content-encoding"), self._limit)
        asked = parsed(body, headers.get(HEADER_LENGTH))
        return asked, self._model.tensors(asked.arrays, asked.kinds)

    def _answer(self, asked: Asked, computed: Computed) -> tuple[bytes, int]:
        return written(self._model.name, asked, self._model.outputs(computed, asked.outputs))

    def _note(self, began_s: float, ticket: Ticket, computed: Computed) -> bytes:
        """Count an answer; its Server-Timing."""
        queue_s, predict_s = ticket.queue_s, computed.predict_s
        self._model.statistics.note(time.perf_counter() - began_s, queue_s, predict_s)
        return b"queue;dur=%.3f, predict;dur=%.3f" % (queue_s * 1e3, predict_s * 1e3)


def _error(text: str) -> bytes:
    return orjson.dumps({"error": text})


def _status_of(error: Exception) -> int:
    if isinstance(error, ProtocolError):
        return error.status
    return {BadTensor: 400, TooLarge: 413}.get(type(error), 503)


def _name_and_version(path: list[str]) -> tuple[str, str]:
    match path:
        case [name]:
            return name, ""
        case [name, "versions", version]:
            return name, version
    raise ProtocolError(404, "No such path. Use /v2/models/NAME or /v2/models/NAME/versions/1.")


def _described(model: OpenModel, method: str, path: list[str]) -> Any:
    """What a path other than infer answers; None is an empty body."""
    if (method, path) == ("POST", ["repository", "index"]):
        return model.index()
    if method != "GET":
        raise ProtocolError(405 if path[:1] == ["models"] else 404, f"{method} is not served here.")
    match path:
        case []:
            return {"name": "weighbridge", "version": __version__, "extensions": EXTENSIONS}
        case ["health", "live" | "ready"]:
            return None
        case ["models", "stats"]:
            return model.stats()
        case ["models", *which, "ready" | "config" | "stats" as what] if which:
            model.check_name(*_name_and_version(which))
            return {"ready": None, "config": model.config(), "stats": model.stats()}[what]
        case ["models", *which]:
            model.check_name(*_name_and_version(which))
            return model.metadata()
    raise ProtocolError(404, "No such path.")
