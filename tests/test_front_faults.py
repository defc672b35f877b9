"""What the front end does when it is itself in trouble; an ASGI application, or behind boto3."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from botocore.exceptions import ClientError, EventStreamError

import servers.direct
from bench.clock import Clock
from bench.events import EventLog
from servers.endpoint import Invocation, Served, Streamed
from servers.front import Front
from servers.http_connection import HttpConnection
from servers.timers import Timers
from servers.wire import Answer, ApiError, validation_error
from tests.serving import aws, eventually_async


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

    @contextlib.asynccontextmanager
    async def stream(self, invocation: Invocation) -> AsyncIterator[Streamed]:
        async def chunks() -> AsyncIterator[bytes]:
            yield invocation.body
            raise ZeroDivisionError("a secret of ours")

        yield Streamed({}, "instance-1", "AllTraffic", 0.0, chunks(), lambda: None)

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


def through_boto3(folder: Path, ask: Callable[[Any], None]) -> None:
    """Let ``ask`` talk to the front with an unmodified client of the runtime API."""

    async def steps(front: Front, _: Slow) -> None:
        config = uvicorn.Config(
            front,
            port=0,
            http=HttpConnection,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_level="warning",
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        await eventually_async(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        try:
            await asyncio.to_thread(ask, aws("sagemaker-runtime", f"http://{host}:{port}"))
        finally:
            server.should_exit = True
            await serving

    with_front(folder, steps)


@pytest.mark.slow
def test_boto3_sees_a_fault_of_ours_as_an_internal_failure(tmp_path: Path) -> None:
    """InternalFailure, 500, as a typed exception, and the reason is not in it."""

    def ask(runtime: Any) -> None:
        with pytest.raises(runtime.exceptions.InternalFailure) as caught:
            runtime.invoke_endpoint(EndpointName="slow", Body=b"break")
        found = caught.value.response
        assert found["Error"]["Code"] == "InternalFailure"
        assert found["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert "secret" not in found["Error"]["Message"]

    through_boto3(tmp_path, ask)


@pytest.mark.slow
def test_boto3_sees_a_fault_within_a_stream_as_an_internal_stream_failure(tmp_path: Path) -> None:
    """InternalStreamFailure, after the parts that came."""

    def ask(runtime: Any) -> None:
        answer = runtime.invoke_endpoint_with_response_stream(EndpointName="slow", Body=b"one")
        with contextlib.closing(answer["Body"]) as body:
            received = iter(body)
            assert next(received)["PayloadPart"]["Bytes"] == b"one"
            with pytest.raises(EventStreamError) as caught:
                next(received)
        assert caught.value.response["Error"]["Code"] == "InternalStreamFailure"

    through_boto3(tmp_path, ask)


@pytest.mark.slow
def test_boto3_sees_that_there_is_no_room_as_service_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ServiceUnavailable, 503: for either way of invoking."""
    monkeypatch.setattr(servers.direct, "MAX_HELD_BYTES", 10)

    def ask(runtime: Any) -> None:
        for invoke in (runtime.invoke_endpoint, runtime.invoke_endpoint_with_response_stream):
            with pytest.raises(ClientError) as caught:
                invoke(EndpointName="slow", Body=b"x" * 11)
            assert caught.value.response["Error"]["Code"] == "ServiceUnavailable"
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503

    through_boto3(tmp_path, ask)
