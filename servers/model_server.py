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
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bench.errors import ConfigError
from bench.process import die_with_parent

if TYPE_CHECKING:
    from servers.model_app import LoadedModel, Startup

GRACE_S = 28
"""Seconds to finish what it holds after SIGTERM; SageMaker sends SIGKILL after 30."""

KEEP_ALIVE_S = 75
"""Seconds that an idle connection stays open: longer than its clients keep theirs."""

FAILED_TO_LOAD = 1


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

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Parse and check; ConfigError names the variable, its value and what it may be."""
        from servers.program import program_name

        _check_device(environment.get("WEIGHBRIDGE_DEVICE", "auto"))
        threads = _number(environment, "WEIGHBRIDGE_THREADS", (1, 4096))
        mebibytes = _number(environment, "SAGEMAKER_MAX_PAYLOAD_IN_MB", (0, 100_000), 100)
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
        )


def main() -> NoReturn:
    """Load the model, serve until told to stop, and leave without a slow teardown."""
    # What is imported from here on is part of a cold start, and is measured as such.
    start = time.perf_counter()
    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        # While it loads it holds nothing. uvicorn puts these back and raises the signal again.
        signal.signal(number, lambda *_, status=status: _leave(status))
    try:
        settings = Settings.from_environment(os.environ)
        die_with_parent(settings.parent_pid)
        listener = _bound(settings)
        model_thread = ThreadPoolExecutor(1, "model")
        loaded, startup = _load(settings, model_thread, start)
        listener.listen(2048)
    except ConfigError as error:
        _give_up(str(error))
    except OSError as error:
        _give_up(f"port {settings.port} cannot be opened: {error}. Free it or name another.")
    _serve(loaded, startup, settings, (listener, model_thread))
    _leave(0)


def _load(
    settings: Settings, model_thread: ThreadPoolExecutor, start: float
) -> tuple["LoadedModel", "Startup"]:
    """The model, and the seconds of each part; a failure is a ConfigError, traceback on stderr."""
    if settings.threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(settings.threads)
    import uvicorn  # noqa: F401 - needed later, but here its time counts as import

    from servers.handlers import load_handlers
    from servers.model_app import LoadedModel, Startup

    code = settings.model_dir / "code" / settings.program
    try:
        stage = f"{code} cannot be imported"
        handlers = load_handlers(settings.model_dir, settings.program, settings.default_accept)
        imported = time.perf_counter()

        # All of the model's life is in its thread: pools of threads belong to their maker.
        stage = "model_fn failed"
        model_thread.submit(_limit_torch, settings.threads).result()
        model = model_thread.submit(handlers.load_model, settings.model_dir).result()
        loaded = time.perf_counter()

        stage = "model_warmup_fn failed"
        model_thread.submit(
            _limit_torch, settings.threads
        ).result()  # model_fn may have imported it
        model_thread.submit(handlers.warm_up, settings.model_dir, model).result()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        reason = " ".join(str(error).split())
        raise ConfigError(f"{stage}: {type(error).__name__}: {reason}") from error
    warm = time.perf_counter()
    # Without this a full collection walks every object of the user's libraries: 90 ms with torch.
    gc.collect()
    gc.freeze()
    return LoadedModel(handlers, model), Startup(imported - start, loaded - imported, warm - loaded)


def _serve(
    loaded: "LoadedModel",
    startup: "Startup",
    settings: Settings,
    means: tuple[socket.socket, ThreadPoolExecutor],
) -> None:
    import uvicorn

    from servers.model_app import make_app

    listener, model_thread = means
    config = uvicorn.Config(
        make_app(loaded, model_thread, startup, settings.max_payload_bytes),
        http="httptools",
        loop="uvloop",
        ws="none",
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
    uvicorn.Server(config).run(sockets=[listener])


def _limit_torch(threads: int | None) -> None:
    torch: Any = sys.modules.get("torch")  # never imported for its own sake
    if torch is None:
        return
    if threads is not None:
        torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        try:
            torch.set_num_interop_threads(1)
        except RuntimeError:  # the user's code has set it, or has started that pool already
            return


def _bound(settings: Settings) -> socket.socket:
    """A socket that has the port but refuses connections until it listens."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{settings.host}:{settings.port} cannot be bound: {error}. "
            "Set SAGEMAKER_BIND_TO_PORT or WEIGHBRIDGE_BIND_HOST to what is free."
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


def _check_device(device: str) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (
        ":" in device and (kind != "cuda" or not number.isdecimal())
    ):
        raise ConfigError(f"WEIGHBRIDGE_DEVICE is {device!r}: set auto, cpu, cuda or cuda:N.")


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
