"""The compatible path: a greenlet a request, for any client that waits."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import gevent
import gevent.socket
from gevent.local import local
from gevent.pool import Pool

from bench.workload import Workload
from scenarios.bodies import Bodies, BodyReader
from scenarios.outcome import Outcome, error_code


@dataclass
class Call:
    """One request for a client that waits, and what it learns of the answer.

    ``first_byte`` is to be called when the answer begins.
    """

    index: int
    _bodies: Bodies
    _now: Callable[[], float]
    status: int = 200
    error: str = ""
    server_timing: str = ""
    response_bytes: int = 0
    first_byte_s: float = math.nan
    connect_s: float = math.nan
    sent_s: float = field(default=math.nan)

    def content(self) -> bytes:
        """The body whole."""
        return self._bodies.content(self.index)

    def body(self) -> bytes | BodyReader:
        """The body, as a file if it is a large one."""
        return self._bodies.body(self.index)

    def first_byte(self) -> None:
        """The answer begins now; only the first time counts."""
        if math.isnan(self.first_byte_s):
            self.first_byte_s = self._now()

    def refused(self, status: int, code: str = "") -> None:
        """The answer has this status, and the server's own ``code`` if it gave one."""
        self.status = status
        self.error = error_code(status, code)


class Caller(Protocol):
    """A way to make one request and wait for its answer."""

    def call(self, call: Call) -> None:
        """Make the request; what is raised becomes its outcome."""

    def close(self) -> None:
        """Let all connections go."""


_current = local()
"""The `Call` that each greenlet makes."""


def _time_connections() -> None:
    """Note what opening a connection took with the request that opened it.

    However a client opens one, in this process it is one of gevent's sockets that connects. Only
    gRPC has sockets of its own.
    """
    connect = gevent.socket.socket.connect

    def timed(self: Any, address: Any) -> Any:
        began_s = time.monotonic()
        found = connect(self, address)
        if (call := getattr(_current, "call", None)) is not None:
            call.connect_s = time.monotonic() - began_s
        return found

    gevent.socket.socket.connect = timed


_time_connections()


class GreenletClient:
    """Makes each request in a greenlet of its own. Failures are outcomes, never raised."""

    def __init__(
        self, caller: Caller, workload: Workload, bodies: Bodies, now: Callable[[], float]
    ) -> None:
        self._caller = caller
        self._bodies = bodies
        self._now = now
        self._timeout_s = workload.request_timeout_s
        self._pool = Pool()

    def send(self, index: int, answered: Callable[[Outcome], None]) -> None:
        """Send body number ``index``; ``answered`` is called once."""
        self._pool.spawn(self._carry_out, index, answered)

    def close(self) -> None:
        """Let all connections go; what is on its way is forgotten."""
        self._pool.kill(block=False)
        self._caller.close()

    def _carry_out(self, index: int, answered: Callable[[Outcome], None]) -> None:
        call = Call(index, self._bodies, self._now)
        _current.call = call
        call.sent_s = self._now()
        limit = gevent.Timeout(self._timeout_s)
        try:
            with limit:
                self._caller.call(call)
        except gevent.Timeout as error:
            # A client may have a limit of its own that is raised in the same way.
            call.refused(0, "Timeout" if error is limit else type(error).__name__)
        except Exception as error:  # noqa: BLE001  whatever broke is this request's outcome
            call.refused(0, call.error or type(error).__name__)
        answered(
            Outcome(
                self._now(),
                call.sent_s,
                call.first_byte_s,
                call.status,
                call.error,
                call.server_timing,
                call.response_bytes,
                call.connect_s,
            )
        )
