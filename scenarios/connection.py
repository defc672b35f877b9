"""One kept connection: a socket that the event loop watches, without a greenlet of its own."""

import errno
import os
import platform
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent import monkey

from scenarios.answer import Answer
from scenarios.bodies import Remainder
from scenarios.outcome import Outcome, error_code

_READ, _WRITE = 1, 2
_BUFFER = memoryview(bytearray(256 * 1024))
"""What is read is parsed at once, so one buffer does for all connections."""
_BUFFERS = [_BUFFER]
_NAN = float("nan")

_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, "CMSG_SPACE") else 0
_KERNEL_TIMES = sys.platform.startswith("linux") and platform.machine() in ("x86_64", "aarch64")

# Locust has replaced them by what belongs to greenlets.
_Socket: type[socket.socket] = monkey.get_original("socket", "socket")
_Poll: type[select.poll] = monkey.get_original("select", "poll")

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
Answered = Callable[[Outcome], None]


class Owner(Protocol):
    """Who has connections, and is told what becomes of them."""

    addresses: list[Address]
    """Where to connect to; what worked is first."""
    now: Callable[[], float]

    def connected(self, connection: "Connection") -> None: ...
    def settled(self, connection: "Connection", reusable: bool) -> None: ...
    def lost(self, connection: "Connection") -> None: ...


class Connection:
    """Carries one request at a time."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._now = owner.now
        self._addresses = list(owner.addresses)
        self._answer = Answer()
        self._answered: Answered | None = None
        self._left: bytes | memoryview = b""
        self._remainder: Remainder | None = None
        self._connected = False
        self._handles: tuple[Any, ...] = ()
        self._sent_s = self._first_byte_s = self._received_s = self._connect_s = _NAN
        self._heard = False

    def post(self, message: bytes, answered: Answered, remainder: Remainder | None = None) -> None:
        """Send ``message``, then ``remainder``; ``answered`` is called once, perhaps at once."""
        self._answered = answered
        self._left = message
        self._remainder = remainder
        self._connect_s = self._first_byte_s = _NAN
        self._heard = False
        self._answer.restart()
        self._sent_s = self._now()
        if self._connected:
            self._send()
        else:
            self._open()

    def usable(self) -> bool:
        """False when the server has closed this idle connection, also if nobody has looked yet."""
        return not self._news.poll(0)  # news is that it is closed, or says something unasked for

    def close(self) -> None:
        """Let the socket go; a request on its way is forgotten."""
        self._answered = self._remainder = None
        self._connected = False
        self._answer.close()
        self._close_socket()

    def fail(self, error: str) -> None:
        """End the request with ``error``, and the connection with it."""
        now_s = self._now()
        connect_s = self._connect_s
        self._settle(
            Outcome(now_s, self._sent_s, self._first_byte_s, error=error, connect_s=connect_s)
        )

    def _open(self) -> None:
        family, address = self._addresses.pop(0)
        try:
            self._socket = _Socket(family, socket.SOCK_STREAM)
        except OSError as error:  # such as too many open files
            self.fail(type(error).__name__)
            return
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _KERNEL_TIMES:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        loop = gevent.get_hub().loop
        self._reading = loop.io(self._socket.fileno(), _READ)
        self._writing = loop.io(self._socket.fileno(), _WRITE)
        self._handles = (self._reading, self._writing, self._socket)
        self._news = _Poll()
        self._news.register(self._socket, select.POLLIN)
        code = self._socket.connect_ex(address)
        if code == errno.EINPROGRESS:
            self._writing.start(self._connect_ended, (family, address))
        else:
            self._opened(code, (family, address))

    def _connect_ended(self, address: Address) -> None:
        self._writing.stop()
        self._opened(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), address)

    def _opened(self, code: int, address: Address) -> None:
        if code == 0:
            self._owner.addresses.remove(address)
            self._owner.addresses.insert(0, address)
            self._owner.connected(self)
            self._connect_s = self._now() - self._sent_s
            self._connected = True
            self._reading.start(self._readable)
            self._send()
        elif self._addresses:  # such as IPv4 after IPv6
            self._close_socket()
            self._open()
        else:
            self.fail(type(OSError(code, os.strerror(code))).__name__)

    def _send(self) -> None:
        try:
            if self._left:
                count = self._socket.send(self._left)
                # Nearly always all of it.
                self._left = memoryview(self._left)[count:] if count < len(self._left) else b""
            if self._remainder is not None and not self._left:
                self._remainder.send(self._socket.fileno())
        except BlockingIOError:
            pass
        except OSError:
            # An answer may have come before the request was whole; reading tells what happened.
            self._left, self._remainder = b"", None
            self._connected = False
        except EOFError:
            self.fail("PayloadChanged")
            return
        if self._left or (self._remainder is not None and not self._remainder.done):
            if not self._writing.active:
                self._writing.start(self._send)
        elif self._writing.active:
            self._writing.stop()

    def _readable(self) -> None:
        try:
            count = self._receive()
        except BlockingIOError:
            return
        except OSError as error:
            self._ended(type(error).__name__)
            return
        if self._answered is None:  # nobody awaits anything
            self._owner.lost(self)
        elif count == 0:
            self._answer.end()
            self._ended("IncompleteRead" if self._heard else "RemoteDisconnected")
        else:
            if not self._heard:
                self._heard = True
                self._first_byte_s = self._received_s
            answer = self._answer
            answer.feed(_BUFFER[:count])
            if answer.broken:
                self.fail("BadAnswer")
            elif answer.complete:
                self._succeed()

    def _ended(self, error: str) -> None:
        if self._answered is None:
            self._owner.lost(self)
        elif self._answer.complete:
            self._succeed()
        else:
            self.fail(error)

    def _receive(self) -> int:
        """Read into the buffer, and note when it came, as exactly as the system can tell."""
        if not _KERNEL_TIMES:
            count = self._socket.recv_into(_BUFFER)
            self._received_s = self._now()
            return count
        count, ancillary, _, _ = self._socket.recvmsg_into(_BUFFERS, _ANCILLARY_BYTES)
        # In this order a pause between the two makes an answer look later, never earlier.
        realtime_ns, now_s = time.time_ns(), self._now()
        for _, kind, data in ancillary:
            if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                ago_ns = realtime_ns - seconds * 1_000_000_000 - nanoseconds
                if ago_ns > 0:  # the wall clock may be set meanwhile
                    now_s -= ago_ns * 1e-9
        earliest_s = self._received_s if self._heard else self._sent_s
        # Time never runs backwards here.
        self._received_s = now_s if now_s > earliest_s else earliest_s
        return count

    def _succeed(self) -> None:
        answer, status = self._answer, self._answer.status
        self._settle(
            Outcome(
                self._received_s,
                self._sent_s,
                self._first_byte_s,
                status,
                error_code(status, answer.error_type) or answer.stream_error,
                answer.server_timing,
                answer.body_bytes,
                self._connect_s,
            )
        )

    def _settle(self, outcome: Outcome) -> None:
        answered, self._answered = self._answered, None
        # A request that was not sent whole leaves the connection in the middle of it.
        answer = self._answer
        reusable = answer.complete and answer.reusable and self._connected
        if self._left or (self._remainder is not None and not self._remainder.done):
            reusable = False
        self._owner.settled(self, reusable)
        assert answered is not None, "a request ends once"
        answered(outcome)

    def _close_socket(self) -> None:
        for handle in self._handles:
            handle.close()
        self._handles = ()
