"""The Open Inference Protocol over HTTP, with binary tensors, as an ASGI application."""

import time
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import orjson
from msgspec import Struct

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
from servers.open_inference import EXTENSIONS, VERSION, OpenModel, ProtocolError
from servers.tensors import (
    Array,
    BadTensor,
    checked_shape,
    datatype_of,
    from_raw,
    from_values,
    to_raw,
    to_values,
)

HEADER_LENGTH = "inference-header-content-length"
JSON = "application/json"
BINARY = "application/octet-stream"
_JSON_HEAD = b"content-type: application/json\r\nserver-timing: %b\r\n"
_BINARY_HEAD = (
    b"content-type: application/octet-stream\r\n"
    b"inference-header-content-length: %d\r\nserver-timing: %b\r\n"
)
_MAX_TENSORS = 1000
_NOTHING = memoryview(b"")


_REFUSED = (ProtocolError, BadTensor, TooLarge, Overloaded)


class Asked(Struct, frozen=True):
    """A request to infer, parsed."""

    id: str
    arrays: dict[str, Array]
    datatypes: dict[str, str]
    outputs: list[str]
    binary: dict[str, bool]
    binary_by_default: bool


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
        body = _inflated(body, headers.get("content-encoding"), self._limit)
        asked = parsed(body, headers.get(HEADER_LENGTH))
        return asked, self._model.tensors(asked.arrays, asked.datatypes)

    def _answer(self, asked: Asked, computed: Computed) -> tuple[bytes, int]:
        return _written(self._model.name, asked, self._model.outputs(computed, asked.outputs))

    def _note(self, began_s: float, ticket: Ticket, computed: Computed) -> bytes:
        """Count an answer; its Server-Timing."""
        spans = time.perf_counter() - began_s, ticket.queue_s, computed.predict_s
        self._model.statistics.note(spans, 1)
        return b"queue;dur=%.3f, predict;dur=%.3f" % (
            ticket.queue_s * 1e3,
            computed.predict_s * 1e3,
        )


def _error(text: str) -> bytes:
    return orjson.dumps({"error": text})


def parsed(body: bytes, header_length: str | None) -> Asked:
    """What a body asks for; ProtocolError or BadTensor when it is none of the protocol's."""
    header: bytes | memoryview = body
    rest = _NOTHING
    if header_length is None:
        pass
    elif header_length.isdecimal() and int(header_length) <= len(body):
        view = memoryview(body)
        header, rest = view[: int(header_length)], view[int(header_length) :]
    else:
        raise ProtocolError(400, f"{HEADER_LENGTH} is {header_length!r}: the body is shorter.")
    try:
        document = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(400, f"The request is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise ProtocolError(400, "The request is no JSON object.")
    arrays: dict[str, Array] = {}
    datatypes: dict[str, str] = {}
    for tensor in _tensors(document, "inputs"):
        name, datatype = str(tensor["name"]), str(tensor.get("datatype"))
        arrays[name], rest = _array(tensor, datatype, rest)
        datatypes[name] = datatype
    if len(rest):
        raise ProtocolError(400, f"{len(rest)} bytes at the end belong to no input.")
    names, binary = _wanted(document) if "outputs" in document else ([], {})
    by_default = "parameters" in document and _parameters(document).get("binary_data_output")
    request_id = str(document.get("id", ""))
    return Asked(request_id, arrays, datatypes, names, binary, bool(by_default))


def _wanted(document: dict[str, Any]) -> tuple[list[str], dict[str, bool]]:
    """Names of the outputs that are asked for, and which of them are to be binary or not."""
    outputs = _tensors(document, "outputs")
    binary = {
        str(each["name"]): bool(_parameters(each)["binary_data"])
        for each in outputs
        if "binary_data" in _parameters(each)
    }
    return [str(each["name"]) for each in outputs], binary


def _tensors(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key, [])
    good = isinstance(found, list) and len(found) <= _MAX_TENSORS
    if not good or not all(isinstance(each, dict) and "name" in each for each in found):
        raise ProtocolError(400, f"{key!r} must be a list of objects with a name.")
    return list(found)


def _parameters(thing: dict[str, Any]) -> dict[str, Any]:
    found = thing.get("parameters")
    return found if isinstance(found, dict) else {}


def _array(tensor: dict[str, Any], datatype: str, rest: memoryview) -> tuple[Array, memoryview]:
    """The tensor's array, and what is left of the binary part."""
    shape = checked_shape(tensor.get("shape"))
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise ProtocolError(400, f"Input {tensor['name']!r} has no data.")
        return from_values(tensor["data"], datatype, shape), rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise ProtocolError(400, f"Input {tensor['name']!r}: its {size!r} bytes are not there.")
    return from_raw(rest[:size], datatype, shape), rest[size:]


def _inflated(body: bytes, encoding: str | None, limit: int) -> bytes:
    if encoding in (None, "", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise ProtocolError(415, f"Content-Encoding {encoding!r}: send gzip, deflate or neither.")
    inflater = zlib.decompressobj(47)  # either format, told by its first bytes
    try:
        whole = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise ProtocolError(400, f"The body is not {encoding}: {error}.") from None
    if len(whole) > limit:
        raise TooLarge(f"The body unpacks to more than {limit:,} bytes. Send less at once.")
    return whole


def _written(name: str, asked: Asked, outputs: dict[str, Array]) -> tuple[bytes, int]:
    """The body of an answer, and the length of its JSON if binary tensors follow, else 0."""
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output, array in outputs.items():
        entry: dict[str, Any] = {
            "name": output,
            "datatype": datatype_of(array),
            "shape": array.shape,
        }
        if asked.binary.get(output, asked.binary_by_default):
            raw.append(to_raw(array))
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = to_values(array)
        described.append(entry)
    document = {"model_name": name, "model_version": VERSION, "outputs": described}
    if asked.id:
        document["id"] = asked.id
    header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((header, *raw)), len(header)) if raw else (header, 0)


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
