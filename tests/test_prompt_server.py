"""How the servers end: at once when nothing is held, else when it has been answered."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from servers.http_connection import HttpConnection
from servers.prompt_server import PromptServer

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LENGTH = (b"content-length", b"4")

Steps = Callable[[PromptServer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def serve(app: Any, steps: Steps) -> None:
    """Run ``steps`` with a connection to a server of ``app``, which has to end afterwards."""

    async def run() -> None:
        config = uvicorn.Config(app, http=HttpConnection, lifespan="off", log_config=None)
        server = PromptServer(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve([listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            async with asyncio.timeout(20):
                await steps(server, reader, writer)
                await serving
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())


async def answering(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
    await send({"type": "http.response.body", "body": b"done"})


def test_an_idle_connection_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends although its next look at what is held would be an hour away."""
    monkeypatch.setattr("servers.prompt_server.LOOK_S", 3600.0)

    async def steps(server: PromptServer, reader: Any, writer: Any) -> None:
        writer.write(GET)
        await reader.readuntil(b"done")
        server.end()
        assert await reader.read() == b""

    serve(answering, steps)


def test_what_is_held_is_answered_before_the_end() -> None:
    """A request that was under way gets its whole answer."""
    begun, let = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await let.wait()
        await answering(scope, receive, send)

    async def steps(server: PromptServer, reader: Any, writer: Any) -> None:
        writer.write(GET)
        await begun.wait()
        server.end()
        asyncio.get_running_loop().call_later(0.02, let.set)
        assert b"done" in await reader.read()

    serve(waiting, steps)
