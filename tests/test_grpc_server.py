"""gRPC's own client against a service of a few small methods."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import uvloop

from servers.grpc_server import AHEAD, GrpcServer, Method, Turn
from servers.grpc_wire import Refused, Status
from servers.http2 import MAX_STREAMS
from tests.test_model_server import wait_for

LIMIT = 30 * 2**20
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Toy:
    """A server in a thread of its own, and what it was asked."""

    def __init__(self) -> None:
        self.held: list[Turn] = []
        self.abandoned = 0
        self.messages = 0
        self.connections: set[Any] = set()
        methods = {
            b"/toy/Echo": Method(self.echo),
            b"/toy/Hold": Method(self.hold),
            b"/toy/Refuse": Method(self.refuse),
            b"/toy/Fail": Method(self.fail),
            b"/toy/Echoes": Method(self.echo, streams=True),
            b"/toy/Chooses": Method(self.choose, streams=True),
            b"/toy/Holds": Method(self.hold, streams=True),
        }
        self.server = GrpcServer(methods, LIMIT)
        self.loop = uvloop.new_event_loop()
        self.port = 0

    def echo(self, message: bytes, turn: Turn) -> None:
        self.messages += 1
        turn.send(message)

    def hold(self, _: bytes, turn: Turn) -> None:
        self.messages += 1
        turn.abandon = self.abandon
        self.held.append(turn)

    def choose(self, message: bytes, turn: Turn) -> None:
        {b"r": self.refuse, b"h": self.hold}.get(message[:1], self.echo)(message, turn)

    def abandon(self) -> None:
        self.abandoned += 1

    def refuse(self, message: bytes, _: Turn) -> None:
        raise Refused(Status.NOT_FOUND, message.decode("utf-8", "surrogateescape"))

    def fail(self, _: bytes, __: Turn) -> None:
        raise ValueError("on purpose")

    async def run(self, opened: threading.Event) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        serving = await self.loop.create_server(
            lambda: self.server.connect(self.connections), sock=listener
        )
        opened.set()
        self.over = asyncio.Event()
        await self.over.wait()
        serving.close()
        for connection in list(self.connections):
            connection.shutdown()
        self.release()
        async with asyncio.timeout(30):
            while self.connections:
                await asyncio.sleep(0.001)  # a poll with a deadline

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives in the loop's thread."""

        async def called() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(30)

    def release(self) -> None:
        """Answer all that is held, the last first."""
        held, self.held = self.held, []
        while held:
            held.pop().send(b"%d" % len(held))


@contextmanager
def toy_serving() -> Iterator[Toy]:
    toy, opened = Toy(), threading.Event()

    def run() -> None:
        toy.loop.run_until_complete(toy.run(opened))
        toy.loop.run_until_complete(toy.loop.shutdown_asyncgens())
        toy.loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert opened.wait(30)
    try:
        yield toy
    finally:
        toy.loop.call_soon_threadsafe(toy.over.set)
        thread.join(30)


@pytest.fixture
def toy() -> Iterator[Toy]:
    with toy_serving() as served:
        yield served


@pytest.fixture
def channel(toy: Toy) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{toy.port}", UNLIMITED) as opened:
        yield opened


def status(call: Any, message: Any, **how: Any) -> tuple[grpc.StatusCode, str]:
    """What a call that fails ends with."""
    with pytest.raises(grpc.RpcError) as failed:
        call(message, **how)
    return failed.value.code(), failed.value.details()


@pytest.mark.slow
def test_a_call_is_answered(channel: grpc.Channel) -> None:
    """An empty message, one that fills several frames, and one far over the windows, each way."""
    echo = channel.unary_unary("/toy/Echo")
    for message in (b"", b"x" * 100_000, bytes(range(256)) * 100_000):
        assert echo(message, timeout=30) == message


@pytest.mark.slow
def test_many_calls_at_once_are_answered_each(channel: grpc.Channel) -> None:
    """Those beyond the limit of a connection wait in the client, and large ones take turns."""
    echo = channel.unary_unary("/toy/Echo")
    futures = [echo.future(b"%d" % n, timeout=30) for n in range(MAX_STREAMS * 2)]
    large = [echo.future(b"%d" % n * 300_000, timeout=30) for n in range(10)]
    assert [future.result() for future in futures] == [b"%d" % n for n in range(MAX_STREAMS * 2)]
    assert [future.result() for future in large] == [b"%d" % n * 300_000 for n in range(10)]


def test_a_call_ends_with_its_status(channel: grpc.Channel) -> None:
    """Texts arrive as they were, what fails unforeseen is INTERNAL, the unknown UNIMPLEMENTED."""
    refuse, gone = channel.unary_unary("/toy/Refuse"), grpc.StatusCode.NOT_FOUND
    for text in ("100 % of «these» are gone\n", ""):
        assert status(refuse, text.encode()) == (gone, text)
    for data in (b"no text \xff", b"long" * 9999):
        code, text = status(refuse, data)
        assert code == gone
        assert text[:4] == data[:4].decode()
    assert status(channel.unary_unary("/toy/Fail"), b"")[0] == grpc.StatusCode.INTERNAL
    code, text = status(channel.unary_unary("/toy/Other"), b"x" * 2**22)
    assert (code, text) == (grpc.StatusCode.UNIMPLEMENTED, "There is no method '/toy/Other'.")
    many = channel.stream_unary("/toy/Echo")
    assert status(many, iter([b"1", b"2"]))[0] == grpc.StatusCode.UNIMPLEMENTED
    assert status(many, iter([]))[0] == grpc.StatusCode.UNIMPLEMENTED
    assert channel.unary_unary("/toy/Echo")(b"still") == b"still"


@pytest.mark.slow
@pytest.mark.parametrize("packed", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_packed_messages_are_read(channel: grpc.Channel, packed: grpc.Compression) -> None:
    """gzip and deflate, to the same limit as others: a small bomb does not go off."""
    echo = channel.unary_unary("/toy/Echo")
    assert echo(b"a" * 10_000, compression=packed) == b"a" * 10_000
    code, text = status(echo, bytes(LIMIT + 1), compression=packed, timeout=30)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "31,457,280" in text


def test_a_message_over_the_limit_is_refused_unread(toy: Toy, channel: grpc.Channel) -> None:
    """RESOURCE_EXHAUSTED, from the server or, for an answer, by the client's own limit."""
    echo = channel.unary_unary("/toy/Echo")
    code, text = status(echo, bytes(LIMIT + 1), timeout=30)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "31,457,281" in text
    with grpc.insecure_channel(f"127.0.0.1:{toy.port}") as careful:
        message = bytes(5 * 2**20)
        code, _ = status(careful.unary_unary("/toy/Echo"), message, timeout=30)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert echo(b"still") == b"still"


def test_a_call_that_nobody_waits_for_is_given_up(toy: Toy, channel: grpc.Channel) -> None:
    """An answer that comes later goes nowhere."""
    cancelled = channel.unary_unary("/toy/Hold").future(b"")
    wait_for(lambda: len(toy.held) == 1, "the call")
    cancelled.cancel()
    wait_for(lambda: toy.abandoned == 1, "the cancellation")
    toy.call(toy.release)
    assert channel.unary_unary("/toy/Echo")(b"still") == b"still"


def test_calls_of_a_client_that_is_gone_are_given_up(toy: Toy) -> None:
    """All of them."""
    with grpc.insecure_channel(f"127.0.0.1:{toy.port}") as channel:
        futures = [channel.unary_unary("/toy/Hold").future(b"") for _ in range(20)]
        wait_for(lambda: len(toy.held) == 20, "the calls")
    assert {future.code() for future in futures} == {grpc.StatusCode.CANCELLED}
    wait_for(lambda: toy.abandoned == 20 and not toy.connections, "their end")


def test_a_stream_is_answered_in_order(toy: Toy, channel: grpc.Channel) -> None:
    """However late the first answer is; and no more is taken than may be at work at once."""
    more = threading.Event()

    def messages() -> Iterator[bytes]:
        for _ in range(AHEAD * 2):
            yield b"x" * 1000
        more.wait(30)

    answers = channel.stream_stream("/toy/Holds")(messages(), timeout=30)
    wait_for(lambda: len(toy.held) == AHEAD, "the first messages")
    assert toy.messages == AHEAD
    toy.call(toy.release)
    assert [next(answers) for _ in range(AHEAD)] == [b"%d" % n for n in range(AHEAD)]
    wait_for(lambda: len(toy.held) == AHEAD, "the rest")
    toy.call(toy.release)
    more.set()
    assert len(list(answers)) == AHEAD
    assert answers.code() == grpc.StatusCode.OK


def test_a_refusal_ends_a_stream(toy: Toy, channel: grpc.Channel) -> None:
    """What was answered before it arrives, what is still at work is given up."""
    messages = [b"1" * 100_000, b"2" * 100_000, b"held", b"4", b"refused", b"6"]
    answers = channel.stream_stream("/toy/Chooses")(iter(messages), timeout=30)
    assert [next(answers), next(answers)] == messages[:2]
    with pytest.raises(grpc.RpcError):
        next(answers)
    assert (answers.code(), answers.details()) == (grpc.StatusCode.NOT_FOUND, "refused")
    assert toy.abandoned == 1
    assert channel.unary_unary("/toy/Echo")(b"still") == b"still"


def test_a_stream_that_is_not_read_is_not_taken(toy: Toy, channel: grpc.Channel) -> None:
    """The server takes no more messages than the client takes answers, and goes on with it."""
    size, count = 100_000, 200
    answers = channel.stream_stream("/toy/Echoes")(
        (b"%03d" % n + bytes(size) for n in range(count)), timeout=60
    )
    first = next(answers)
    assert channel.unary_unary("/toy/Echo")(b"another") == b"another"
    assert toy.messages < count
    assert [first[:3], *(each[:3] for each in answers)] == [b"%03d" % n for n in range(count)]


def test_a_server_that_stops_answers_what_it_has(toy: Toy, channel: grpc.Channel) -> None:
    """And the client opens no further call on that connection."""
    held = channel.unary_unary("/toy/Hold").future(b"")
    wait_for(lambda: len(toy.held) == 1, "the call")
    [connection] = toy.connections
    toy.call(connection.shutdown)
    echo = channel.unary_unary("/toy/Echo")
    wait_for(
        lambda: echo(b"new", wait_for_ready=True) == b"new" and len(toy.connections) == 2,
        "the client to hear of it",
    )
    toy.call(toy.release)
    assert held.result() == b"0"
    wait_for(lambda: connection not in toy.connections, "the end of the connection")


def test_pings_are_answered(toy: Toy) -> None:
    """A client that asks all the time whether we live is not sent away."""
    options = [
        ("grpc.keepalive_time_ms", 10),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(f"127.0.0.1:{toy.port}", options) as channel:
        held = channel.unary_unary("/toy/Hold").future(b"")
        wait_for(lambda: len(toy.held) == 1, "the call")
        assert status(channel.unary_unary("/toy/Hold"), b"", timeout=0.2)[0] == (
            grpc.StatusCode.DEADLINE_EXCEEDED
        )
        toy.call(toy.release)
        assert held.result() == b"0"
