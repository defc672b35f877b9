"""Calls of gRPC, answered in the event loop: a message each way, or a stream of them."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, MutableSet
from dataclasses import dataclass
from typing import Any

from servers.grpc_wire import (
    BEGIN,
    END,
    NOT_GRPC,
    OPENING,
    Head,
    Held,
    Inbox,
    Refused,
    Status,
    failure,
    framed,
    read_head,
)
from servers.header_blocks import Fields, written
from servers.http2 import Connection
from servers.http2_stream import Stream

AHEAD = 64
"""Most messages of one stream that are at work at once."""

log = logging.getLogger(__name__)


class Turn:
    """Takes the answer to one message, at any time in the loop."""

    __slots__ = ("_call", "abandon", "answer")

    def __init__(self, call: "GrpcCall") -> None:
        self.answer: bytes | None = None
        self.abandon: Callable[[], None] | None = None
        """What is called when nobody waits for the answer any more."""
        self._call = call

    def send(self, message: bytes) -> None:
        self.answer = framed(message)
        self.abandon = None
        self._call.answered()

    def fail(self, status: Status, text: str) -> None:
        """End the call, whatever else it is to be answered."""
        self.abandon = None
        self._call.fail(status, text)

    def attempt(self, answer: Callable[..., None], *arguments: Any) -> None:
        """Call what is to answer; what it raises ends the call, `Refused` with its status."""
        try:
            answer(*arguments)
        except Refused as refused:
            self.fail(refused.status, str(refused))
        except Exception:
            log.exception("the answer to a call failed")
            self.fail(Status.INTERNAL, "The answer failed; the server's log says why.")


Handler = Callable[[bytes, Turn], None]
"""Answers a message, now or later."""


@dataclass(frozen=True)
class Method:
    """How calls are answered; one that streams takes many messages and answers each, in order."""

    handler: Handler
    streams: bool = False


class GrpcCall:
    """One call, as `servers.http2_stream.Call`."""

    __slots__ = (
        "_begun",
        "_inbox",
        "_messages",
        "_method",
        "_over",
        "_stream",
        "_taking",
        "_timer",
        "_turns",
        "_whole",
    )

    def __init__(self, stream: Stream, method: Method, inbox: Inbox) -> None:
        self._stream = stream
        self._method = method
        self._inbox = inbox
        self._messages: deque[bytes] = deque()
        self._turns: deque[Turn] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False
        self._whole = False
        self._taking = False
        self._over = False

    def expire_after(self, timeout_s: float) -> None:
        """End the call with DEADLINE_EXCEEDED if it has not ended by then."""
        text = "The call's own deadline has passed."
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(timeout_s, self.fail, Status.DEADLINE_EXCEEDED, text)

    def received(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._messages.extend(self._inbox.feed(data))
        except Refused as refused:
            self.fail(refused.status, str(refused))
            return
        if self._method.streams:
            self._take()
        elif len(self._messages) > 1:
            self.fail(Status.UNIMPLEMENTED, "The method takes one message; there are more.")
        else:
            self._stream.grant()

    def ended(self) -> None:
        if self._over:
            return
        self._whole = True
        if self._inbox.partial:
            self.fail(Status.INTERNAL, "The last message is cut off.")
        elif not self._method.streams and not self._messages:
            self.fail(Status.UNIMPLEMENTED, "The method takes one message; there is none.")
        else:
            self._take()

    def drained(self) -> None:
        self._take()

    def cancelled(self) -> None:
        if not self._over:
            self._close()

    def _close(self) -> Stream:
        """Take and give no more, and tell whoever works on an answer; what ends the stream is left.

        The stream is let go, so that neither keeps the other once it has ended, too.
        """
        self._over = True
        stream = self._stream
        del self._stream
        self._inbox.drop()
        self._messages.clear()
        if self._timer is not None:
            self._timer.cancel()
        turns, self._turns = self._turns, deque()
        for turn in turns:
            if turn.abandon is not None:
                turn.abandon()
        return stream

    def answered(self) -> None:
        """One of the turns has its answer: send those whose time has come."""
        if self._over:
            return
        turns = self._turns
        if not self._method.streams:
            answer = turns.popleft().answer
            assert answer is not None
            self._close().respond(BEGIN, answer, END)
            return
        while not self._over and turns and (answer := turns[0].answer) is not None:
            turns.popleft()
            self._begin()
            self._stream.send(answer)
        self._take()

    def fail(self, status: Status, text: str) -> None:
        """End the call; what it was sent before stands."""
        if not self._over:
            self._end(written([*(() if self._begun else OPENING), *failure(status, text)]))

    def refuse(self, head: bytes) -> None:
        """Answer what is no call of gRPC."""
        self._end(head)

    def _take(self) -> None:
        """Let the next messages be answered, unless enough are at work or answers pile up."""
        if self._taking or self._over:
            return
        self._taking = True
        turns, messages = self._turns, self._messages
        while messages and len(turns) < AHEAD and not self._stream.unsent:
            turn = Turn(self)
            turns.append(turn)
            turn.attempt(self._method.handler, messages.popleft(), turn)
        self._taking = False
        if self._over or messages:
            return
        if not self._whole:
            self._stream.grant()
        elif not turns:
            self._begin()
            self._end(END)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._stream.begin(BEGIN)

    def _end(self, fields: bytes) -> None:
        self._close().finish(fields)


class GrpcServer:
    """The `servers.http2.Application` of a service: its methods by their paths."""

    def __init__(self, methods: Mapping[bytes, Method], max_message_bytes: int) -> None:
        self._methods = methods
        self._limit = max_message_bytes
        self._held = Held()

    def connect(self, connections: MutableSet[Any]) -> Connection:
        """What asyncio's create_server wants for each connection."""
        return Connection(self, connections)

    def describe(self, fields: Fields) -> Head | None:
        return read_head(fields)

    def open(self, stream: Stream, head: Head) -> GrpcCall:
        inbox = Inbox(head.encoding, self._limit, self._held)
        method = self._methods.get(head.path, _UNKNOWN)
        call = GrpcCall(stream, method, inbox)
        if not head.is_grpc:
            call.refuse(NOT_GRPC)
        elif method is _UNKNOWN:
            path = head.path.decode("latin-1")
            call.fail(Status.UNIMPLEMENTED, f"There is no method {path!r}.")
        elif head.timeout_s is not None:
            call.expire_after(head.timeout_s)
        return call


_UNKNOWN = Method(lambda *_: None)
