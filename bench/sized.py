"""Bodies of a wanted size that a model can still take: samples repeated as one batch, or padded."""

import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from bench.errors import ConfigError
from bench.payload import Payload, Sizes
from bench.stock import Piece, Stock, stock_of

BLOCK_BYTES = 2**20
"""About as long is what is repeated."""
SPACES = b" " * 2**16
NPY_HEADER_MAX = 8192
"""NumPy refuses headers above 10,000 bytes."""

Make = Callable[[int], list[Piece]]


class _File:
    """The one file that takes every piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = 0
        path.write_bytes(b"")

    def add(self, content: bytes) -> Piece:
        with self.path.open("ab") as file:
            file.write(content)
        self._end += len(content)
        return (0, self._end - len(content), len(content), 1)


@dataclass(frozen=True)
class _Block:
    """Whole rows, one after the other, that are repeated as often as needed."""

    piece: Piece
    ends: Sequence[int]
    """Where each row ends in it."""

    def rows(self, most_bytes: int) -> tuple[list[Piece], int]:
        """Pieces of as many whole rows as fit, and how many bytes they have."""
        _, start, length, _ = self.piece
        times, rest = divmod(max(0, most_bytes), length)
        place = bisect_right(self.ends, rest)
        part = self.ends[place - 1] if place else 0
        found = [(0, start, length, times)] if times else []
        return found + ([(0, start, part, 1)] if part else []), times * length + part


def sized_stock(
    payload: Payload, samples: Sequence[Path], sizes: Sizes, order: Sizes, path: Path
) -> Stock:
    """A stock of one body a size, made of the samples; ``path`` takes what it is made of.

    A body is as large as asked for if the format can be padded (JSON, NPY, octets), and has as
    many whole rows as fit otherwise (CSV); it never has less than one row. ConfigError when the
    samples do not allow it.
    """
    file = _File(path)
    make = _maker(payload, samples, file)
    return stock_of((path,), (make(int(size)) for size in sizes), order)


def _maker(payload: Payload, samples: Sequence[Path], file: _File) -> Make:
    if payload.fill == "octets":
        random = np.random.default_rng(0)
        block = _Block(file.add(random.bytes(BLOCK_BYTES)), range(1, BLOCK_BYTES + 1))
        return lambda size: block.rows(size)[0]
    kind = payload.content_type.partition(";")[0].strip().lower()
    bodies = [sample.read_bytes() for sample in samples]
    try:
        if kind == "application/json":
            return _spaced(bodies[0], file) if payload.fill == "spaces" else _json(bodies, file)
        if kind == "text/csv" and payload.fill == "rows":
            return _csv(bodies, file)
        if kind == "application/x-npy" and payload.fill == "rows":
            return _npy(bodies, file)
    except ValueError as error:
        raise ConfigError(
            f"payload.size: no larger body can be made of {samples[0]} as {kind}: {error}. Name "
            "other samples with payload.path, or choose another payload.fill."
        ) from error
    raise ConfigError(
        f"payload.fill = {payload.fill!r} cannot make bodies of {payload.content_type!r}: rows "
        "makes JSON, CSV and NPY, spaces makes JSON, octets makes application/octet-stream."
    )


def _spaced(body: bytes, file: _File) -> Make:
    """The sample and spaces, which JSON allows at its end."""
    orjson.loads(body)
    whole, pad = file.add(body), _padding(file)
    return lambda size: [whole, *pad(size - len(body))]


def _padding(file: _File) -> Make:
    _, start, length, _ = file.add(SPACES)

    def pad(size: int) -> list[Piece]:
        times, rest = divmod(max(0, size), length)
        found = [(0, start, length, times)] if times else []
        return found + ([(0, start, rest, 1)] if rest else [])

    return pad


def _json(bodies: Sequence[bytes], file: _File) -> Make:
    """A list of every sample's rows, again and again; or an object whose one list that is."""
    values = [orjson.loads(body) for body in bodies]
    prefix, suffix = b"[", b"]"
    if all(isinstance(value, dict) and len(value) == 1 for value in values):
        key = next(iter(values[0]))
        prefix, suffix = b"{" + orjson.dumps(key) + b":[", b"]}"
        values = [value.get(key) for value in values]
    rows = [orjson.dumps(row) for value in values for row in _rows(value)]
    block = _block([row + b"," for row in rows], file)
    head, tail, pad = file.add(prefix), file.add(rows[0] + suffix), _padding(file)

    def make(size: int) -> list[Piece]:
        middle, length = block.rows(size - head[2] - tail[2])
        return [head, *middle, tail, *pad(size - head[2] - length - tail[2])]

    return make


def _rows(value: object) -> list[object]:
    """The rows of a sample: those of a batch, or the sample itself if it is one row."""
    if not isinstance(value, list) or not value:
        raise ValueError("its JSON is no list of numbers or rows")
    return value if isinstance(value[0], list | dict) else [value]


def _csv(bodies: Sequence[bytes], file: _File) -> Make:
    rows = [line + b"\n" for body in bodies for line in body.splitlines() if line.strip()]
    if not rows:
        raise ValueError("it has no row")
    block = _block(rows, file)
    return lambda size: block.rows(max(size, len(rows[0])))[0]


def _npy(bodies: Sequence[bytes], file: _File) -> Make:
    """One array of every sample's rows; spaces in its header make up the size."""
    arrays = [np.atleast_2d(_array(body)) for body in bodies]
    if len({(array.shape[1:], array.dtype.str) for array in arrays}) > 1:
        raise ValueError("the samples differ in shape or type")
    array = np.ascontiguousarray(np.concatenate(arrays))
    row_bytes = array[0].nbytes
    content = array.tobytes()
    block = _block([content[at : at + row_bytes] for at in range(0, len(content), row_bytes)], file)
    short = len(_npy_header(array, 10**9, 0))

    def make(size: int) -> list[Piece]:
        middle, length = block.rows(max(size - short, row_bytes))
        header_bytes = min(size - length, NPY_HEADER_MAX)
        return [file.add(_npy_header(array, length // row_bytes, header_bytes)), *middle]

    return make


def _array(body: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """A sample as an array; one in JSON becomes one of 32-bit floats."""
    if not body.startswith(b"\x93NUMPY"):
        return np.array(orjson.loads(body), np.float32)
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
    array = np.load(io.BytesIO(body), allow_pickle=False)
    return array


def _npy_header(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], n: int, w: int) -> bytes:
    """The header of ``n`` rows like those of ``array``, in ``w`` bytes if it needs no more."""
    shape = (n, *array.shape[1:])
    text = f"{{'descr': {array.dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(w - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1")


def _block(rows: Sequence[bytes], file: _File) -> _Block:
    """The rows, and again until they are about `BLOCK_BYTES`."""
    once = np.cumsum([len(row) for row in rows])
    times = max(1, BLOCK_BYTES // int(once[-1]))
    ends = (np.arange(times)[:, None] * once[-1] + once).ravel()
    return _Block(file.add(b"".join(rows) * times), ends.tolist())
