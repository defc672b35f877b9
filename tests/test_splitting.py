"""Objects cut into mini-batches."""

import struct
from collections.abc import Iterator

import pytest

from servers.splitting import (
    RECORDIO_MAGIC,
    BadObject,
    MiniBatch,
    Splitting,
    TooLarge,
    mini_batches,
)


def cut(content: bytes, how: Splitting, piece: int = 3) -> list[MiniBatch]:
    """The mini-batches of ``content``, read in small pieces."""
    pieces = (content[at : at + piece] for at in range(0, len(content), piece))
    return list(mini_batches(pieces, how))


def bodies(content: bytes, how: Splitting, piece: int = 3) -> list[bytes]:
    return [batch.body for batch in cut(content, how, piece)]


def recordio(*parts: tuple[int, bytes]) -> bytes:
    """Parts of a kind (0 whole, 1 first, 2 middle, 3 last) as MXNet writes them."""
    return b"".join(
        struct.pack("<II", RECORDIO_MAGIC, kind << 29 | len(data)) + data + b"\0" * (-len(data) % 4)
        for kind, data in parts
    )


def tfrecord(data: bytes) -> bytes:
    return struct.pack("<QI", len(data), 7) + data + struct.pack("<I", 7)


@pytest.mark.parametrize("piece", [1, 2, 5, 100])
def test_lines_are_packed_until_the_limit(piece: int) -> None:
    """MultiRecord puts as many whole lines as fit into each mini-batch."""
    how = Splitting("Line", limit_bytes=8)
    assert bodies(b"aa\nbb\ncc\ndddd\n", how, piece) == [b"aa\nbb\n", b"cc\ndddd\n"]


def test_mini_batches_count_their_records() -> None:
    """Each says how many records it has and where they begin, also without a last newline."""
    batches = cut(b"a\nb\nc", Splitting("Line", limit_bytes=4))
    assert [(b.records, b.first) for b in batches] == [(2, 0), (1, 2)]


def test_a_line_as_long_as_the_limit_goes_without_its_newline() -> None:
    """The newline is no part of the record."""
    how = Splitting("Line", limit_bytes=4)
    assert bodies(b"aaaa\nbb\n", how) == [b"aaaa", b"bb\n"]


def test_a_record_above_the_limit_is_named() -> None:
    """The error says which record it is and what to set."""
    with pytest.raises(TooLarge, match=r"record 3 .*MaxPayloadInMB"):
        cut(b"a\nb\ncccccc\n", Splitting("Line", limit_bytes=4))


def test_single_records_come_alone_and_bare() -> None:
    """SingleRecord sends one line without its end, be it of either kind."""
    how = Splitting("Line", single=True, limit_bytes=100)
    assert bodies(b"a\r\nb\nc", how) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("single", [True, False])
def test_empty_lines_are_no_records(single: bool) -> None:
    """They would shift the answers against the inputs."""
    batches = cut(b"\n\na\n\nb\n\n", Splitting("Line", single=single, limit_bytes=100), 100)
    assert sum(batch.records for batch in batches) == 2
    assert b"".join(batch.body for batch in batches).replace(b"\n", b"") == b"ab"


def test_an_object_that_is_not_split_is_one_record() -> None:
    """SplitType None sends the whole object."""
    assert cut(b"abcdef", Splitting(limit_bytes=6)) == [MiniBatch(b"abcdef", 1, 0)]


def test_an_object_that_is_not_split_may_be_too_large() -> None:
    """It is refused as soon as the limit is passed, not read to its end."""

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 10

    with pytest.raises(TooLarge, match="not split"):
        list(mini_batches(endless(), Splitting(limit_bytes=95)))


@pytest.mark.parametrize("split", ["None", "Line", "RecordIO", "TFRecord"])
def test_an_empty_object_has_no_records(split: str) -> None:
    """Nothing is sent for it."""
    assert cut(b"", Splitting(split)) == []  # type: ignore[arg-type]


def test_recordio_keeps_its_frame_unless_alone() -> None:
    """Padding is removed for SingleRecord and kept for MultiRecord."""
    content = recordio((0, b"abc"), (0, b"defgh"), (0, b""))
    several = Splitting("RecordIO", limit_bytes=28)
    assert bodies(content, several) == [content[:28], content[28:]]
    alone = Splitting("RecordIO", single=True, limit_bytes=100)
    assert bodies(content, alone) == [b"abc", b"defgh", b""]


def test_recordio_in_parts_is_one_record() -> None:
    """Where a record was cut, the magic number stood in it."""
    content = recordio((1, b"ab"), (2, b"cd"), (3, b"ef"))
    magic = struct.pack("<I", RECORDIO_MAGIC)
    alone = Splitting("RecordIO", single=True, limit_bytes=100)
    assert bodies(content, alone) == [b"ab" + magic + b"cd" + magic + b"ef"]
    assert cut(content, Splitting("RecordIO", limit_bytes=100)) == [MiniBatch(content, 1, 0)]


def test_tfrecord_keeps_its_frame_unless_alone() -> None:
    """As RecordIO does."""
    content = tfrecord(b"abc") + tfrecord(b"de")
    assert bodies(content, Splitting("TFRecord", limit_bytes=100)) == [content]
    assert bodies(content, Splitting("TFRecord", single=True, limit_bytes=100)) == [b"abc", b"de"]


@pytest.mark.parametrize(
    ("split", "content", "why"),
    [
        ("RecordIO", b"no frame at all", "magic number"),
        ("RecordIO", recordio((0, b"abcd"))[:-2], "cut short"),
        ("RecordIO", recordio((3, b"abcd")), "do not fit together"),
        ("RecordIO", recordio((0, b"x" * 200)), "record 1 is larger"),
        ("TFRecord", tfrecord(b"abcd")[:-1], "record 1 is cut short"),
        ("TFRecord", b"\xff" * 20, "record 1 is larger"),
    ],
)
def test_a_broken_frame_is_named(split: str, content: bytes, why: str) -> None:
    """A length that cannot be right is not waited for."""
    with pytest.raises(BadObject, match=why):
        cut(content, Splitting(split, limit_bytes=100))  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [7, 13, 64, 1000])
@pytest.mark.parametrize("piece", [1, 8, 1000])
def test_nothing_is_lost_or_moved(limit: int, piece: int) -> None:
    """All lines come through in order, in mini-batches within the limit."""
    lines = [b"%d" % (number**2) for number in range(200)]
    content = b"\n".join(lines) + b"\n"
    batches = cut(content, Splitting("Line", limit_bytes=limit), piece)
    assert b"\n".join(b.body.rstrip(b"\n") for b in batches).split(b"\n") == lines
    assert all(len(batch.body) <= limit for batch in batches)
    assert [b.first for b in batches] == [
        sum(b.records for b in batches[:n]) for n in range(len(batches))
    ]
