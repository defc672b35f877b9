"""Posts bodies to one address and calls back with what became of each."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import gevent
from geventhttpclient import HTTPClient

from bench.workload import Workload
from scenarios.direct import DirectClient
from scenarios.outcome import Outcome, error_code
from scenarios.request import CONNECT_TIMEOUT_S, headers, target


class Client(Protocol):
    """Sends the bodies it was made with."""

    def send(self, index: int, answered: Callable[[Outcome], None]) -> None:
        """Send body number ``index``; ``answered`` is called once, perhaps before this returns."""

    def close(self) -> None:
        """Let all connections go; what is on its way is forgotten."""


def open_client(
    url: str, workload: Workload, bodies: Sequence[bytes], now: Callable[[], float]
) -> Client:
    """The most exact client that there is for this address."""
    make = DirectClient if urlsplit(url).scheme == "http" else GreenletClient
    return make(url, workload, bodies, now)


class GreenletClient:
    """A greenlet a request, for what needs TLS."""

    def __init__(
        self, url: str, workload: Workload, bodies: Sequence[bytes], now: Callable[[], float]
    ) -> None:
        self._target = target(url)
        self._bodies = bodies
        self._now = now
        self._headers = headers(workload)
        self._timeout_s = workload.request_timeout_s
        self._http = HTTPClient.from_url(
            url,
            concurrency=workload.max_in_flight,
            connection_timeout=CONNECT_TIMEOUT_S,
            network_timeout=workload.request_timeout_s,
        )

    def send(self, index: int, answered: Callable[[Outcome], None]) -> None:
        gevent.spawn(lambda: answered(self._post(self._bodies[index])))

    def close(self) -> None:
        self._http.close()

    def _post(self, body: bytes) -> Outcome:
        """Send ``body`` and read the answer. A failure is an outcome too: it is never raised."""
        now, sent_s, first_byte_s = self._now, self._now(), math.nan
        try:
            with gevent.Timeout(self._timeout_s):
                response = self._http.post(self._target, body, headers=self._headers)
                first_byte_s = now()
                content = response.read()
        except gevent.Timeout:
            return Outcome(now(), sent_s, first_byte_s, error="Timeout")
        except Exception as error:  # noqa: BLE001  whatever broke is this request's outcome
            return Outcome(now(), sent_s, first_byte_s, error=type(error).__name__)
        return Outcome(
            now(),
            sent_s,
            first_byte_s,
            response.status_code,
            error_code(response.status_code, str(response.get("x-amzn-errortype", ""))),
            str(response.get("server-timing", "")),
            len(content),
        )
