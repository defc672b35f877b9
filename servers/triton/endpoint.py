"""A real Triton as a process of this machine, serving a model of ours."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.errors import ConfigError
from bench.target import Triton
from servers.elsewhere import Elsewhere, healthy
from servers.instance import InstanceFailed
from servers.program import program_name
from servers.signature import NAME, Signature, Tensor, read_signature
from servers.timers import Timers
from servers.triton import environment

START_S = 180.0
STOP_S = 10.0
MODEL = "model"


@dataclass(frozen=True)
class TritonMeans:
    """What the endpoint works with."""

    base: Path
    """Stands for /opt/ml: the unpacked model is in its folder ``model``."""
    log: Path
    timers: Timers
    threads: int


class TritonEndpoint(Elsewhere):
    """Starts Triton, and stops it."""

    def __init__(self, name: str, target: Triton, means: TritonMeans) -> None:
        self._http, self._grpc = _free_ports()
        super().__init__(name, f"http://127.0.0.1:{self._http}/v2/models/{MODEL}")
        self._means = means
        self._folder = Path(target.environment)
        self._process: asyncio.subprocess.Process | None = None
        signature = read_signature(means.base / "model")
        if signature is None:
            raise ConfigError(f"The model has no {NAME}, which Triton needs. See the README on it.")
        write_repository(means, target, signature)

    async def open(self) -> None:
        """Start the server; InstanceFailed with the path of its log when it does not come up."""
        began = time.monotonic()
        with self._means.timers.working():
            await self._start()
            await super().open()
        setup_s = time.monotonic() - began
        self._means.timers.note("instance_started", instance="triton", setup_s=setup_s)

    async def close(self) -> None:
        """Stop the server and the processes that it has started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        self._means.timers.note("instance_stopped", instance="triton", reason="closed")

    async def _start(self) -> None:
        server = environment.server_of(self._folder)
        arguments = {
            "model-repository": self._means.base / "repository",
            "backend-directory": server / "backends",
            "http-address": "127.0.0.1",
            "http-port": self._http,
            "grpc-address": "127.0.0.1",
            "grpc-port": self._grpc,
            "allow-metrics": "false",
            "exit-timeout-secs": int(STOP_S / 2),
        }
        with self._means.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                server / "bin" / "tritonserver",
                *(f"--{name}={value}" for name, value in arguments.items()),
                env={**os.environ, **environment.variables(self._folder)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_S):
                came = await healthy(f"{self._address}/ready", self._process)
        except TimeoutError:
            came = False
        if not came:
            await self.close()
            raise InstanceFailed(f"Triton did not come up: {_last_error(self._means.log)}")


def write_repository(means: TritonMeans, target: Triton, signature: Signature) -> None:
    """Triton's model repository in ``base/repository``: the model's configuration and program."""
    for tensor in (*signature.inputs, *signature.outputs):
        if not tensor.shape or tensor.shape[0] != -1:
            raise ConfigError(
                f"{NAME}: {tensor.name!r} has the shape {tensor.shape}; Triton's batches need -1 "
                "as the first size of each tensor."
            )
    folder = means.base / "repository" / MODEL
    (folder / "1").mkdir(parents=True)
    program = Path(__file__).with_name("model.py")
    (folder / "1" / "model.py").write_bytes(program.read_bytes())
    parameters = {
        "model_dir": str(means.base / "model"),
        "program": program_name(),
        "signature": msgspec.json.encode(signature).decode(),
        "device": target.device,
        "threads": str(means.threads),
    }
    config = [
        f'name: "{MODEL}"',
        'backend: "python"',
        f"max_batch_size: {target.max_batch}",
        *(f"input {_described(tensor)}" for tensor in signature.inputs),
        *(f"output {_described(tensor)}" for tensor in signature.outputs),
        f"dynamic_batching {{ max_queue_delay_microseconds: {round(target.max_delay_s * 1e6)} }}",
        *(
            f"parameters {{ key: {json.dumps(name)} "
            f"value: {{ string_value: {json.dumps(value)} }} }}"
            for name, value in parameters.items()
        ),
    ]
    (folder / "config.pbtxt").write_text("\n".join(config) + "\n", encoding="utf-8")


def _described(tensor: Tensor) -> str:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    dims = ", ".join(map(str, tensor.shape[1:]))
    # A tensor of one dimension, that of the batch, must be told as one more of size 1.
    shape = f"dims: [{dims}]" if dims else "dims: [1] reshape: { shape: [] }"
    return f"{{ name: {json.dumps(tensor.name)} data_type: TYPE_{kind} {shape} }}"


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _last_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith(("E", "error"))]
    return (errors or lines or ["it said nothing"])[-1] if not errors else errors[0]
