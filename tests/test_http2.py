"""The server's connection over HTTP/2, with frames that a well-behaved client would not send."""

import asyncio
import random
import socket
import struct
from collections.abc import Iterator

import pytest
from hpack import Encoder

from servers.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEADER,
    INITIAL_WINDOW_SIZE,
    PADDED,
    PREFACE,
    WITH_PRIORITY,
    Code,
    Kind,
    frame,
    reset,
    settings,
    window_update,
)
from servers.grpc_wire import framed
from servers.header_blocks import MAX_BYTES
from tests.test_grpc_server import Toy, toy_serving
from tests.test_http_connection import Wire
from tests.test_model_server import wait_for

Frame = tuple[int, int, int, bytes]
HELLO = PREFACE + settings({})


def head(path: str, encoder: Encoder | None = None, timeout: str | None = None) -> bytes:
    """The header block of a call."""
    fields = [
        *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "toy")),
        *(("te", "trailers"), ("content-type", "application/grpc")),
    ]
    if timeout:
        fields.append(("grpc-timeout", timeout))
    return bytes((encoder or Encoder()).encode(fields))


def call(path: str, *messages: bytes, stream_id: int = 1, flags: int = END_STREAM) -> bytes:
    """The frames of a call with these messages, ended by ``flags``."""
    parts = [frame(Kind.HEADERS, END_HEADERS, stream_id, head(path))]
    parts += [frame(Kind.DATA, 0, stream_id, framed(each)) for each in messages]
    return b"".join(parts) + frame(Kind.DATA, flags, stream_id)


class Peer:
    """A client that says what it is told to."""

    def __init__(self, port: int, said: bytes = HELLO) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.sendall(said)
        self._rest = b""

    def say(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def frames(self) -> Iterator[Frame]:
        """What the server says, until it closes the connection."""
        while True:
            while len(self._rest) >= HEADER.size:
                high, low, kind, flags, stream_id = HEADER.unpack_from(self._rest)
                end = HEADER.size + (high << 8 | low)
                if len(self._rest) < end:
                    break
                content, self._rest = self._rest[HEADER.size : end], self._rest[end:]
                yield kind, flags, stream_id, content
            try:
                data = self.socket.recv(2**16)
            except ConnectionResetError:
                return
            if not data:
                return
            self._rest += data

    def next(self, *kinds: int) -> Frame:
        """The next frame of these kinds."""
        return next(each for each in self.frames() if each[0] in kinds)

    def answer(self, stream_id: int = 1) -> bytes:
        """The body of an answer that ends well."""
        body = b""
        for kind, flags, of, content in self.frames():
            if of == stream_id:
                body += content if kind == Kind.DATA else b""
                if flags & END_STREAM:
                    assert b"grpc-status\x010" in content
                    return body
        raise AssertionError("the connection ended")


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with toy_serving() as served:
        yield served


@pytest.fixture
def peer(toy: Toy) -> Iterator[Peer]:
    made = Peer(toy.port)
    with made.socket:
        yield made


def number(value: int) -> bytes:
    return struct.pack(">I", value)


ECHO = head("/toy/Echo")
BROKEN = {
    "no HTTP/2": (b"GET / HTTP/1.1\r\nhost: toy\r\n\r\n", Code.PROTOCOL_ERROR),
    "no settings first": (PREFACE + frame(Kind.PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "a large frame": (HELLO + frame(Kind.DATA, 0, 1, bytes(16385)), Code.FRAME_SIZE_ERROR),
    "an even stream": (HELLO + frame(Kind.HEADERS, 5, 2, ECHO), Code.PROTOCOL_ERROR),
    "data of no stream": (HELLO + frame(Kind.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data of an idle stream": (HELLO + frame(Kind.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "data after the end": (
        HELLO + call("/toy/Hold", b"") + frame(Kind.DATA, 0, 1, b"x"),
        Code.STREAM_CLOSED,
    ),
    "a second head": (HELLO + frame(Kind.HEADERS, 4, 1, ECHO) * 2, Code.PROTOCOL_ERROR),
    "settings of a stream": (HELLO + frame(Kind.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "half a setting": (HELLO + frame(Kind.SETTINGS, 0, 0, b"xyz"), Code.FRAME_SIZE_ERROR),
    "a wide window": (HELLO + settings({INITIAL_WINDOW_SIZE: 2**31}), Code.FLOW_CONTROL_ERROR),
    "a full acknowledgement": (
        HELLO + frame(Kind.SETTINGS, ACK, 0, bytes(6)),
        Code.FRAME_SIZE_ERROR,
    ),
    "a short ping": (HELLO + frame(Kind.PING, 0, 0, b"x"), Code.FRAME_SIZE_ERROR),
    "a short reset": (HELLO + frame(Kind.RST_STREAM, 0, 1, b"x"), Code.FRAME_SIZE_ERROR),
    "a reset of an idle stream": (HELLO + reset(1, Code.CANCEL), Code.PROTOCOL_ERROR),
    "a promise": (HELLO + frame(Kind.PUSH_PROMISE, 4, 1, number(2)), Code.PROTOCOL_ERROR),
    "no wider window": (HELLO + window_update(0, 0), Code.PROTOCOL_ERROR),
    "too wide a window": (HELLO + window_update(0, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
    "a stream's too wide": (
        HELLO + call("/toy/Hold", b"") + window_update(1, 2**31 - 1),
        Code.FLOW_CONTROL_ERROR,
    ),
    "padding alone": (
        HELLO + frame(Kind.HEADERS, END_HEADERS | PADDED, 1, b"\xff" + ECHO),
        Code.PROTOCOL_ERROR,
    ),
    "continued nothing": (HELLO + frame(Kind.CONTINUATION, 4, 1, b""), Code.PROTOCOL_ERROR),
    "an interrupted block": (
        HELLO + frame(Kind.HEADERS, 0, 1, ECHO) + frame(Kind.PING, 0, 0, bytes(8)),
        Code.PROTOCOL_ERROR,
    ),
    "a block of nothing known": (
        HELLO + frame(Kind.HEADERS, 4, 1, b"\xfe"),
        Code.COMPRESSION_ERROR,
    ),
    "a long block": (
        HELLO
        + frame(Kind.HEADERS, 0, 1, b"")
        + frame(Kind.CONTINUATION, 0, 1, bytes(16384)) * (MAX_BYTES // 16384 + 1),
        Code.ENHANCE_YOUR_CALM,
    ),
    "a short block of long fields": (
        HELLO
        + frame(Kind.HEADERS, 4, 1, bytes(Encoder().encode([("a", "b" * 4000)])) + b"\xbe" * 1000),
        Code.ENHANCE_YOUR_CALM,
    ),
    "more than the window": (
        HELLO
        + frame(Kind.HEADERS, END_HEADERS, 1, head("/toy/Holds"))
        + frame(Kind.DATA, 0, 1, framed(bytes(16000))) * 140,
        Code.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_who_breaks_the_protocol_is_cut_off(toy: Toy, what: str) -> None:
    """The connection ends with GOAWAY and its reason, its calls are given up, others go on."""
    said, code = BROKEN[what]
    broken, whole = Peer(toy.port, said), Peer(toy.port)
    with broken.socket, whole.socket:
        (*_, last) = broken.frames()
        assert (last[0], *struct.unpack_from(">I", last[3], 4)) == (Kind.GOAWAY, code)
        whole.say(call("/toy/Echo", b"still"))
        assert whole.answer() == framed(b"still")
    wait_for(lambda: not toy.connections, "the end of the connections")


def test_all_that_is_allowed_is_understood(peer: Peer) -> None:
    """Padding, priority, a block in parts, unknown frames, messages in parts, fields at the end."""
    block, message = head("/toy/Echo"), framed(b"message")
    peer.say(
        frame(Kind.PRIORITY, 0, 1, bytes(5)),
        frame(0x42, 0xFF, 7, b"unknown"),
        frame(Kind.HEADERS, PADDED | WITH_PRIORITY, 1, b"\x02" + bytes(5) + block[:9] + bytes(2)),
        frame(Kind.CONTINUATION, 0, 1),
        frame(Kind.CONTINUATION, END_HEADERS, 1, block[9:]),
        frame(Kind.DATA, PADDED, 1, b"\x04" + message[:3] + bytes(4)),
        frame(Kind.DATA, 0, 1, message[3:]),
        frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, bytes(Encoder().encode([("x", "y")]))),
    )
    assert peer.answer() == message


def test_heads_are_read_though_the_table_changes(peer: Peer) -> None:
    """References mean what the table holds at that time, whether they were seen before or not."""
    encoder = Encoder()
    paths = ["/toy/Echo", "/toy/Echo", "/toy/Other", "/toy/Other", "/toy/Echo", "/toy/Echo"]
    blocks = [head(path, encoder) for path in paths]
    assert blocks[4] == blocks[5]
    for number, (path, block) in enumerate(zip(paths, blocks, strict=True)):
        of = 2 * number + 1
        body = frame(Kind.DATA, END_STREAM, of, framed(b"x"))
        peer.say(frame(Kind.HEADERS, END_HEADERS, of, block), body)
        *_, content = peer.next(Kind.DATA, Kind.HEADERS)
        if path == "/toy/Other":
            assert b"grpc-status\x0212" in content
        else:
            assert peer.next(Kind.DATA)[3] == framed(b"x")
            peer.next(Kind.HEADERS)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ([(":path", "/toy/Echo")], number(Code.PROTOCOL_ERROR)),
        ([(":method", "POST"), (":scheme", "http"), (":path", "/"), ("A", "b")], number(1)),
        ([(":method", "GET"), (":scheme", "http"), (":path", "/")], b"415"),
    ],
)
def test_a_request_that_is_no_call_is_refused(
    peer: Peer, fields: list[tuple[str, str]], answer: bytes
) -> None:
    """A malformed one resets its stream; one of HTTP gets 415; the connection goes on."""
    block = bytes(Encoder().encode(fields))
    peer.say(frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert answer in peer.next(Kind.RST_STREAM, Kind.HEADERS)[3]
    peer.say(call("/toy/Echo", b"still", stream_id=3))
    assert peer.answer(3) == framed(b"still")


def test_a_call_ends_at_its_deadline(toy: Toy, peer: Peer) -> None:
    """The server keeps it by itself, and gives up what was to be answered."""
    before, block = toy.abandoned, head("/toy/Hold", timeout="9m")
    peer.say(
        frame(Kind.HEADERS, END_HEADERS, 1, block), frame(Kind.DATA, END_STREAM, 1, framed(b""))
    )
    assert b"grpc-status\x014" in peer.next(Kind.HEADERS)[3]
    assert toy.abandoned == before + 1


def test_nothing_is_sent_beyond_a_window(toy: Toy) -> None:
    """A window of nothing holds an answer back, and each widening lets so much of it out."""
    peer = Peer(toy.port, PREFACE + settings({INITIAL_WINDOW_SIZE: 0}))
    with peer.socket:
        peer.say(call("/toy/Echo", b"0123456789"))
        peer.next(Kind.HEADERS)
        peer.say(frame(Kind.PING, 0, 0, bytes(8)))
        assert peer.next(Kind.PING, Kind.DATA)[0] == Kind.PING
        peer.say(window_update(1, 8))
        assert peer.next(Kind.DATA)[3] == framed(b"0123456789")[:8]
        peer.say(settings({INITIAL_WINDOW_SIZE: 3}))
        assert peer.next(Kind.DATA)[3] == framed(b"0123456789")[8:11]
        peer.say(settings({INITIAL_WINDOW_SIZE: 0}), window_update(1, 3))
        peer.say(frame(Kind.PING, 0, 0, bytes(8)))
        assert peer.next(Kind.PING, Kind.DATA)[0] == Kind.PING
        peer.say(window_update(1, 100))
        assert peer.answer() == framed(b"0123456789")[11:]


def test_streams_take_turns_when_the_connection_is_full(peer: Peer) -> None:
    """What one answer leaves of the connection's window is the other's."""
    size = 60_000
    for stream_id in (1, 3):
        peer.say(*_large(stream_id, size))
    peer.say(frame(Kind.PING, 0, 0, bytes(8)))
    sent = {1: 0, 3: 0}
    while (each := peer.next(Kind.DATA, Kind.PING))[0] == Kind.DATA:
        sent[each[2]] += len(each[3])
    assert sum(sent.values()) == 65_535
    peer.say(window_update(0, 2**20), window_update(1, 2**20), window_update(3, 2**20))
    while sum(sent.values()) < 2 * (size + 5):
        _, _, stream_id, content = peer.next(Kind.DATA)
        sent[stream_id] += len(content)
    assert sent == {1: size + 5, 3: size + 5}


def _large(stream_id: int, size: int) -> Iterator[bytes]:
    message = framed(bytes(size))
    yield frame(Kind.HEADERS, END_HEADERS, stream_id, head("/toy/Echo"))
    for place in range(0, len(message), 16_384):
        yield frame(Kind.DATA, 0, stream_id, message[place : place + 16_384])
    yield frame(Kind.DATA, END_STREAM, stream_id)


@pytest.mark.slow
def test_calls_that_are_reset_at_once_leave_nothing(toy: Toy, peer: Peer) -> None:
    """Thousands of them, faster than they could be answered."""
    before, count = toy.abandoned, 3000
    for stream_id in range(1, 2 * count, 2):
        peer.say(call("/toy/Hold", b"", stream_id=stream_id), reset(stream_id, Code.CANCEL))
    wait_for(lambda: toy.abandoned == before + count, "the resets")
    peer.say(call("/toy/Echo", b"still", stream_id=2 * count + 1))
    assert peer.answer(2 * count + 1) == framed(b"still")
    toy.call(toy.held.clear)


def test_streams_beyond_the_limit_are_refused(toy: Toy, peer: Peer) -> None:
    """REFUSED_STREAM tells the client that it may try again."""
    peer.say(*(call("/toy/Hold", b"", stream_id=2 * n + 1) for n in range(1001)))
    _, _, stream_id, content = peer.next(Kind.RST_STREAM)
    assert (stream_id, content) == (2001, number(Code.REFUSED_STREAM))
    toy.call(toy.held.clear)


class Pipe(Wire):
    """A wire that takes a limit, too."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.close()


def test_who_takes_nothing_is_not_read_from(toy: Toy) -> None:
    """So nobody can make us answer pings into memory."""

    async def run() -> None:
        connection, pipe = toy.server.connect(set()), Pipe()
        connection.connection_made(pipe)
        connection.data_received(HELLO)
        await asyncio.sleep(0)
        connection.pause_writing()
        assert not pipe.reading
        connection.resume_writing()
        assert pipe.reading
        connection.connection_lost(None)

    asyncio.run(run())


def test_who_says_nothing_is_cut_off(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a greeting is not kept; one that has greeted is."""
    monkeypatch.setattr("servers.http2.GREETING_S", 0.2)
    silent, polite = Peer(toy.port, b""), Peer(toy.port)
    with silent.socket, polite.socket:
        assert {kind for kind, *_ in silent.frames()} <= {Kind.SETTINGS, Kind.WINDOW_UPDATE}
        polite.say(call("/toy/Echo", b"still here"))
        assert polite.answer() == framed(b"still here")


@pytest.mark.slow
def test_no_bytes_break_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is changed in what a client says, the connection goes on or ends in order."""
    encoder = Encoder()
    calls = [
        frame(Kind.HEADERS, END_HEADERS, stream_id, head(path, encoder))
        + frame(Kind.DATA, END_STREAM, stream_id, framed(b"message"))
        for stream_id, path in ((1, "/toy/Echo"), (3, "/toy/Echoes"), (5, "/toy/Refuse"))
    ]
    said = HELLO + b"".join(calls) + window_update(0, 9) + frame(Kind.PING, 0, 0, bytes(8))
    server = Toy().server

    async def run(seed: int) -> bytes:
        chance = random.Random(seed)
        changed = bytearray(said)
        for _ in range(chance.randrange(4)):
            place = chance.randrange(len(PREFACE), len(changed))
            changed[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        connections: set[object] = set()
        connection, pipe = server.connect(connections), Pipe()
        connection.connection_made(pipe)
        for place in range(0, len(changed), step := chance.randrange(1, 200)):
            connection.data_received(bytes(changed[place : place + step]))
        await asyncio.sleep(0)
        connection.connection_lost(None)
        assert not connections
        return pipe.sent

    async def runs() -> None:
        ends = [await run(seed) for seed in range(1000)]
        assert sum(framed(b"message") in each for each in ends) > 100

    asyncio.run(runs())
    assert "Traceback" not in caplog.text
