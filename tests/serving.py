"""Servers for tests: the real process on a free port, and the real client for it."""

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config

from bench.children import Child, start_servers, wait_for_servers
from bench.deployment import Deployment

ECHO = """
import os, time

def model_fn(model_dir):
    return {"pid": os.getpid()}

def predict_fn(data, model):
    if isinstance(data, dict) and "sleep_s" in data:
        time.sleep(data["sleep_s"])
    if isinstance(data, dict) and "allocate_mb" in data:
        return len(bytearray(data["allocate_mb"] * 2**20))
    if isinstance(data, dict) and "answer_mb" in data:
        return "x" * (data["answer_mb"] * 2**20)
    if data == "fail":
        raise RuntimeError("the model broke")
    if data == "die":
        os._exit(3)
    return data

def input_fn(body, content_type, context=None):
    import json
    try:
        return json.loads(body)
    except ValueError as error:
        refused = Exception("this is not JSON")
        refused.status_code = 400
        raise refused from error
"""
"""A model that answers with what it is given, or does what it is told."""


_open: list[Callable[[], None]] = []


def aws(service: str, address: str, more: Config | None = None) -> Any:
    """An unmodified boto3 client that does not try again; its connections end with the test."""
    client: Any = boto3.client(
        service,
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=70).merge(more or Config()),
    )
    _open.append(client.close)
    # An answer whose body nobody reads keeps its connection, which the client then forgets.
    client.meta.events.register("after-call", _note_answer)
    return client


def _note_answer(http_response: Any, **_: Any) -> None:
    _open.append(http_response.raw.close)


def close_clients() -> None:
    """Close the connections of all clients so far; one that is used again opens new ones."""
    while _open:
        _open.pop()()


@dataclass(frozen=True)
class Serving:
    """A running server process."""

    address: str
    ready: dict[str, Any]
    child: Child

    def client(self, service: str = "sagemaker-runtime", path: str = "") -> Any:
        """An unmodified boto3 client of the service."""
        return aws(service, self.address + path)

    def status(self) -> dict[str, dict[str, int]]:
        """What ``GET /status`` tells."""
        with urllib.request.urlopen(f"{self.address}/status", timeout=10) as answer:
            status: dict[str, dict[str, int]] = json.load(answer)
            return status

    def instances(self) -> list[psutil.Process]:
        """The processes of the model servers."""
        return psutil.Process(self.child.pid).children()


@contextlib.contextmanager
def serving(deployment: Deployment, folder: Path) -> Iterator[Serving]:
    """Run the deployment until the block ends."""
    folder.mkdir(exist_ok=True)
    child = start_servers(deployment, folder)
    try:
        ready = wait_for_servers(child)
        yield Serving(ready["address"], ready, child)
    finally:
        child.stop()


def eventually(holds: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Poll until ``holds``; fail with ``what`` after ``within_s``."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


async def eventually_async(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    """Let the event loop run until ``holds``; TimeoutError after ``within_s``."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.001)
