"""The server process: ``python -m servers DEPLOYMENT.json``, a `bench.deployment.Deployment`.

When it listens it prints one JSON line: ``{"address": "http://127.0.0.1:8080", "endpoints": …}``.
It ends on SIGTERM or SIGINT, and its instances with it. What was asked for and cannot be is one
line on stderr and exit code 2.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
import uvloop

from bench.clock import Clock
from bench.deployment import Deployment
from bench.errors import USAGE, ConfigError
from bench.events import EventLog
from bench.process import die_with_parent, yield_cores
from servers.assembly import build_endpoints, contacts
from servers.async_assembly import open_store
from servers.async_front import AsyncFront
from servers.asynchronous import AsyncEndpoint
from servers.endpoint import Endpoint
from servers.front import Front
from servers.http_connection import HttpConnection
from servers.instance import InstanceFailed
from servers.limits import find_limiter
from servers.local_store import LocalStore
from servers.premises import Site
from servers.prompt_server import PromptServer
from servers.s3_front import S3Front
from servers.timers import Timers

DRAIN_S = 30
"""Longest wait for open requests when the process is asked to end."""


def main() -> None:
    """Run the deployment in the file that the command line names."""
    parent = os.environ.get("WEIGHBRIDGE_PARENT_PID")
    die_with_parent(int(parent) if parent else None)
    yield_cores()
    try:
        deployment = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Deployment)
        uvloop.run(_run(deployment))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(USAGE)


async def _run(deployment: Deployment) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked_to_stop(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop.set)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, asked_to_stop)
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(listen(deployment.host, deployment.port))
        host, port = listener.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        site = await _site(deployment, address, stack)
        built = build_endpoints(deployment, site)
        endpoints, control = built.endpoints, built.control
        for endpoint in endpoints.values():
            stack.push_async_callback(endpoint.close)
        if not await _open(list(endpoints.values()), stop):
            return
        for called, contact in contacts(endpoints).items():
            built.descriptions[called]["contact"] = contact
        asynchronous = {k: v for k, v in endpoints.items() if isinstance(v, AsyncEndpoint)}
        _spare_collections()
        app = AsyncFront(asynchronous, S3Front(site.store), Front(endpoints, site.timers, control))
        server = _Server(_uvicorn_config(app), list(asynchronous.values()))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        if stop.is_set():  # asked between the last start and the server's own handler
            server.end()
        line = {"address": address, "endpoints": built.descriptions}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await serving


def _spare_collections() -> None:
    """Look for garbage among what requests leave, and seldom: the rest stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


class _Server(PromptServer):
    """Ends the open lines of notifications first, which would hold up its end."""

    def __init__(self, config: uvicorn.Config, endpoints: list[AsyncEndpoint]) -> None:
        super().__init__(config)
        self._endpoints = endpoints

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for endpoint in self._endpoints:
            endpoint.finished.close()
        await super().shutdown(sockets)


async def _site(deployment: Deployment, address: str, stack: contextlib.AsyncExitStack) -> Site:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weighbridge-")))
    clock = Clock(Path(deployment.clock)) if deployment.clock else Clock.create(folder, False)
    events = EventLog(Path(deployment.events) if deployment.events else None)
    stack.callback(events.close)
    metrics = EventLog(Path(deployment.metrics) if deployment.metrics else None)
    stack.callback(metrics.close)
    timers = Timers(clock, events)
    stack.push_async_callback(timers.close)
    log = Path(deployment.log) if deployment.log else folder / "instances.log"
    starts = asyncio.Semaphore(os.cpu_count() or 1)
    data = Path(deployment.data) if deployment.data else folder / "data"
    store = await open_store(deployment, data)
    if store is None:
        store = LocalStore(data / "objects")
        await store.open()
    stack.push_async_callback(store.close)
    return Site(
        *(folder, log, timers, find_limiter(), starts, deployment.seed),
        data=data,
        store=store,
        address=address,
        metrics=metrics,
    )


async def _open(endpoints: list[Endpoint], stop: asyncio.Event) -> bool:
    """Open all endpoints; false when the process was asked to end meanwhile."""

    async def all_open() -> None:
        await asyncio.gather(*(endpoint.open() for endpoint in endpoints))

    opening = asyncio.create_task(all_open())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
        return False
    stopping.cancel()
    try:
        await opening
    except InstanceFailed as failure:
        raise ConfigError(f"The model could not be served: {failure}.") from failure
    return True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ConfigError when the address is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another port with --port, "
            "or 0 for any that is free."
        ) from error
    return listener


def _uvicorn_config(app: AsyncFront) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpConnection,
        interface="asgi3",
        proxy_headers=False,
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
        # Longer than a pause between two requests of a client that keeps its connection.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
    )


if __name__ == "__main__":
    main()
