"""What tests of the asynchronous option share: a store and clients for a running server."""

import contextlib
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from bench.deployment import Deployment, Endpoint
from bench.target import Async
from tests.serving import Serving, aws, eventually

BUCKET = "weighbridge-async"

MODEL = """
import os, time, json

def model_fn(model_dir):
    return None

def transform_stream_fn(model, stream, content_type, accept):
    head = stream.read(64)
    if head.startswith(b"sleep"):
        time.sleep(float(head[5:].split()[0]))
    if head == b"die":
        os._exit(3)
    if head == b"fail":
        refused = Exception("the model refuses")
        refused.status_code = 400
        raise refused
    def echo():
        yield head
        while piece := stream.read(1 << 20):
            yield piece
    return echo(), content_type or "application/octet-stream"
"""
"""Answers with what it is given, of any size, or does what it is told."""


def s3(server: Serving, more: Config | None = None) -> Any:
    """An unmodified boto3 client for the server's own store."""
    return aws("s3", f"{server.address}/s3", more)


def deployed(model: Path, target: Async, data: Path | None = None) -> Deployment:
    return Deployment(
        [Endpoint("later", target, str(model))],
        events=str(model.parent / "events.jsonl"),
        data=str(data) if data else None,
    )


def ask(server: Serving, body: bytes, **more: Any) -> dict[str, Any]:
    """Invoke with a small body; the whole answer."""
    with contextlib.closing(server.client()) as client:  # some tests ask a thousand times
        answer: dict[str, Any] = client.invoke_endpoint_async(
            EndpointName="later", Body=body, ContentType="text/plain", **more
        )
    return answer


def found(client: Any, uri: str) -> bytes | None:
    """The object's bytes; None while there is none."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    return body


def outcome(server: Serving, answer: dict[str, Any], within_s: float = 30.0) -> tuple[str, bytes]:
    """How the request ended: ``output`` or ``failure``, and the object's bytes. Never both."""
    client = s3(server)
    seen: dict[str, bytes] = {}

    def ended() -> bool:
        for kind in ("output", "failure"):
            body = found(client, answer[f"{kind.capitalize()}Location"])
            if body is not None:
                seen[kind] = body
        return bool(seen)

    eventually(ended, "the request has an outcome", within_s)
    assert len(seen) == 1, seen
    return seen.popitem()


def get(server: Serving, path: str) -> Any:
    with urllib.request.urlopen(f"{server.address}{path}", timeout=10) as answer:
        return json.load(answer)


def metric(server: Serving, name: str, kind: str = "sum") -> float:
    return float(get(server, "/endpoints/later/metrics")[name][kind])


def lines(path: Path) -> list[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in path.read_text().splitlines()]
    return []


class Nats:
    """A JetStream server of its own, which can be killed and started again where it was."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program = Path(sys.executable).parent / "nats-server"
        where = ("-sd", str(folder), "-a", "127.0.0.1", "-p", str(port))
        self._command = [str(program), "-js", *where]
        self._log = folder / "log"
        self.url = f"nats://127.0.0.1:{port}"

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stderr=log)
        eventually(lambda: b"Server is ready" in self._log.read_bytes(), "nats-server is up")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def nats_server(folder: Path) -> Iterator[Nats]:
    folder.mkdir(exist_ok=True)
    server = Nats(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
