"""One running container: started, watched, called and stopped. Here: as a plain process.

`Instance` is what the modes know. Another back end (Docker) offers the same methods.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from servers.channel import Call, Channel, Stream
from servers.client_connection import Broken, ClientConnection, Received
from servers.exchange import PIPELINED
from servers.limits import Caps, Group, Limiter, resident_bytes
from servers.profile import Profile
from servers.wire import FORWARDED, Answer

PING_INTERVAL_S = 0.02

ENDING_S = 0.5
"""How long a broken connection waits to learn whether the process has ended."""

LAST_WORD = "model server: "
"""How the line begins in which a model server says why it ends."""
NO_MEMORY = ("MemoryError", "can't allocate memory", "Cannot allocate memory")
"""Words of an error that says that there was no more memory: Python's, torch's, the system's."""

MAX_READ_BYTES = 1_000_000
MAX_PING_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 0.25
"""Of options whose profile names none."""

LOOPBACK = "127.0.0.1"
MODEL_SERVER = (sys.executable, "-m", "servers.model_server")


class InstanceFailed(Exception):
    """The container did not become healthy; the text says why."""


class InvocationTimeout(Exception):
    """The container did not answer in time."""


class InstanceLost(Exception):
    """The connection to the container broke before the answer was complete.

    ``sent``: after the request had left; without it another instance may be asked.
    ``status``: of an answer that had begun, else 0.
    """

    def __init__(self, reason: str, sent: bool = True, status: int = 0) -> None:
        super().__init__(reason)
        self.sent = sent
        self.status = status


@dataclass(frozen=True)
class Startup:
    """How long a start took, in seconds; all but ``setup_s`` as the container tells."""

    setup_s: float
    import_s: float
    load_s: float
    warmup_s: float = 0.0

    @property
    def process_s(self) -> float:
        """The rest: the process spawned, its server started, the first /ping answered."""
        return max(0.0, self.setup_s - self.import_s - self.load_s - self.warmup_s)


@dataclass(frozen=True)
class InstanceSpec:
    """How to run a container."""

    base_dir: Path
    """Stands for /opt/ml: the unpacked model is in its folder ``model``."""
    profile: Profile
    log: Path
    """Takes what the container prints."""
    limiter: Limiter
    caps: Caps
    threads: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    host: str = LOOPBACK
    """Where it listens."""
    command: tuple[str, ...] = MODEL_SERVER
    """What to run; anything that keeps the container contract."""


class Instance(Protocol):
    """A running container, whatever runs it."""

    name: str

    @property
    def alive(self) -> bool: ...
    async def start(self) -> Startup: ...
    async def invoke(self, body: bytes, headers: dict[str, str], limit: int) -> Answer: ...
    async def ended(self) -> int: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...


class Replica(Instance, Protocol):
    """What a persistent endpoint asks of an instance beside."""

    def begin(
        self, body: bytes, headers: dict[str, str], received: Received
    ) -> ClientConnection | None: ...
    async def failure(self, error: Exception) -> Exception: ...
    async def ping(self) -> bool: ...
    async def stream(self, body: bytes, headers: dict[str, str]) -> Stream: ...


class ProcessInstance:
    """A container as a process of this machine, on a loopback port."""

    def __init__(self, name: str, spec: InstanceSpec) -> None:
        self.name = name
        self._spec = spec
        self._timeout_s = spec.profile["invocation_timeout_s"]
        self.address = ""
        """Where it is reached, when it has been started."""
        self._channel: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log_begin = 0
        self._group: Group | None = None
        self._out_of_memory = False

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Of its process; None when it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    async def start(self) -> Startup:
        """Spawn the process and wait until it is healthy; InstanceFailed when it is not in time."""
        host = self._spec.host
        port = _free_port(host)
        connect_s = self._spec.profile.get("connect_timeout_s", CONNECT_TIMEOUT_S)
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._channel = Channel(host, port, connect_s)
        began = time.monotonic()
        with self._spec.log.open("ab") as log:
            self._log_begin = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._spec.command,
                env=self._environment(port),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal reaches the front end only, which stops its instances.
                start_new_session=True,
            )
        self._group = self._spec.limiter.hold(self._process.pid, self._spec.caps)
        try:
            async with asyncio.timeout(self._spec.profile["startup_timeout_s"]):
                parts = await self._healthy()
            if self._group.out_of_memory():  # by its last step, the watchdog's next one is to come
                raise InstanceFailed(self._why_ended())
        except TimeoutError:
            await self.stop()
            limit_s = self._spec.profile["startup_timeout_s"]
            raise InstanceFailed(f"it did not pass /ping within {limit_s:g} s") from None
        except BaseException:
            await self.stop()
            raise
        told = (parts.get(name, 0.0) for name in ("import", "load", "warmup"))
        return Startup(time.monotonic() - began, *told)

    async def invoke(self, body: bytes, headers: dict[str, str], limit: int) -> Answer:
        """Send one request; an answer above ``limit`` bytes is cut off at one byte more."""
        call = Call("POST", "/invocations", _forwarded(headers), body)
        try:
            return await self._reached().ask(call, limit, self._timeout_s)
        except (TimeoutError, Broken) as error:
            raise await self.failure(error) from error

    def begin(
        self, body: bytes, headers: dict[str, str], received: Received
    ) -> ClientConnection | None:
        """Send one request now, on this connection; None, and nothing is done, where it must wait.

        ``received`` is told what came back; `failure` says what its error is.
        """
        call = Call("POST", "/invocations", _forwarded(headers), body)
        return self._reached().begin(call, received, self._timeout_s)

    async def failure(self, error: Exception) -> Exception:
        """What `invoke` raises for an error of the connection."""
        if isinstance(error, Broken):
            return InstanceLost(await self._why_lost(error), error.sent, error.status)
        return InvocationTimeout() if isinstance(error, TimeoutError) else error

    async def stream(self, body: bytes, headers: dict[str, str]) -> Stream:
        """Send one request; the answer's head, its body to be read as it comes."""
        call = Call("POST", "/invocations", _forwarded(headers), body)
        try:
            return await self._reached().open(call, self._spec.profile["stream_timeout_s"])
        except (TimeoutError, Broken) as error:
            raise await self.failure(error) from error

    async def ping(self) -> bool:
        """Whether ``/ping`` answers 200 in its time."""
        try:
            answer = await self._ping()
        except (Broken, TimeoutError):
            return False
        return answer.status == 200

    async def ended(self) -> int:
        """Wait for the process to end by itself; its exit status."""
        assert self._process is not None
        status = await self._process.wait()
        self._release()
        return status

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace time; returns when the process is gone."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(self._spec.profile["stop_grace_s"]):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        self._release()

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._release()

    def resident_bytes(self) -> int:
        """What its process holds in memory; 0 when it is gone."""
        if self._process is None:
            return 0
        try:
            return resident_bytes(psutil.Process(self._process.pid))
        except psutil.Error:
            return 0

    def _release(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._group is not None:
            self._out_of_memory = self._group.out_of_memory()
            self._group.release()
            self._group = None

    async def _healthy(self) -> dict[str, float]:
        """The parts of the start, in seconds, when /ping has answered 200."""
        while True:
            if not self.alive:
                raise InstanceFailed(self._why_ended())
            with contextlib.suppress(Broken, TimeoutError):
                answer = await self._ping()
                if answer.status == 200:
                    self._reached().pipelined = PIPELINED in answer.headers
                    return server_timing(answer.headers.get("server-timing", ""))
            await asyncio.sleep(PING_INTERVAL_S)

    async def _ping(self) -> Answer:
        limit_s = self._spec.profile["ping_timeout_s"]
        return await self._reached().ask(Call("GET", "/ping"), MAX_PING_BYTES, limit_s)

    def _reached(self) -> Channel:
        assert self._channel is not None, "it has been started"
        return self._channel

    async def _why_lost(self, error: Exception) -> str:
        """Why the connection broke: the process's end, if it has ended."""
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await self._process.wait()
                return self._why_ended()
        return str(error) or type(error).__name__

    def _why_ended(self) -> str:
        """Why the process ended before it was healthy: its own last word, if it had one."""
        status = self._process.returncode if self._process else None
        self._release()
        if self._out_of_memory:
            return f"it needs more than its memory size of {self._spec.caps.memory_mb} MB"
        if status is not None and status < 0:
            return f"its process was ended by {signal.Signals(-status).name}"
        with self._spec.log.open("rb") as log:
            log.seek(self._log_begin)
            said = log.read(MAX_READ_BYTES).decode("utf-8", "replace").splitlines()
        words = [line.removeprefix(LAST_WORD) for line in said if line.startswith(LAST_WORD)]
        last = words[-1] if words else f"its process ended with exit status {status}"
        if self._spec.caps.memory_mb is not None and any(each in last for each in NO_MEMORY):
            return f"it needs more than its memory size of {self._spec.caps.memory_mb} MB ({last})"
        return last

    def _environment(self, port: int) -> dict[str, str]:
        threads = str(self._spec.threads)
        return {
            **os.environ,
            **self._spec.environment,
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "WEIGHBRIDGE_BIND_HOST": self._spec.host,
            "SAGEMAKER_BASE_DIR": str(self._spec.base_dir),
            "WEIGHBRIDGE_PARENT_PID": str(os.getpid()),
            # Several instances share this machine's cores: each takes its share, not all of them.
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }


def server_timing(header: str) -> dict[str, float]:
    """The durations of a Server-Timing header (W3C), in seconds by name."""
    parts = {}
    for metric in header.split(","):
        name, *parameters = metric.strip().split(";")
        for parameter in parameters:
            key, _, value = parameter.strip().partition("=")
            if key == "dur":
                with contextlib.suppress(ValueError):
                    parts[name] = float(value) / 1000
    return parts


def _forwarded(headers: dict[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in FORWARDED if name in headers}


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
