"""Streams of events: their errors, found by our own reader and by boto3 alike."""

import binascii
import http.server
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenarios.eventstream import CONTENT_TYPE, Frames
from tests.loading import load, sets


def frame(payload: bytes, **headers: str) -> bytes:
    """One frame of application/vnd.amazon.eventstream."""
    packed = b"".join(
        bytes([len(name) + 1])
        + b":"
        + name.replace("_", "-").encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    whole = prelude + packed + payload
    return whole + struct.pack(">I", binascii.crc32(whole))


PART = frame(b"hello", message_type="event", event_type="PayloadPart")
FAILURE = frame(
    b'{"Message": "the model broke", "ErrorCode": "ModelInvocationTimeExceeded"}',
    message_type="exception",
    exception_type="ModelStreamError",
)


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", ""),
        (PART * 3, ""),
        (PART + FAILURE + PART, "ModelStreamError"),
        (frame(b"", message_type="error", error_code="Oops"), "Oops"),
        (PART[:-1], "BadStream"),
        (b"\xff" * 20, "BadStream"),
        (struct.pack(">III", 17, 1, 0) + b"\x09" + bytes(4), "BadStream"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_first_error_of_a_stream_is_found(stream: bytes, error: str, step: int) -> None:
    """However the bytes come; and what is no stream of events is an error itself."""
    frames = Frames()
    for at in range(0, len(stream), step):
        frames.feed(stream[at : at + step])
    frames.end()
    assert frames.error == error


class Streaming(http.server.BaseHTTPRequestHandler):
    """Answers in three parts with pauses; a body with the word bad has an error at the end."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/endpoints/echo/invocations-response-stream"
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (PART, PART, FAILURE if b"bad" in body else PART):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: Any) -> None: ...


@contextmanager
def streaming() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Streaming) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["direct", "fasthttp", "boto3"])
def test_a_stream_has_its_first_byte_and_its_error(tmp_path: Path, kind: str) -> None:
    """The first part comes long before the last, and a status of 200 hides no failure."""
    options = sets(
        *("duration_s=1", 'arrivals={kind="constant", rate_rps=10}'),
        f'client={{kind="{kind}", stream=true}}',
    )
    with streaming() as address:
        records = load(address, tmp_path, ["good", "bad"], "--endpoint", "echo", *options)
    assert set(records["status"]) == {200}
    assert set(records["error"][::2]) == {b""}
    assert set(records["error"][1::2]) == {b"ModelStreamError"}
    assert (records["done_s"] - records["first_byte_s"]).min() >= 0.09
    assert np.isfinite(records["first_byte_s"]).all()
    assert set(records["response_bytes"][::2]) <= {3 * len(PART), len(b"hello") * 3}
