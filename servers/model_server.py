"""The container: ``python -m servers.model_server`` loads one model and answers on one port.

It is told everything by the environment, as SageMaker tells a container (see `Settings`). Its port
is taken at once but opened only when the model is loaded and warm: until then a connection is
refused, and afterwards ``/ping`` always answers 200.
"""

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench.errors import ConfigError
from bench.process import die_with_parent

if TYPE_CHECKING:
    from servers.batcher import Batcher
    from servers.grpc_server import GrpcServer
    from servers.loading import Loaded, Wanted
    from servers.model_app import App
    from servers.prompt_server import Connect

GRACE_S = 28
"""Seconds to finish what it holds after SIGTERM; SageMaker sends SIGKILL after 30."""

KEEP_ALIVE_S = 75
"""Seconds that an idle connection stays open: longer than its clients keep theirs."""

FAILED_TO_LOAD = 1
ANY_LENGTH_MB = 100_000


@dataclass(frozen=True)
class Settings:
    """What the environment asks for; names and defaults are those of the container contract."""

    port: int  # SAGEMAKER_BIND_TO_PORT, 8080
    host: str  # WEIGHBRIDGE_BIND_HOST, 127.0.0.1
    model_dir: Path  # SAGEMAKER_BASE_DIR, /opt/ml; the model lies in <base>/model
    program: str  # SAGEMAKER_PROGRAM, inference.py
    default_accept: str  # SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT, application/json
    max_payload_bytes: int  # SAGEMAKER_MAX_PAYLOAD_IN_MB, 100
    threads: int | None  # WEIGHBRIDGE_THREADS, else OMP_NUM_THREADS; None: the library decides
    parent_pid: int | None  # WEIGHBRIDGE_PARENT_PID: die when it does
    device: str = "auto"  # WEIGHBRIDGE_DEVICE, auto: auto, cpu, cuda or cuda:N
    max_batch: int = 32  # WEIGHBRIDGE_MAX_BATCH, 32: most calls computed at once; 1 is none
    max_delay_s: float = 0.0  # WEIGHBRIDGE_MAX_DELAY_US, 0: longest wait for more, in microseconds
    max_waiting: int = 1000  # WEIGHBRIDGE_MAX_WAITING, 1000: calls held at once; beyond it 503
    timeout_s: float = 60.0  # SAGEMAKER_MODEL_SERVER_TIMEOUT, 60: for one answer, in seconds
    model_name: str = "model"  # WEIGHBRIDGE_MODEL_NAME: what the Open Inference Protocol calls it
    oip_host: str = "127.0.0.1"  # WEIGHBRIDGE_OIP_HOST, 127.0.0.1
    oip_port: int | None = None  # WEIGHBRIDGE_OIP_PORT: that protocol's HTTP on a port of its own
    grpc_port: int | None = None  # WEIGHBRIDGE_GRPC_PORT: its gRPC; without it there is none

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Parse and check; ConfigError names the variable, its value and what it may be."""
        from servers.device import check_device
        from servers.program import program_name

        device = environment.get("WEIGHBRIDGE_DEVICE") or "auto"
        check_device(device)
        threads = _number(environment, "WEIGHBRIDGE_THREADS", (1, 4096))
        mebibytes = _number(environment, "SAGEMAKER_MAX_PAYLOAD_IN_MB", (0, 100_000), 100)
        # Batch transform's 0 means bodies of any length.
        mebibytes = mebibytes or ANY_LENGTH_MB
        return cls(
            port=_number(environment, "SAGEMAKER_BIND_TO_PORT", (1, 65535), 8080) or 0,
            host=environment.get("WEIGHBRIDGE_BIND_HOST") or "127.0.0.1",
            model_dir=Path(environment.get("SAGEMAKER_BASE_DIR") or "/opt/ml") / "model",
            program=program_name(environment),
            default_accept=environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT")
            or "application/json",
            max_payload_bytes=(mebibytes or 0) << 20,
            threads=threads or _number(environment, "OMP_NUM_THREADS", (1, 4096)),
            parent_pid=_number(environment, "WEIGHBRIDGE_PARENT_PID", (1, 2**31 - 1)),
            device=device,
            max_batch=_number(environment, "WEIGHBRIDGE_MAX_BATCH", (1, 4096), 32) or 0,
            max_delay_s=(_number(environment, "WEIGHBRIDGE_MAX_DELAY_US", (0, 10**6), 0) or 0)
            / 1e6,
            max_waiting=_number(environment, "WEIGHBRIDGE_MAX_WAITING", (1, 10**6), 1000) or 0,
            timeout_s=_number(environment, "SAGEMAKER_MODEL_SERVER_TIMEOUT", (1, 3600), 60) or 0,
            model_name=environment.get("WEIGHBRIDGE_MODEL_NAME") or "model",
            oip_host=environment.get("WEIGHBRIDGE_OIP_HOST") or "127.0.0.1",
            oip_port=_number(environment, "WEIGHBRIDGE_OIP_PORT", (1, 65535)),
            grpc_port=_number(environment, "WEIGHBRIDGE_GRPC_PORT", (1, 65535)),
        )

    def wanted(self) -> "Wanted":
        """What is to be loaded, and how."""
        from servers.loading import Wanted

        return Wanted(
            self.model_dir,
            self.program,
            self.default_accept,
            self.threads,
            self.device,
            self.max_batch,
        )


def main() -> NoReturn:
    """Load the model, serve until told to stop, and leave without a slow teardown."""
    # What is imported from here on is part of a cold start, and is measured as such.
    start = time.perf_counter()
    gc.disable()  # nothing that is imported is garbage; looking for it takes a tenth of the time
    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        # While it loads it holds nothing. uvicorn puts these back and raises the signal again.
        signal.signal(number, lambda *_, status=status: _leave(status))
    try:
        settings = Settings.from_environment(os.environ)
        die_with_parent(settings.parent_pid)
        listeners, grpc_listener = _bound(settings)
        model_thread = ThreadPoolExecutor(1, "model")
        from servers.loading import load

        loaded = load(settings.wanted(), model_thread, start)
        app, grpc_server = _fronts(loaded, settings, _batcher(loaded, settings, model_thread))
        beside = {grpc_listener: grpc_server.connect} if grpc_listener and grpc_server else {}
        for listener in (*beside, *listeners):
            listener.listen(2048)
    except ConfigError as error:
        _give_up(str(error))
    except OSError as error:
        _give_up(f"port {settings.port} cannot be opened: {error}. Free it or name another.")
    _serve(app, listeners, beside)
    _leave(0)


def _batcher(loaded: "Loaded", settings: Settings, model_thread: ThreadPoolExecutor) -> "Batcher":
    """The queue in front of the model, at work."""
    from servers.batcher import Batcher, Policy

    policy = Policy(
        settings.max_batch if loaded.engine.joins else 1,
        settings.max_delay_s,
        settings.max_waiting,
        settings.timeout_s,
    )
    batcher = Batcher(loaded.engine, policy, loaded.engine.device.ahead)
    batcher.start(model_thread)
    return batcher


def _fronts(
    loaded: "Loaded", settings: Settings, batcher: "Batcher"
) -> tuple["App", "GrpcServer | None"]:
    """The HTTP application, and the gRPC server if a port is given for it."""
    from servers.model_app import Served, make_app

    spools = loaded.engine.handlers.streams
    joins = loaded.engine.joins
    served = Served(batcher, loaded.startup, settings.max_payload_bytes, spools, joins=joins)
    signature = loaded.engine.signature
    if signature is None:
        return make_app(served), None
    from servers.oip_http import OpenInference
    from servers.open_inference import OpenModel

    executions = loaded.engine.executions
    model = OpenModel(settings.model_name, signature, settings.max_batch, executions)
    limit = settings.max_payload_bytes
    grpc_server = None
    if settings.grpc_port is not None:
        from servers.oip_grpc import open_inference_grpc

        grpc_server = open_inference_grpc(model, batcher, limit)
    open_inference = OpenInference(model, batcher, limit)
    return make_app(replace(served, open_inference=open_inference)), grpc_server


def _serve(
    app: "App", listeners: list[socket.socket], beside: Mapping[socket.socket, "Connect"]
) -> None:
    import uvicorn

    from servers.http_connection import HttpConnection
    from servers.prompt_server import PromptServer

    config = uvicorn.Config(
        app,
        http=HttpConnection,
        loop="uvloop",
        ws="none",
        proxy_headers=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    PromptServer(config, beside).run(sockets=listeners)


def _bound(settings: Settings) -> tuple[list[socket.socket], socket.socket | None]:
    """Sockets that have their ports but refuse connections until they listen: HTTP's, gRPC's."""
    names = "SAGEMAKER_BIND_TO_PORT or WEIGHBRIDGE_BIND_HOST"
    listeners = [_socket(settings.host, settings.port, socket.SO_REUSEADDR, names)]
    grpc_listener = None
    # The instances of an endpoint share the other two.
    if settings.oip_port is not None:
        names = "WEIGHBRIDGE_OIP_PORT or WEIGHBRIDGE_OIP_HOST"
        listeners.append(_socket(settings.oip_host, settings.oip_port, socket.SO_REUSEPORT, names))
    if settings.grpc_port is not None:
        names = "WEIGHBRIDGE_GRPC_PORT or WEIGHBRIDGE_OIP_HOST"
        grpc_listener = _socket(settings.oip_host, settings.grpc_port, socket.SO_REUSEPORT, names)
        # Its connections stay open while they are idle, unless the client's machine is gone.
        grpc_listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return listeners, grpc_listener


def _socket(host: str, port: int, option: int, names: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} cannot be bound: {error}. Set {names} to what is free."
        ) from error
    return listener


def _number(
    environment: Mapping[str, str], name: str, bounds: tuple[int, int], default: int | None = None
) -> int | None:
    text = environment.get(name)
    if not text:
        return default
    low, high = bounds
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise ConfigError(f"{name} is {text!r}: set a whole number from {low} to {high}.")
    return value


def _give_up(reason: str) -> NoReturn:
    sys.stderr.write(f"model server: {reason}\n")
    _leave(FAILED_TO_LOAD)


def _leave(status: int) -> NoReturn:
    # Taking the interpreter apart costs 0.4 s with torch, and nothing is left to be written.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
