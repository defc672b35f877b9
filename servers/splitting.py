"""Input objects cut into mini-batches, as a stream: nothing but one mini-batch is held.

A mini-batch never crosses objects: one call of `mini_batches` is one object.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

SplitType = Literal["None", "Line", "RecordIO", "TFRecord"]

RECORDIO_MAGIC = 0xCED7230A
_RECORDIO = struct.Struct("<II")
_TFRECORD = struct.Struct("<QI")
_CRC_BYTES = 4
_WHOLE, _FIRST, _LAST = 0, 1, 3
"""Kinds of the parts that MXNet cuts a record into when its data holds the magic number."""


class BadObject(Exception):
    """The object cannot be cut into records; the text says where and why."""


class TooLarge(BadObject):
    """A record, or an object that is not split, is larger than one payload may be."""


@dataclass(frozen=True)
class Splitting:
    """How objects are cut."""

    split: SplitType = "None"
    single: bool = False
    """One record a mini-batch, else as many as fit."""
    limit_bytes: int = 6 << 20


@dataclass(frozen=True)
class MiniBatch:
    """What one call of the model gets, and the number of its first record in the object."""

    body: bytes
    records: int
    first: int


def mini_batches(chunks: Iterable[bytes], how: Splitting) -> Iterator[MiniBatch]:
    """The mini-batches of one object, in order; BadObject where it cannot be cut."""
    first = 0
    for body, records in _CUTTERS[how.split](chunks, how):
        yield MiniBatch(body, records, first)
        first += records


Cut = Iterator[tuple[bytes, int]]


def _whole(chunks: Iterable[bytes], how: Splitting) -> Cut:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        if len(held) > how.limit_bytes:
            raise TooLarge(
                f"the object is larger than MaxPayloadInMB allows ({how.limit_bytes:,} bytes), "
                "and it is not split. Set SplitType or a larger MaxPayloadInMB"
            )
    if held:
        yield bytes(held), 1


def _lines(chunks: Iterable[bytes], how: Splitting) -> Cut:
    records = 0
    for block in _blocks(chunks, how.limit_bytes):
        body = _without_empty_lines(block)
        if not body:
            continue
        if how.single:
            for line in body.split(b"\n"):
                if line:
                    yield line.rstrip(b"\r"), 1
            continue
        records = body.count(b"\n") + (not body.endswith(b"\n"))
        yield body, records


def _blocks(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Whole lines, together at most ``limit`` bytes; all but the last block are as full as can be.

    A line of just that size goes without its newline.
    """
    held, before = bytearray(), 0
    for chunk in chunks:
        held += chunk
        while len(held) > limit:
            cut = held.rfind(b"\n", 0, limit) + 1
            if not cut:
                if held[limit : limit + 1] != b"\n":
                    raise _record_too_large(before, limit)
                yield bytes(held[:limit])
                del held[: limit + 1]
                before += 1
                continue
            block = bytes(memoryview(held)[:cut])
            del held[:cut]
            before += block.count(b"\n")
            yield block
    if held:
        yield bytes(held)


def _record_too_large(before: int, limit: int) -> TooLarge:
    return TooLarge(
        f"record {before + 1} is larger than MaxPayloadInMB allows ({limit:,} bytes). "
        "Set a larger MaxPayloadInMB, or make it smaller"
    )


def _without_empty_lines(block: bytes) -> bytes:
    if not (b"\n\n" in block or b"\n\r\n" in block or block.startswith((b"\n", b"\r\n"))):
        return block
    return b"".join(line + b"\n" for line in block.split(b"\n") if line.strip())


@dataclass(frozen=True)
class _Frame:
    """Where a framed record lies in what is held."""

    data: bytes
    end: int


_Read = Callable[[bytearray, int, tuple[int, int]], _Frame | None]


def _framed(read: _Read) -> Callable[[Iterable[bytes], Splitting], Cut]:
    """Cuts at frames; single records go without their frame, several keep theirs."""

    def cut(chunks: Iterable[bytes], how: Splitting) -> Cut:
        held, begin, at, records, number = bytearray(), 0, 0, 0, 0
        for chunk in chunks:
            held += chunk
            while (frame := read(held, at, (number, how.limit_bytes))) is not None:
                number += 1
                if how.single:
                    yield frame.data, 1
                    begin = at = frame.end
                    continue
                if frame.end - begin > how.limit_bytes:
                    if records:
                        yield bytes(held[begin:at]), records
                    begin, records = at, 0
                if frame.end - begin > how.limit_bytes:
                    raise _record_too_large(number - 1, how.limit_bytes)
                at, records = frame.end, records + 1
            del held[:begin]
            begin, at = 0, at - begin
        if at < len(held):
            raise BadObject(f"record {number + 1} is cut short: the object ends inside it")
        if records:
            yield bytes(held[begin:at]), records

    return cut


def _read_recordio(held: bytearray, at: int, where: tuple[int, int]) -> _Frame | None:
    number, limit = where
    parts: list[bytes] = []
    while True:
        if len(held) < at + _RECORDIO.size:
            return None
        magic, packed = _RECORDIO.unpack_from(held, at)
        kind, size = packed >> 29, packed & ((1 << 29) - 1)
        if magic != RECORDIO_MAGIC:
            raise BadObject(f"record {number + 1} does not begin with RecordIO's magic number")
        if size > limit:
            raise _record_too_large(number, limit)
        begin = at + _RECORDIO.size
        at = begin + (size + 3) // 4 * 4
        if len(held) < at:
            return None
        parts.append(bytes(held[begin : begin + size]))
        if (kind in (_WHOLE, _FIRST)) != (len(parts) == 1):
            raise BadObject(f"record {number + 1} is in parts that do not fit together")
        if sum(map(len, parts)) > limit:
            raise _record_too_large(number, limit)
        if kind in (_WHOLE, _LAST):
            # Where a record was cut, the magic number stood in its data.
            return _Frame(RECORDIO_MAGIC.to_bytes(4, "little").join(parts), at)


def _read_tfrecord(held: bytearray, at: int, where: tuple[int, int]) -> _Frame | None:
    number, limit = where
    if len(held) < at + _TFRECORD.size:
        return None
    size, _ = _TFRECORD.unpack_from(held, at)
    if size > limit:
        raise _record_too_large(number, limit)
    begin = at + _TFRECORD.size
    end = begin + size + _CRC_BYTES
    return _Frame(bytes(held[begin : begin + size]), end) if len(held) >= end else None


_CUTTERS: dict[SplitType, Callable[[Iterable[bytes], Splitting], Cut]] = {
    "None": _whole,
    "Line": _lines,
    "RecordIO": _framed(_read_recordio),
    "TFRecord": _framed(_read_tfrecord),
}
