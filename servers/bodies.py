"""Bodies to values and back, for the content types that SageMaker's default handlers know.

    application/json    a list of numbers (or of such lists) becomes an array, the rest stays
    text/csv            rows of numbers, no header: always an array of two dimensions
    application/x-npy   one array, never a pickle

A body without a content type is taken as JSON.
"""

import io
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"

Array = npt.NDArray[Any]


class BodyError(Exception):
    """The caller's mistake; ``status_code`` is the HTTP answer it deserves."""

    status_code = 400


class BadBody(BodyError):
    """The body is not what its content type says."""

    status_code = 400


class UnsupportedAccept(BodyError):
    """No content type that the caller accepts can be made."""

    status_code = 406


class UnsupportedContentType(BodyError):
    """The body's content type cannot be read."""

    status_code = 415


def decode(body: bytes, content_type: str | None) -> object:
    """The value in ``body``: an array wherever it is one."""
    name = media_type(content_type or JSON)
    decoder = _DECODERS.get(name)
    if decoder is None:
        raise UnsupportedContentType(
            f"Content type {name!r} cannot be read. Send one of {', '.join(_DECODERS)}, "
            "or give the model an input_fn."
        )
    return decoder(body)


def encode(prediction: object, accept: str | None) -> tuple[bytes, str]:
    """``prediction`` as the first content type in ``accept`` that can be made, and that type."""
    name = chosen_type(accept)
    return _ENCODERS[name](prediction), name


@lru_cache(64)
def media_type(header: str) -> str:
    """The type alone: lower case, without parameters such as ``charset``."""
    return header.partition(";")[0].strip().lower()


@lru_cache(64)
def chosen_type(accept: str | None) -> str:
    """The content type to answer with; UnsupportedAccept when there is none."""
    wanted = [media_type(part) for part in (accept or "*/*").split(",")]
    for name in wanted:
        if name in _ENCODERS:
            return name
        if name in _WILDCARDS:
            return _WILDCARDS[name]
    raise UnsupportedAccept(
        f"Accept {accept!r} cannot be answered. Ask for one of {', '.join(_ENCODERS)}, "
        "or give the model an output_fn."
    )


def to_json(value: object) -> bytes:
    """``value`` as JSON; arrays and tensors become lists, NaN becomes null."""
    return orjson.dumps(
        value, default=_to_list, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    )


def _to_list(value: Any) -> Any:
    # Tensors of any library have it, so none of them has to be imported to be recognised.
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _from_json(body: bytes) -> object:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadBody(f"The body is not JSON: {error}.") from None
    if not isinstance(value, list):
        return value
    try:
        array = np.array(value)
    except ValueError:  # ragged, or nested deeper than an array can be
        return value
    return array if array.dtype.kind in "biuf" else value


def _from_csv(body: bytes) -> Array:
    try:
        text = body.decode("utf-8")
        if not text.strip():
            raise ValueError("it is empty")
        return np.loadtxt(io.StringIO(text), delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        raise BadBody(f"The body is not CSV of numbers without a header: {error}.") from None


def _from_npy(body: bytes) -> Array:
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        reader = _NPY_HEADERS.get(version)
        if reader is None:
            raise ValueError(f"version {version} is not read, only 1.0 and 2.0")
        shape, by_columns, kind = reader(stream)
        if kind.hasobject or not kind.itemsize:
            raise ValueError(f"arrays of {kind} are not read")
        # The header is the caller's word: nothing is allocated before it agrees with the body.
        if math.prod(shape) * kind.itemsize != len(body) - stream.tell():
            raise ValueError(f"its length does not fit the shape {shape} of {kind}")
        order: Literal["F", "C"] = "F" if by_columns else "C"
        view = np.ndarray(shape, kind, body, stream.tell(), order=order)
    except Exception as error:  # noqa: BLE001 - numpy's parser fails in many ways, all of them the caller's
        raise BadBody(f"The body is not one NPY array: {error}.") from None
    array: Array = view.copy()  # writable, as code written for the toolkit expects
    return array


def _to_array(prediction: Any) -> Array:
    array = np.asarray(prediction if isinstance(prediction, np.ndarray) else _plain(prediction))
    if array.dtype.hasobject:
        raise TypeError(f"a {type(prediction).__name__} cannot be written as an array")
    return array


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _to_csv(prediction: Any) -> bytes:
    array = _to_array(prediction)
    if array.ndim > 2:
        raise TypeError(f"an array of shape {array.shape} cannot be written as CSV")
    rows = array.reshape(len(array) if array.ndim else 1, -1).tolist() if array.size else []
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def _to_npy(prediction: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, _to_array(prediction), allow_pickle=False)
    return stream.getvalue()


_NPY_HEADERS: dict[tuple[int, int], Callable[[io.BytesIO], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DECODERS: dict[str, Callable[[bytes], object]] = {JSON: _from_json, CSV: _from_csv, NPY: _from_npy}
_ENCODERS: dict[str, Callable[[Any], bytes]] = {JSON: to_json, CSV: _to_csv, NPY: _to_npy}
_WILDCARDS = {"*/*": JSON, "application/*": JSON, "text/*": CSV}
