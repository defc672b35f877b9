"""What the front end does when it is itself in trouble; called as an ASGI application."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import servers.direct
from bench.clock import Clock
from bench.events import EventLog
from servers.endpoint import Invocation, Served
from servers.front import Front
from servers.timers import Timers
from servers.wire import Answer, ApiError, validation_error


class Slow:
    """An endpoint that answers when it is let, or breaks."""

    name = "slow"
    payload_max_bytes = 100

    def __init__(self) -> None:
        self.let = asyncio.Event()

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> dict[str, int]:
        return {}

    def oversize(self, request_id: str) -> ApiError:
        return validation_error(request_id)

    async def invoke(self, invocation: Invocation) -> Served:
        if invocation.body == b"break":
            raise ZeroDivisionError("a secret of ours")
        await self.let.wait()
        return Served(Answer(200, invocation.body), "instance-1", 0.0)


async def post(front: Front, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to one request."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", str(len(body)).encode())]
    path = "/endpoints/slow/invocations"
    await front({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], sent[1]["body"]


def with_front(folder: Path, steps: Callable[[Front, Slow], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = Clock.create(folder, fast_forward=False)
        timers = Timers(clock, EventLog(None))
        slow = Slow()
        await steps(Front({"slow": slow}, timers), slow)
        await timers.close()
        clock.close()

    asyncio.run(run())


def test_bodies_beyond_the_memory_set_aside_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ServiceUnavailable while others hold the memory; afterwards there is room again."""
    monkeypatch.setattr(servers.direct, "MAX_HELD_BYTES", 10)

    async def steps(front: Front, slow: Slow) -> None:
        first = asyncio.create_task(post(front, b"12345678"))
        await asyncio.sleep(0)
        status, body = await post(front, b"12345678")
        assert (status, json.loads(body)["Message"][:14]) == (503, "Too many large")
        slow.let.set()
        assert await first == (200, b"12345678")
        assert (await post(front, b"12345678"))[0] == 200

    with_front(tmp_path, steps)


def test_a_fault_of_ours_is_an_internal_failure_without_our_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets 500 and the code; the reason is in the log alone."""

    async def steps(front: Front, _: Slow) -> None:
        status, body = await post(front, b"break")
        assert status == 500
        assert b"secret" not in body

    with_front(tmp_path, steps)
    assert "a secret of ours" in caplog.text
