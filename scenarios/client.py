"""One HTTP request, and what became of it."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import gevent
from geventhttpclient import HTTPClient

from bench.workload import Workload

CONNECT_TIMEOUT_S = 10.0

_DURATION = re.compile(r"([\w-]+);dur=([\d.]+)")
_INSTANCE = re.compile(r'instance;desc="([^"]*)"')


@dataclass(frozen=True)
class Outcome:
    """How a request ended. Times on the clock; ``timing`` in seconds, from Server-Timing."""

    done_s: float
    first_byte_s: float = math.nan
    status: int = 0
    error: str = ""
    instance: str = ""
    timing: dict[str, float] = field(default_factory=dict)
    response_bytes: int = 0


class Client:
    """Posts bodies to one address over kept connections."""

    def __init__(self, url: str, workload: Workload) -> None:
        self._path = urlsplit(url).path
        self._headers = {"Content-Type": workload.payload.content_type}
        if workload.payload.accept:
            self._headers["Accept"] = workload.payload.accept
        self._timeout_s = workload.request_timeout_s
        self._http = HTTPClient.from_url(
            url,
            concurrency=workload.max_in_flight,
            connection_timeout=CONNECT_TIMEOUT_S,
            network_timeout=workload.request_timeout_s,
        )

    def post(self, body: bytes, now: Callable[[], float]) -> Outcome:
        """Send ``body`` and read the answer. A failure is an outcome too: it is never raised."""
        first_byte_s = math.nan
        try:
            with gevent.Timeout(self._timeout_s):
                response = self._http.post(self._path, body, headers=self._headers)
                first_byte_s = now()
                content = response.read()
        except gevent.Timeout:
            return Outcome(now(), first_byte_s, error="Timeout")
        except Exception as error:  # noqa: BLE001  whatever broke is this request's outcome
            return Outcome(now(), first_byte_s, error=type(error).__name__)
        done_s = now()
        header = str(response.get("server-timing", ""))
        instance = _INSTANCE.search(header)
        return Outcome(
            done_s,
            first_byte_s,
            response.status_code,
            error=_error_code(response.status_code, str(response.get("x-amzn-errortype", ""))),
            instance=instance[1] if instance else "",
            timing={name: float(value) / 1000 for name, value in _DURATION.findall(header)},
            response_bytes=len(content),
        )


def _error_code(status: int, code: str) -> str:
    if 200 <= status < 300:
        return ""
    return code or f"HTTP {status}"
