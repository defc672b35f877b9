"""Connections to a container: kept, cut, timed, limited. The container is a script of bytes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from servers.channel import Call, Channel
from servers.client_connection import MAX_UNREAD_BYTES, Broken
from servers.wire import Answer
from tests.serving import eventually_async

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = Call("POST", "/invocations", {"content-type": "a/b"}, b"body")


class Script:
    """A container that answers each request with the bytes it was given, and then maybe closes."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.requests: list[bytes] = []
        self.connections = 0
        self.sent = 0
        self.tasks: list[asyncio.Task[None] | None] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                for at in range(0, len(answer), 2**18):
                    writer.write(answer[at : at + 2**18])
                    await writer.drain()
                    self.sent += len(answer[at : at + 2**18])
                if self.close:
                    break
            if not self.close:
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def end(self) -> None:
        """Wait until every connection has been closed, as its client did."""
        await asyncio.gather(*(task for task in self.tasks if task is not None))


def against(script_of: Callable[[], Script], steps: Callable[..., Awaitable[None]]) -> None:
    """Run ``steps(channel, script)`` against a listening script."""

    async def run() -> None:
        script = script_of()
        server = await asyncio.start_server(script, "127.0.0.1", 0)
        channel = Channel("127.0.0.1", server.sockets[0].getsockname()[1], 0.5)
        async with asyncio.timeout(20):
            await steps(channel, script)
        channel.close()
        server.close()
        await script.end()

    asyncio.run(run())


def test_a_connection_is_kept_and_one_taken_while_another_is_busy() -> None:
    """Two requests in turn use one; what is sent is the request and no more."""

    async def steps(channel: Channel, script: Script) -> None:
        for _ in range(2):
            answer = await channel.ask(POST, 100, 5.0)
            assert (answer.status, answer.body) == (200, b"ok")
        assert script.connections == 1
        assert script.requests[0].splitlines()[0] == b"POST /invocations HTTP/1.1"
        names = [line.split(b":")[0] for line in script.requests[0].splitlines()[1:-2]]
        assert names == [b"host", b"content-type", b"content-length"]
        await asyncio.gather(*(channel.ask(POST, 100, 5.0) for _ in range(3)))
        assert script.connections == 3

    against(lambda: Script(*[OK] * 5), steps)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
            b"abcde",
        ),
    ],
)
def test_every_framing_of_http_is_read(answer: bytes, body: bytes) -> None:
    """A length, chunks with trailers, none, or all until the connection ends."""

    async def steps(channel: Channel, _: Script) -> None:
        got = await channel.ask(POST, 100, 5.0)
        assert got.body == body
        assert "trailer" not in got.headers

    against(lambda: Script(answer, close=True), steps)


@pytest.mark.parametrize(
    ("answer", "words", "status"),
    [
        (b"", "closed the connection", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed the connection", 0),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nhalf", "closed the connection", 500),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP", 0),
        (b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "not HTTP/1.1", 0),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "exceed 65536 bytes", 0),
    ],
)
def test_what_is_no_whole_answer_is_broken(answer: bytes, words: str, status: int) -> None:
    """After the request had left; the status of an answer that had begun is told."""

    async def steps(channel: Channel, _: Script) -> None:
        with pytest.raises(Broken, match=words) as caught:
            await channel.ask(POST, 100, 5.0)
        assert caught.value.sent
        assert caught.value.status == status

    against(lambda: Script(answer, close=True), steps)


def test_a_refused_connection_is_broken_before_anything_was_sent() -> None:
    """So another instance may be asked."""

    async def run() -> None:
        server = await asyncio.start_server(Script(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        with pytest.raises(Broken) as caught:
            await Channel("127.0.0.1", port, 0.5).ask(POST, 100, 5.0)
        assert not caught.value.sent

    asyncio.run(run())


def test_what_is_under_way_when_the_channel_closes_is_broken() -> None:
    """Whoever waits is told at once, and not when the time-out ends."""

    async def steps(channel: Channel, script: Script) -> None:
        waiting = asyncio.create_task(channel.ask(POST, 100, 60.0))
        await eventually_async(lambda: len(script.requests) == 1)
        channel.close()
        with pytest.raises(Broken, match="were closed"):
            await asyncio.wait_for(waiting, 10)

    against(lambda: Script(b""), steps)


def test_an_answer_above_the_limit_is_cut_and_its_connection_dropped() -> None:
    """One byte more than allowed is kept: enough to know."""
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000

    async def steps(channel: Channel, script: Script) -> None:
        assert len((await channel.ask(POST, 100, 5.0)).body) == 101
        assert (await channel.ask(POST, 100, 5.0)).body == b"ok"
        assert script.connections == 2

    against(lambda: Script(long, OK), steps)


def test_a_time_out_and_a_cancellation_drop_the_connection() -> None:
    """The late answer can never be taken for that of the next request."""

    async def steps(channel: Channel, script: Script) -> None:
        with pytest.raises(TimeoutError):
            await channel.ask(POST, 100, 0.05)
        asked = asyncio.create_task(channel.ask(POST, 100, 5.0))
        while len(script.requests) < 2:
            await asyncio.sleep(0.001)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert (await channel.ask(POST, 100, 5.0)).body == b"ok"
        assert script.connections == 3

    against(lambda: Script(b"HTTP/1.1 200 ", b"", OK), steps)


@pytest.mark.slow
def test_a_stream_is_read_no_faster_than_it_is_taken() -> None:
    """A reader that waits holds back the container instead of filling the memory."""
    size = 40 * 2**20
    long = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)

    async def steps(channel: Channel, script: Script) -> None:
        stream = await channel.open(POST, 20.0)
        before = -1
        while script.sent != before:  # until the container can send no more
            before = script.sent
            await asyncio.sleep(0.05)
        assert script.sent < size / 2
        assert stream.unread_bytes < MAX_UNREAD_BYTES + 2**20
        assert sum([len(chunk) async for chunk in stream.chunks()]) == size
        assert (await channel.ask(POST, 100, 5.0)).body == b"ok"
        assert script.connections == 1

    against(lambda: Script(long, OK), steps)


def test_a_stream_that_is_given_up_ends_its_reader() -> None:
    """And leaves the connections of others alone."""

    async def steps(channel: Channel, script: Script) -> None:
        stream = await channel.open(POST, 20.0)
        reader = asyncio.create_task(stream.read(100))
        await asyncio.sleep(0)
        stream.abort()
        with pytest.raises(Broken, match="the caller has gone"):
            await reader
        whole = await channel.open(POST, 20.0)
        assert await whole.read(100) == b"ok"
        whole.abort()
        assert (await channel.ask(POST, 100, 5.0)).body == b"ok"
        assert script.connections == 2

    against(lambda: Script(OK[:-1], OK, OK), steps)


def test_a_header_that_would_break_the_request_is_not_sent() -> None:
    """A line break in a value could begin another request."""

    async def steps(channel: Channel, script: Script) -> None:
        with pytest.raises(ValueError, match="accept has characters"):
            await channel.ask(Call("GET", "/ping", {"accept": "a\r\nX: 1"}), 100, 5.0)
        assert script.requests == []

    against(lambda: Script(OK), steps)


class InOneGo(Script):
    """A container that answers what has come on a connection when all of it is there."""

    def __init__(self, wanted: int, *answers: bytes, ends: bool = False) -> None:
        super().__init__(*answers)
        self.wanted = wanted
        self.ends = ends

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            for _ in range(self.wanted):
                self.requests.append(await reader.readuntil(b"body"))
            writer.write(b"".join(self.answers))
            if not self.ends:
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def behind_one_another(channel: Channel, count: int) -> list["asyncio.Task[Answer]"]:
    """So many requests on one connection: the first one opens it."""
    channel.pipelined = True
    tasks = [asyncio.create_task(channel.ask(POST, 100, 5.0))]
    await eventually_async(lambda: channel.shared_waiting == 1)
    return tasks + [asyncio.create_task(channel.ask(POST, 100, 5.0)) for _ in range(count - 1)]


def test_requests_behind_one_another_get_each_its_answer() -> None:
    """On one connection, in their order, where the container says that it can."""

    async def steps(channel: Channel, script: Script) -> None:
        asked = await behind_one_another(channel, 5)
        answers = await asyncio.gather(*asked)
        assert [each.body for each in answers] == [b"0", b"1", b"2", b"3", b"4"]
        assert script.connections == 1

    against(lambda: InOneGo(5, *(answer(b"%d" % n) for n in range(5))), steps)


def test_one_that_is_given_up_costs_the_others_nothing() -> None:
    """Its answer is let go; later requests take another connection."""

    async def steps(channel: Channel, script: Script) -> None:
        asked = await behind_one_another(channel, 2)
        asked[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked[0]
        asked += [asyncio.create_task(channel.ask(POST, 100, 5.0)) for _ in range(2)]
        assert (await asked[1]).body == b"1"
        assert [(await each).body for each in asked[2:]] == [b"0", b"1"]
        assert script.connections == 2

    against(lambda: InOneGo(2, answer(b"0"), answer(b"1")), steps)


def test_a_long_answer_is_cut_and_those_behind_it_come() -> None:
    """The rest of it is read and let go."""
    long = answer(b"x" * 500_000)

    async def steps(channel: Channel, _: Script) -> None:
        first, second = await behind_one_another(channel, 2)
        assert len((await first).body) == 101
        assert (await second).body == b"ok"

    against(lambda: InOneGo(2, long, OK), steps)


def test_a_connection_that_ends_breaks_all_that_were_sent_on_it() -> None:
    """None of them is known not to have been done."""

    async def steps(channel: Channel, _: Script) -> None:
        asked = await behind_one_another(channel, 3)
        with pytest.raises(Broken) as first:
            await asked[0]
        outcomes = await asyncio.gather(*asked[1:], return_exceptions=True)
        assert first.value.sent
        assert all(isinstance(each, Broken) and each.sent for each in outcomes)

    against(
        lambda: InOneGo(3, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", ends=True), steps
    )


def test_what_is_behind_an_announced_end_was_not_done() -> None:
    """So it may be asked elsewhere."""

    async def steps(channel: Channel, _: Script) -> None:
        first, *others = await asyncio.gather(
            *await behind_one_another(channel, 3), return_exceptions=True
        )
        assert isinstance(first, Answer)
        assert [isinstance(each, Broken) and each.sent for each in others] == [False, False]

    last = OK.replace(b"Content", b"Connection: close\r\nContent")
    against(lambda: InOneGo(3, last), steps)
