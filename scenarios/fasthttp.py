"""Locust's FastHttpSession as a client: keep-alive, TLS, and whatever geventhttpclient can do."""

from locust.contrib.fasthttp import FastHttpSession
from locust.event import EventHook

from typing import Any

from bench.clients import FastHttp
from bench.workload import Workload
from scenarios.compatible import Call
from scenarios.eventstream import CONTENT_TYPE, Frames
from scenarios.request import CONNECT_TIMEOUT_S, address_for, headers

CHUNK_BYTES = 64 * 1024


class FastHttpCaller:
    """One session for all requests, with as many connections as there may be requests."""

    def __init__(self, kind: FastHttp, url: str, workload: Workload) -> None:
        self._url = address_for(url, kind.stream)
        # Without it Locust would ask for a packed answer, which our own client does not.
        self._headers = {**headers(workload), "Accept-Encoding": "identity"}
        self._session = FastHttpSession(
            base_url=None,
            request_event=EventHook(),  # type: ignore[no-untyped-call]  # Locust is told by the recorder, once
            user=None,
            insecure=not kind.verify,
            max_retries=1,  # it means one attempt: no request is sent twice
            max_redirects=0,
            concurrency=workload.max_in_flight,
            connection_timeout=CONNECT_TIMEOUT_S,
            network_timeout=workload.request_timeout_s,
        )

    def call(self, call: Call) -> None:
        """Post and read the answer, which may come in parts."""
        body: Any = call.body()  # bytes or a file, whatever Locust's types say
        response: Any = self._session.post(
            self._url, data=body, headers=self._headers, stream=True, allow_redirects=False
        )
        if response.status_code == 0:
            raise response.error
        call.first_byte()
        given = response.headers
        call.server_timing = str(given.get("server-timing", ""))
        frames = Frames() if str(given.get("content-type", "")).startswith(CONTENT_TYPE) else None
        for piece in response.iter_content(CHUNK_BYTES, decode_content=False):
            call.response_bytes += len(piece)
            if frames is not None:
                frames.feed(piece)
        call.refused(response.status_code, str(given.get("x-amzn-errortype", "")))
        if frames is not None:
            frames.end()
            call.error = call.error or frames.error

    def close(self) -> None:
        """Let all connections go."""
        self._session.client.close()
