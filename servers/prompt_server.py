"""uvicorn's server, ending at once when it is told to and nothing is held."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, MutableSet
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

Connect = Callable[[MutableSet[Any]], asyncio.Protocol]
"""Makes what takes a connection of a listener that serves another protocol than HTTP.

It is given the set of connections that are open, to be in it as long as it is. When the server
ends, its ``shutdown`` is called and it is waited for.
"""

LOOK_S = 0.005
"""Between looks at what is still held."""


class PromptServer(uvicorn.Server):
    """Waits to be told to end, where uvicorn looks ten times a second and then waits for more.

    An environment that has served its time costs a simulated day what its end takes, and one that
    is idle should be idle.
    """

    def __init__(
        self, config: uvicorn.Config, beside: Mapping[socket.socket, Connect] | None = None
    ) -> None:
        super().__init__(config)
        self._beside = beside or {}
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for listener, connect in self._beside.items():
            made = partial(connect, self.server_state.connections)
            opened = await loop.create_server(made, sock=listener, backlog=self.config.backlog)
            self.servers.append(opened)

    def end(self) -> None:
        """Take no more connections, answer what is held, and let `serve` return."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.end()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        if not self.should_exit:  # a signal may have come before there was a loop to tell
            await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        await asyncio.sleep(0)  # idle connections are gone after this turn of the loop
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while (state.connections or state.tasks) and not self.force_exit:
                    await asyncio.sleep(LOOK_S)
