"""The servers' own HTTP connection, driven without a socket."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from servers.exchange import SMALL_BYTES, Exchange
from servers.http_connection import MAX_HEAD_BYTES, PIPELINED, HttpConnection

GET = b"GET /some%20path?a=1 HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /quick HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody"


class Wire(asyncio.Transport):
    """A transport that keeps each write."""

    def __init__(self) -> None:
        super().__init__({"peername": ("1.2.3.4", 5), "sockname": ("127.0.0.1", 80)})
        self.writes: list[bytes] = []
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        if not self.closed:
            self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def sent(self) -> bytes:
        return b"".join(self.writes)


class App:
    """Answers with what it was asked, or with ``pieces``; POST /quick by a plain call."""

    def __init__(self, pieces: list[bytes] | None = None, **how: Any) -> None:
        self.pieces = pieces
        self.headers: list[tuple[bytes, bytes]] = how.get("headers", [])
        self.direct: dict[bytes, Callable[[Exchange], None]] = {b"/quick": self.quick}
        self.seen: list[Any] = []

    def quick(self, exchange: Exchange) -> None:
        body = exchange.body()
        if body == b"fail":
            raise ValueError("on purpose")
        exchange.reply(200, b"quick " + body, b"content-type: text/plain\r\n")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            self.seen.append(message)
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.seen.append((scope["method"], scope["path"], scope["query_string"], body))
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        pieces = [body] if self.pieces is None else self.pieces
        for piece in pieces:
            if len(pieces) > 1:
                await asyncio.sleep(0.001)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def exchange(app: Any, *data: bytes, until: Callable[[Wire], Any]) -> Wire:
    """The wire after the connection got ``data``, piece by piece, and ``until`` came true."""

    async def run() -> Wire:
        config = uvicorn.Config(
            app, lifespan="off", interface="asgi3", proxy_headers=False, log_config=None
        )
        connection, wire = HttpConnection(config, ServerState(), {}), Wire()
        connection.connection_made(wire)
        for piece in data:
            connection.data_received(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while not until(wire):
                await asyncio.sleep(0.001)  # a poll with a deadline
        await asyncio.sleep(0)
        connection.connection_lost(None)
        for _ in range(3):
            await asyncio.sleep(0)
        return wire

    return asyncio.run(run())


def ended(wire: Wire) -> bool:
    return wire.sent.endswith(b"0\r\n\r\n")


def test_head_and_body_leave_together() -> None:
    """One write for both."""
    first, *_ = exchange(App([b"body"]), GET, until=ended).writes
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"4\r\nbody\r\n")


def test_a_head_waits_for_no_late_body() -> None:
    """One turn of the loop later it leaves alone."""
    first, second, *_ = exchange(App([b"one", b"two"]), GET, until=ended).writes
    assert first.endswith(b"\r\n\r\n")
    assert b"one" in second


def test_a_large_body_is_not_copied_behind_the_head() -> None:
    """It is written by itself."""
    size = b"%d" % (SMALL_BYTES + 1)
    app = App([b"x" * (SMALL_BYTES + 1)], headers=[(b"content-length", size)])
    wire = exchange(app, GET, until=lambda wire: len(wire.writes) == 2)
    assert wire.writes[1] == b"x" * (SMALL_BYTES + 1)


def test_the_application_sees_the_request() -> None:
    """Path decoded, query apart, a body that came in pieces and chunks."""
    app = App()
    head = b"POST /some%20path?a=1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    exchange(app, head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n", until=ended)
    assert app.seen[-1] == ("POST", "/some path", b"a=1", b"abcde")


def test_a_small_request_is_answered_by_a_call() -> None:
    """No task, one write, and a failure of it is a 500 that ends the connection."""
    wire = exchange(App(), POST, until=lambda wire: wire.writes)
    [answer] = wire.writes
    assert answer.endswith(b"content-length: 10\r\ncontent-type: text/plain\r\n\r\nquick body")
    wire = exchange(App(), POST.replace(b"body", b"fail"), until=lambda wire: wire.closed)
    assert wire.sent.startswith(b"HTTP/1.1 500 ")


def test_pipelined_requests_are_answered_in_order() -> None:
    """Calls and tasks alike, with the reading paused meanwhile."""
    wire = exchange(
        App([b"slow"]), GET + POST + GET + POST, until=lambda w: w.sent.count(b"quick") == 2
    )
    order = [
        b"quick" if b"quick" in part else b"slow" for part in wire.sent.split(b"HTTP/1.1 ")[1:]
    ]
    assert order == [b"slow", b"quick"] * 2
    assert wire.reading


@pytest.mark.parametrize("head", [b"connection: close\r\n", b"HTTP/1.0"])
def test_a_connection_that_is_to_end_ends(head: bytes) -> None:
    """After the whole answer."""
    request = (
        POST.replace(b"HTTP/1.1", head)
        if b"/" in head
        else POST.replace(b"content", head + b"content")
    )
    wire = exchange(App(), request, until=lambda wire: wire.closed)
    assert wire.sent.endswith(b"connection: close\r\n\r\nquick body")


def test_a_caller_that_waits_is_told_to_go_on() -> None:
    """100 Continue, once, when the application reads."""
    head = b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    wire = exchange(App(), head, b"", b"", b"ab", until=ended)
    assert wire.writes[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"2\r\nab\r\n" in wire.sent


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"nonsense\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\na: " + b"x" * MAX_HEAD_BYTES, b"431")],
)
def test_what_is_no_request_is_refused(data: bytes, status: bytes) -> None:
    """With a status, and the connection ends."""
    wire = exchange(App(), data, until=lambda wire: wire.closed)
    assert wire.sent.startswith(b"HTTP/1.1 " + status)


def test_a_header_that_would_end_its_line_is_not_sent() -> None:
    """The caller gets a 500, and nothing of it."""
    app = App([b"x"], headers=[(b"content-type", b"text/plain\r\nset-cookie: a=1")])
    wire = exchange(app, GET, until=lambda wire: wire.closed)
    assert wire.sent.startswith(b"HTTP/1.1 500 ")
    assert b"cookie" not in wire.sent


def test_a_large_request_is_read_no_faster_than_it_is_taken() -> None:
    """The reading pauses while an application does not ask, and goes on when it does."""
    paused: list[bool] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.01)
        paused.append(not wire_of[0].reading)
        await App()(scope, receive, send)

    wire_of: list[Wire] = []
    size = SMALL_BYTES + 10
    head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size

    def until(wire: Wire) -> bool:
        wire_of[:] = [wire]
        return ended(wire)

    wire = exchange(late, head + b"x" * size, until=until)
    assert paused == [True]
    assert wire.reading


def test_the_callers_end_is_told() -> None:
    """An application that reads on gets the disconnect."""
    app = App()
    exchange(app, POST[:-2].replace(b"quick", b"slow"), until=lambda _: app.seen)
    assert [message["type"] for message in app.seen] == ["http.request", "http.disconnect"]


def test_a_head_that_is_known_is_answered_alike() -> None:
    """The same request is answered the same again, also behind others and with another body."""
    app = App()
    other = POST.replace(b"body", b"more")
    odd = POST.replace(b"\r\ncontent", b"\r\nx-odd: 1\r\ncontent")
    wire = exchange(app, POST, other, odd, POST + other, other, until=lambda w: len(w.writes) >= 6)
    bodies = [answer.rsplit(b"\r\n\r\n", 1)[1] for answer in wire.sent.split(b"HTTP/1.1 ")[1:]]
    assert bodies == [b"quick body", b"quick more"] + [b"quick body"] * 2 + [b"quick more"] * 2


def test_a_known_head_with_another_length_is_read_as_it_is() -> None:
    """A body that comes later, in pieces or with the next request, belongs to its own request."""
    head, body = POST[:-4], b"body"
    pieces = [POST, head, body, head + body[:2], body[2:] + POST]
    wire = exchange(App(), *pieces, until=lambda w: w.sent.count(b"quick body") == 4)
    assert wire.sent.count(b"HTTP/1.1 200 OK") == 4


def test_bodies_do_not_count_as_heads() -> None:
    """However many bytes of earlier requests come with the beginning of a head."""
    large = POST.replace(b"content-length: 4", b"content-length: 30004") + b"x" * 30_000
    pieces = [large * 3 + large[:40], large[40:] + large[:9], large[9:60], large[60:] + POST]
    wire = exchange(App(), *pieces, until=lambda w: w.sent.count(b"HTTP/1.1 ") == 6)
    assert wire.sent.count(b"HTTP/1.1 200 OK") == 6
    assert not wire.closed


class Later(App):
    """Its calls are answered when the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Exchange] = []

    def quick(self, exchange: Exchange) -> None:
        self.asked.append(exchange)


def pipelined(
    app: Later,
    steps: Callable[[Wire], None],
    data: bytes,
    ends: Callable[[Wire], bool] = lambda _: True,
) -> Wire:
    """The wire after ``steps``, which see it with all of ``data`` read."""
    stepped: list[bool] = []

    def until(wire: Wire) -> bool:
        if not stepped:
            stepped.append(True)
            steps(wire)
            return False
        return ends(wire)

    return exchange(app, POST, data, until=until)


def answer(exchange: Exchange, name: bytes) -> None:
    exchange.reply(200, name, b"")


def test_small_requests_behind_one_another_are_worked_on_at_once() -> None:
    """Their answers keep the order, whichever is ready first, and leave together."""
    app = Later()

    def steps(wire: Wire) -> None:
        assert len(app.asked) == 4
        answer(app.asked[2], b"third")
        answer(app.asked[1], b"second")
        assert not wire.writes
        answer(app.asked[0], b"first")
        answer(app.asked[3], b"fourth")
        assert not wire.writes  # they leave at the end of this turn

    [sent] = pipelined(app, steps, POST * 3).writes
    bodies = [part.rsplit(b"\r\n\r\n", 1)[1] for part in sent.split(b"HTTP/1.1 ")[1:]]
    assert bodies == [b"first", b"second", b"third", b"fourth"]


def test_an_answer_that_becomes_long_holds_back_those_behind_it() -> None:
    """A call may give its request to an application: that one waits for its turn, too."""
    app = Later()

    async def long(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"long"})

    def steps(_: Wire) -> None:
        answer(app.asked[2], b"third")
        app.asked[1].start(long)
        answer(app.asked[0], b"first")

    sent = pipelined(app, steps, POST * 2, lambda wire: b"third" in wire.sent).sent
    assert sent.startswith(b"HTTP/1.1 200 OK")
    assert sent.index(b"first") < sent.index(b"long") < sent.index(b"third")


def test_nothing_is_begun_behind_a_request_that_ends_the_connection() -> None:
    """What comes after a last request is not answered."""
    app = Later()
    last = POST.replace(b"content-length", b"connection: close\r\ncontent-length")

    def steps(wire: Wire) -> None:
        assert len(app.asked) == 2
        for each in app.asked:
            answer(each, b"done")
        assert wire.closed

    assert pipelined(app, steps, last + POST).sent.count(b"done") == 2


def test_no_more_is_read_while_many_wait() -> None:
    """What one connection may hold has a limit."""
    app = Later()

    def steps(wire: Wire) -> None:
        assert not wire.reading
        for each in app.asked:
            answer(each, b"done")
        assert wire.reading

    pipelined(app, steps, POST * PIPELINED)


def test_a_failure_does_not_end_the_connection_of_those_behind_it() -> None:
    """They have been begun, and whoever reads of an end takes them for not done."""
    app = Later()

    def broken(_: Exchange) -> None:
        raise ValueError("on purpose")

    def steps(_: Wire) -> None:
        answer(app.asked[0], b"first")
        app.asked[1].answer(broken)
        answer(app.asked[2], b"third")

    wire = pipelined(app, steps, POST * 2)
    assert [part[:3] for part in wire.sent.split(b"HTTP/1.1 ")[1:]] == [b"200", b"500", b"200"]
    assert b"connection: close" not in wire.sent
    assert not wire.closed
