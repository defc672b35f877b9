"""Posts over plain HTTP/1.1 on the event loop itself: tens of microseconds a request."""

import functools
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from bench.errors import ConfigError
from bench.workload import Workload
from scenarios.bodies import SMALL_BYTES, Bodies
from scenarios.connection import Address, Answered, Connection
from scenarios.deadlines import Deadlines
from scenarios.request import CONNECT_TIMEOUT_S, head

HELD_BYTES = 64 * 2**20
"""So much is kept ready in memory."""


class DirectClient:
    """Kept connections, the one used last first; as many as there are requests on their way."""

    def __init__(
        self, url: str, workload: Workload, bodies: Bodies, now: Callable[[], float]
    ) -> None:
        self.addresses = _addresses(url)
        self.now = now
        self._bodies = bodies
        self._head = functools.partial(head, url, workload)
        self._messages: dict[int, bytes] = {}
        self._held_bytes = 0
        self._idle: list[Connection] = []
        self._busy = Deadlines[Connection](
            workload.request_timeout_s, lambda connection: connection.fail("Timeout")
        )
        self._connecting = Deadlines[Connection](
            CONNECT_TIMEOUT_S, lambda connection: connection.fail("ConnectTimeout")
        )

    def send(self, index: int, answered: Answered) -> None:
        """Send body number ``index``; ``answered`` is called once, perhaps before this returns."""
        connection = self._take()
        self._busy.add(connection)
        message = self._messages.get(index)
        if message is not None:
            connection.post(message, answered)
        elif self._bodies.size(index) <= SMALL_BYTES:
            connection.post(self._message(index), answered)
        else:
            start = self._head(self._bodies.size(index))
            connection.post(start, answered, self._bodies.remainder(index))

    def close(self) -> None:
        """Let all connections go; what is on its way is forgotten."""
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._busy.close()
        self._connecting.close()

    def connected(self, connection: Connection) -> None:
        self._connecting.discard(connection)

    def settled(self, connection: Connection, reusable: bool) -> None:
        self._busy.discard(connection)
        if reusable:
            self._idle.append(connection)
        else:
            self._connecting.discard(connection)
            connection.close()

    def lost(self, connection: Connection) -> None:
        self._idle.remove(connection)
        connection.close()

    def _message(self, index: int) -> bytes:
        """Head and body in one, kept while there is room."""
        message = self._head(self._bodies.size(index)) + self._bodies.content(index)
        if self._held_bytes + len(message) <= HELD_BYTES:
            self._held_bytes += len(message)
            self._messages[index] = message
        return message

    def _take(self) -> Connection:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
            connection.close()
        connection = Connection(self)
        self._connecting.add(connection)
        return connection


def _addresses(url: str) -> list[Address]:
    """Where the host of ``url`` can be reached, in the system's order."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"The host {parts.hostname!r} cannot be found: {error}.") from error
    return [(family, address) for family, _, _, _, address in found]
