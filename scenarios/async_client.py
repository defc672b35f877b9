"""Asynchronous requests: uploads the input, invokes, and is told when the result is there.

The server tells of each finished request on one connection that stays open, so waiting costs
neither side anything: a caller with a subscription to the endpoint's topics does the same.
"""

import http.client
import io
import json
import select
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import gevent
from gevent import monkey

from bench.errors import ConfigError
from bench.workload import Workload
from scenarios.outcome import Outcome, error_code
from scenarios.request import CONNECT_TIMEOUT_S, headers

SUFFIX = "/async-invocations"
"""How the address of such an endpoint's API ends."""
BUCKET = "weighbridge-async"
BLOCK_BYTES = 1 << 18
"""So much of a large body is read from the disk at once."""
KEEP_S = 60.0
"""A connection at rest is kept for less time than the server keeps it."""
_PREFIX = "X-Amzn-SageMaker-"

# Locust has replaced it by one that waits for the event loop.
_Poll = monkey.get_original("select", "poll")

Answered = Callable[[Outcome], None]


class Body(Protocol):
    """A file with a length."""

    def __len__(self) -> int: ...
    def read(self, size: int = -1, /) -> bytes | None: ...


class Refused(Exception):
    """The answer to a part of a request: its status and error code."""


class AsyncClient:
    """Sends bodies to one endpoint; a request is over when its result can be fetched."""

    def __init__(
        self,
        url: str,
        workload: Workload,
        open_body: Callable[[int], bytes | Body],
        now: Callable[[], float],
        put: Callable[[bytes | Body, str], str] | None = None,
    ) -> None:
        """``put`` stores an input elsewhere than at the server, and tells its address."""
        parts = urlsplit(url)
        self._host, self._path = parts.netloc, parts.path
        self._open_body = open_body
        self._now = now
        self._put = put or self._put_here
        self._timeout_s = workload.request_timeout_s
        self._content = headers(workload)
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        """Connections at rest, the longest first, and since when."""
        self._waiting: dict[str, tuple[Answered, float, float]] = {}
        """By inference id: whom to tell, when it was sent, what the upload took."""
        self._closed = False
        self._events = self._listen()
        self._listener = gevent.spawn(self._hear)

    def send(self, index: int, answered: Answered) -> None:
        """Send body number ``index``; ``answered`` is called once."""
        gevent.spawn(self._send, index, answered)

    def close(self) -> None:
        """Let all connections go; what is on its way is forgotten."""
        self._closed = True
        self._waiting.clear()
        self._listener.kill()  # gone before its connection is: it may be reading
        for connection, _ in self._idle:
            connection.close()
        self._events[0].close()

    def _send(self, index: int, answered: Answered) -> None:
        name, sent_s = str(uuid.uuid4()), self._now()
        try:
            location = self._put(self._open_body(index), name)
            upload_s = self._now() - sent_s
            self._waiting[name] = (answered, sent_s, upload_s)
            status, error = self._invoke(name, location)
        except Refused as refused:
            status, error = refused.args
        except Exception as failure:  # noqa: BLE001  whatever broke is this request's outcome
            status, error = 0, type(failure).__name__
        if error:
            self._waiting.pop(name, None)
            answered(Outcome(self._now(), sent_s, status=status, error=error))

    def _put_here(self, body: bytes | Body, name: str) -> str:
        """Put the input into the server's own store; its address."""
        length = {"Content-Length": str(len(body)), "Content-Type": self._content["Content-Type"]}
        status, error = self._ask("PUT", f"/s3/{BUCKET}/input/{name}", body, length)
        if error:
            raise Refused(status, error)
        return f"s3://{BUCKET}/input/{name}"

    def _invoke(self, name: str, location: str) -> tuple[int, str]:
        fields = {f"{_PREFIX}{key}": value for key, value in self._content.items()}
        fields[f"{_PREFIX}InputLocation"] = location
        fields[f"{_PREFIX}Inference-Id"] = name
        return self._ask("POST", self._path, b"", fields)

    def _ask(
        self, method: str, path: str, body: bytes | Body, fields: dict[str, str]
    ) -> tuple[int, str]:
        """Status and error code of one exchange over a kept connection."""
        connection = self._kept() or self._connection(self._timeout_s)
        try:
            connection.request(method, path, body, fields)  # type: ignore[arg-type]
            answer = connection.getresponse()
            answer.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append((connection, time.monotonic()))
        return answer.status, error_code(answer.status, answer.headers.get("x-amzn-errortype", ""))

    def _kept(self) -> http.client.HTTPConnection | None:
        """The connection used last, if the server still keeps it; others that are old are closed.

        A request over one that is about to end would fail for no fault of the server's.
        """
        oldest_s = time.monotonic() - KEEP_S
        while self._idle and self._idle[0][1] < oldest_s:
            self._idle.pop(0)[0].close()
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.sock is not None and not ended(connection.sock):
                return connection
            connection.close()
        return None

    def _connection(self, timeout_s: float | None) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(
            self._host, timeout=CONNECT_TIMEOUT_S, blocksize=BLOCK_BYTES
        )
        connection.connect()
        connection.sock.settimeout(timeout_s)
        return connection

    def _listen(self) -> tuple[http.client.HTTPConnection, io.BufferedIOBase]:
        """The line on which the server tells of finished requests."""
        path = self._path.removesuffix(SUFFIX) + "/notifications"
        try:
            connection = self._connection(None)
            connection.request("GET", path)
            answer = connection.getresponse()
        except OSError as error:
            raise ConfigError(f"{self._host} cannot be reached: {error}.") from error
        if answer.status != 200:
            raise ConfigError(f"{path} answers {answer.status}: it is no asynchronous endpoint.")
        answer.readline()  # from now on it tells everything
        return connection, answer

    def _hear(self) -> None:
        try:
            while line := self._events[1].readline():
                self._finished(json.loads(line), self._now())
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            pass  # the connection is gone, as if it had ended
        if not self._closed:
            for answered, sent_s, upload_s in list(self._waiting.values()):
                lost = Outcome(self._now(), sent_s, error="RemoteDisconnected", upload_s=upload_s)
                answered(lost)
            self._waiting.clear()

    def _finished(self, told: dict[str, Any], now_s: float) -> None:
        found = self._waiting.pop(told["inferenceId"], None)
        if found is None:  # another caller's
            return
        answered, sent_s, upload_s = found
        timing, size = told["timing"], told["bytes"]
        status, error = told["status"], told["error"]
        answered(Outcome(now_s, sent_s, now_s, status, error, timing, size, upload_s=upload_s))


def ended(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection at rest: nothing else could be readable."""
    poll = _Poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
