"""Bodies of the Open Inference Protocol over HTTP, with binary tensors: questions and answers."""

import zlib
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Meta, Struct

from servers.model_app import TooLarge
from servers.open_inference import VERSION, ProtocolError
from servers.tensors import (
    MAX_DIMENSIONS,
    Array,
    Kinds,
    datatype_of,
    from_raw,
    from_values,
    to_raw,
    to_values,
)

HEADER_LENGTH = "inference-header-content-length"

_MAX_TENSORS = 1000
_NOTHING = memoryview(b"")

_Parameters = dict[str, Any] | None
_Size = Annotated[int, Meta(ge=0)]


class _Input(Struct):
    name: str
    datatype: str
    shape: Annotated[list[_Size], Meta(max_length=MAX_DIMENSIONS)]
    data: Any = None
    parameters: _Parameters = None


class _Output(Struct):
    name: str
    parameters: _Parameters = None


class _Request(Struct):
    inputs: Annotated[list[_Input], Meta(max_length=_MAX_TENSORS)] = []
    outputs: Annotated[list[_Output], Meta(max_length=_MAX_TENSORS)] | None = None
    id: str | int | None = None
    parameters: _Parameters = None


_read = msgspec.json.Decoder(_Request).decode


class Asked(Struct, frozen=True):
    """A request to infer, parsed."""

    arrays: dict[str, Array]
    kinds: Kinds
    outputs: list[str]
    """Names of those that are asked for; none is all."""
    binary: dict[str, bool]
    """Which of them are to be binary or not."""
    binary_by_default: bool
    id: str | int | None


def parsed(body: bytes, header_length: str | None) -> Asked:
    """What a body asks for; ProtocolError or BadTensor when it is none of the protocol's."""
    header: bytes | memoryview = body
    rest = _NOTHING
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > len(body):
            raise ProtocolError(400, f"{HEADER_LENGTH} is {header_length!r}: the body is shorter.")
        view = memoryview(body)
        header, rest = view[: int(header_length)], view[int(header_length) :]
    try:
        request = _read(header)
    except msgspec.ValidationError as error:
        raise ProtocolError(400, f"The request is not the protocol's: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(400, f"The request is not JSON: {error}.") from None
    arrays: dict[str, Array] = {}
    kinds = []
    for tensor in request.inputs:
        name = tensor.name
        if tensor.parameters is not None and "binary_data_size" in tensor.parameters:
            arrays[name], rest = _from_rest(tensor, tensor.parameters["binary_data_size"], rest)
        elif tensor.data is None:
            raise ProtocolError(400, f"Input {name!r} has no data.")
        else:
            arrays[name] = from_values(tensor.data, tensor.datatype, tensor.shape)
        kinds.append((name, tensor.datatype, tuple(tensor.shape)))
    if len(rest):
        raise ProtocolError(400, f"{len(rest)} bytes at the end belong to no input.")
    names, binary = _wanted(request.outputs) if request.outputs else ([], {})
    by_default = request.parameters and request.parameters.get("binary_data_output")
    return Asked(arrays, tuple(kinds), names, binary, bool(by_default), request.id)


def inflated(body: bytes, encoding: str | None, limit: int) -> bytes:
    """The body as it was before its Content-Encoding; TooLarge beyond ``limit`` bytes."""
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


def written(name: str, asked: Asked, outputs: Mapping[str, Array]) -> tuple[bytes, int]:
    """The body of an answer, and the length of its JSON if binary tensors follow, else 0."""
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output, array in outputs.items():
        entry = {"name": output, "datatype": datatype_of(array), "shape": array.shape}
        if asked.binary.get(output, asked.binary_by_default):
            raw.append(to_raw(array))
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = to_values(array)
        described.append(entry)
    document = {"model_name": name, "model_version": VERSION, "outputs": described}
    if asked.id:
        document["id"] = str(asked.id)
    header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((header, *raw)), len(header)) if raw else (header, 0)


def _wanted(outputs: list[_Output]) -> tuple[list[str], dict[str, bool]]:
    """Names, and which of them say whether they are to be binary."""
    binary = {
        each.name: bool(each.parameters["binary_data"])
        for each in outputs
        if each.parameters is not None and "binary_data" in each.parameters
    }
    return [each.name for each in outputs], binary


def _from_rest(tensor: _Input, size: Any, rest: memoryview) -> tuple[Array, memoryview]:
    """The tensor's array, and what is left of the binary part."""
    if type(size) is not int or not 0 <= size <= len(rest):
        raise ProtocolError(400, f"Input {tensor.name!r}: its {size!r} bytes are not there.")
    return from_raw(rest[:size], tensor.datatype, tensor.shape), rest[size:]
