"""Tensors of the Open Inference Protocol to numpy arrays and back."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from servers.stacking import is_tensor

Array = np.ndarray[Any, Any]
Kinds = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, datatype and shape of each of several tensors."""

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_LENGTH = struct.Struct("<I")
MAX_DIMENSIONS = 32


class BadTensor(Exception):
    """The caller's tensor cannot be read; the text says why."""


def datatype_of(array: Array) -> str:
    """The protocol's name for the kind of an array; ValueError when it has none."""
    name = _NAMES.get(array.dtype)
    if name is None:
        raise ValueError(f"arrays of {array.dtype} have no datatype in the protocol")
    return name


def to_array(value: Any) -> Array:
    """A prediction as an array, texts as bytes; ValueError when it is none."""
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return value
    if is_tensor(value):
        return np.asarray(value.detach().cpu().numpy())
    array = np.asarray(value)
    if array.dtype.kind in "US" or (array.dtype.hasobject and _all_texts(array)):
        texts = [each.encode() if isinstance(each, str) else bytes(each) for each in array.ravel()]
        made = np.empty(len(texts), dtype=object)
        made[:] = texts
        return made.reshape(array.shape)
    if array.dtype.hasobject:
        raise ValueError(f"a {type(value).__name__} is no tensor")
    return array


def checked_shape(shape: Any) -> list[int]:
    """The shape that a caller gave; BadTensor when it is none."""
    good = isinstance(shape, list | tuple) and len(shape) <= MAX_DIMENSIONS
    if not good or not all(type(size) is int and size >= 0 for size in shape):
        raise BadTensor(f"shape {shape!r}: give a list of whole numbers of at least 0.")
    return list(shape)


def from_raw(data: memoryview | bytes, datatype: str, shape: Sequence[int]) -> Array:
    """The array in ``data``, not copied unless it holds texts."""
    count = math.prod(shape)
    if datatype == "BYTES":
        return _texts(_split_texts(data, count), shape)
    dtype = _dtype(datatype)
    if len(data) != count * dtype.itemsize:
        raise BadTensor(
            f"{len(data)} bytes are not {datatype} of shape {list(shape)}, which has "
            f"{count * dtype.itemsize}."
        )
    return np.frombuffer(data, dtype).reshape(shape)


def from_values(data: Any, datatype: str, shape: Sequence[int]) -> Array:
    """The array of numbers or texts that came one by one, flat or nested."""
    count = math.prod(shape)
    if datatype == "BYTES":
        return _texts(_flat_texts(data, count), shape)
    dtype = _dtype(datatype)
    try:
        found = np.asarray(data, dtype=dtype if dtype.kind == "f" else None)
        if found.size != count:
            raise BadTensor(f"{found.size} values are not a shape of {list(shape)}.")
        if dtype.kind != "f":
            found = (_whole(found, dtype) if found.size else found).astype(dtype, copy=False)
        return found.reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadTensor(f"the data are not {datatype}: {error}.") from None


def to_raw(array: Array) -> bytes:
    """The bytes of an array as the protocol has them."""
    if array.dtype.hasobject:
        return b"".join(_LENGTH.pack(len(text)) + text for text in array.ravel().tolist())
    return array.tobytes()


def to_values(array: Array) -> Any:
    """The values of an array for JSON, flat."""
    if array.dtype.hasobject:
        return [text.decode("utf-8", "replace") for text in array.ravel().tolist()]
    if array.dtype.char == "e":  # of half precision
        return array.astype(np.float32).ravel()
    return array.ravel()  # contiguous, and a copy only if it was not


def _dtype(datatype: str) -> np.dtype[Any]:
    if datatype not in DATATYPES:
        raise BadTensor(f"datatype {datatype!r} is not known: use {', '.join(DATATYPES)}.")
    return DATATYPES[datatype]


def _whole(found: Array, dtype: np.dtype[Any]) -> Array:
    """Whole numbers or truths, checked that nothing is cut off."""
    if dtype.kind == "b":
        if found.dtype.kind != "b" and not np.isin(found, (0, 1)).all():
            raise ValueError("there are other values than true and false")
        return found
    if found.dtype.kind not in "iu":
        raise ValueError("there are other values than whole numbers")
    limits = np.iinfo(dtype)
    if int(found.min()) < limits.min or int(found.max()) > limits.max:
        raise ValueError(f"there are values beyond {limits.min} to {limits.max}")
    return found


def _texts(texts: list[bytes], shape: Sequence[int]) -> Array:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array.reshape(shape)


def _split_texts(data: memoryview | bytes, count: int) -> list[bytes]:
    texts: list[bytes] = []
    place = 0
    view = memoryview(data)
    while place < len(view) and len(texts) < count:
        if place + 4 > len(view):
            break
        (length,) = _LENGTH.unpack_from(view, place)
        place += 4
        if place + length > len(view):
            break
        texts.append(bytes(view[place : place + length]))
        place += length
    if place != len(view) or len(texts) != count:
        raise BadTensor(f"{len(view)} bytes do not hold {count} texts with their lengths.")
    return texts


def _flat_texts(data: Any, count: int) -> list[bytes]:
    flat: list[Any] = list(data) if isinstance(data, list | tuple) else [data]
    while flat and len(flat) <= count and all(isinstance(each, list) for each in flat):
        flat = [item for each in flat for item in each]
    if len(flat) != count or not all(isinstance(each, str | bytes) for each in flat):
        raise BadTensor(f"the data are not {count} texts.")
    return [each.encode() if isinstance(each, str) else each for each in flat]


def _all_texts(array: Array) -> bool:
    return all(isinstance(each, str | bytes) for each in array.ravel())
