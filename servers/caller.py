"""Calls of a container by a program that waits: with a deadline, tried again, or streamed."""

import http.client
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Protocol
from urllib.parse import urlsplit

from msgspec import Struct

MAX_ANSWER_BYTES = 256 << 20
"""Larger answers to one mini-batch are refused, so that a model cannot fill the memory."""
READ_BYTES = 1 << 20
RETRY_PAUSE_S = 0.05
SHOWN_CHARACTERS = 500


class Refused(Exception):
    """The container answered with an error; ``code`` is what the job's log shows."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Lost(Exception):
    """The container cannot be reached, or ended while it was at work."""


class CallOrder(Struct, frozen=True):
    """How the container is called."""

    url: str
    content_type: str | None = None
    accept: str | None = None
    timeout_s: float = 600.0
    retries: int = 3


class Caller(Protocol):
    """Calls the model. Several threads may."""

    def call(self, body: bytes) -> bytes:
        """The model's answer to one mini-batch; Refused or Lost when there is none."""

    def stream(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """The answer to a body of any length, in pieces."""

    def close(self) -> None: ...


class HttpCaller:
    """Calls the container over HTTP, a connection a thread."""

    def __init__(self, order: CallOrder) -> None:
        self._order = order
        self._parts = urlsplit(order.url)
        self._mine = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        given = {"Content-Type": order.content_type, "Accept": order.accept}
        self._headers = {name: value for name, value in given.items() if value}

    def call(self, body: bytes) -> bytes:
        failure: Refused | None = None
        for attempt in range(1 + self._order.retries):
            if attempt:
                time.sleep(RETRY_PAUSE_S * 2**attempt)
            try:
                return self._call(body)
            except Refused as error:
                if error.code.startswith("4"):
                    raise  # it would be refused again
                failure = error
        assert failure is not None
        raise failure

    def stream(self, body: Iterable[bytes]) -> Iterator[bytes]:
        connection = self._fresh()
        deadline = time.monotonic() + self._order.timeout_s
        try:
            self._connect(connection, deadline)
            headers = {**self._headers, "Transfer-Encoding": "chunked"}
            connection.request("POST", "/invocations", body, headers, encode_chunked=True)
            response = self._response(connection, deadline)
            while piece := self._read(connection, response, deadline):
                yield piece
        except TimeoutError:
            raise self._too_slow() from None
        except (OSError, http.client.HTTPException) as error:
            raise Lost(_why(error)) from error
        finally:
            connection.close()

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _call(self, body: bytes) -> bytes:
        deadline = time.monotonic() + self._order.timeout_s
        while True:
            connection: http.client.HTTPConnection | None = getattr(self._mine, "kept", None)
            reused = connection is not None
            connection = connection or self._fresh()
            self._mine.kept = None
            try:
                answer = self._exchange(connection, body, deadline)
                self._mine.kept = connection
                return answer
            except TimeoutError:
                connection.close()
                raise self._too_slow() from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not reused:  # a kept connection may have been closed while it was idle
                    raise Lost(_why(error)) from error

    def _exchange(
        self, connection: http.client.HTTPConnection, body: bytes, deadline: float
    ) -> bytes:
        self._connect(connection, deadline)
        connection.request("POST", "/invocations", body, self._headers)
        response = self._response(connection, deadline)
        pieces, size = [], 0
        while piece := self._read(connection, response, deadline):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                connection.close()
                raise Refused("413", f"the model's answer exceeds {MAX_ANSWER_BYTES:,} bytes")
        answer = b"".join(pieces)
        if not 200 <= response.status < 300:
            raise Refused(
                str(response.status), answer.decode("utf-8", "replace")[:SHOWN_CHARACTERS]
            )
        return answer

    def _connect(self, connection: http.client.HTTPConnection, deadline: float) -> None:
        if connection.sock is None:
            connection.timeout = _left_s(deadline)
            connection.connect()
        connection.sock.settimeout(_left_s(deadline))

    @staticmethod
    def _response(
        connection: http.client.HTTPConnection, deadline: float
    ) -> http.client.HTTPResponse:
        connection.sock.settimeout(_left_s(deadline))
        return connection.getresponse()

    @staticmethod
    def _read(
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        deadline: float,
    ) -> bytes:
        if connection.sock is not None:  # gone when the server closes after this answer
            connection.sock.settimeout(_left_s(deadline))
        return response.read(READ_BYTES)

    def _fresh(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._parts.netloc)
        self._all.append(connection)
        return connection

    def _too_slow(self) -> Refused:
        return Refused(
            "timeout",
            f"the model did not answer within InvocationsTimeoutInSeconds "
            f"({self._order.timeout_s:g} s)",
        )


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
