"""Other model servers for `tests/perf_model_server.py`, each in an environment of its own.

The environments are made once, of pinned versions, and kept in ``.cache`` (`make_environments`).

All of them load the same ``code/inference.py`` and take the same body of the V2 protocol.
"""

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.errors import ConfigError
from servers.triton.environment import default_environment, ready_environment, variables
from tests.conftest import CACHE
from tests.test_model_server import free_port

START_S = 90

PACKAGES = {
    "LitServe": "litserve==0.2.19",
    "MLServer": "mlserver==1.7.1",
    "KServe": "kserve==0.21.0",
}

COMMON = """
import os, sys
import numpy as np, torch
torch.set_num_threads(1)
sys.path.insert(0, os.path.join(os.environ["MODEL_DIR"], "code"))
import inference
def arrays(result):
    result = result if isinstance(result, tuple) else (result,)
    return [each.numpy() if hasattr(each, "numpy") else np.asarray(each) for each in result]
"""

LITSERVE = (
    COMMON
    + """
import litserve
class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = inference.model_fn(os.environ["MODEL_DIR"])
    def decode_request(self, request):
        tensor = request["inputs"][0]
        data = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        return torch.from_numpy(data)
    def predict(self, data):
        return arrays(inference.predict_fn(data, self.model))
    def encode_response(self, output):
        named = enumerate(output)
        return {"outputs": [{"name": str(n), "data": a.ravel().tolist()} for n, a in named]}
if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu")
    server.run(port=int(os.environ["PORT"]), host="127.0.0.1", generate_client_file=False,
               log_level="error", num_api_servers=1)
"""
)

MLSERVER = (
    COMMON
    + """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
class Model(MLModel):
    async def load(self):
        self.model = inference.model_fn(os.environ["MODEL_DIR"])
        return True
    async def predict(self, payload):
        data = NumpyCodec.decode_input(payload.inputs[0])
        result = arrays(inference.predict_fn(torch.from_numpy(data), self.model))
        outputs = [NumpyCodec.encode_output(str(n), a.reshape(len(data), -1))
                   for n, a in enumerate(result)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
"""
)

PYTRITON = (
    COMMON
    + """
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
model = inference.model_fn(os.environ["MODEL_DIR"])
@batch
def infer(images):
    return [a.reshape(len(images), -1).astype(np.float32)
            for a in arrays(inference.predict_fn(torch.from_numpy(images), model))]
count = len(arrays(inference.predict_fn(torch.zeros(1, 64), model)))
config = TritonConfig(http_port=int(os.environ["PORT"]), grpc_port=int(os.environ["PORT"]) + 1,
                      metrics_port=int(os.environ["PORT"]) + 2, http_address="127.0.0.1")
with Triton(config=config) as server:
    server.bind(model_name="model", infer_func=infer,
                inputs=[Tensor(name="images", dtype=np.float32, shape=(64,))],
                outputs=[Tensor(name=f"o{n}", dtype=np.float32, shape=(-1,)) for n in range(count)],
                config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher()))
    server.serve()
"""
)

KSERVE = (
    COMMON
    + """
from kserve import InferOutput, InferResponse, Model, ModelServer
class Served(Model):
    def __init__(self):
        super().__init__("model")
        self.model = inference.model_fn(os.environ["MODEL_DIR"])
        self.ready = True
    def predict(self, payload, headers=None, response_headers=None):
        data = payload.inputs[0].as_numpy()
        outputs = []
        result = inference.predict_fn(torch.from_numpy(data.copy()), self.model)
        for n, a in enumerate(arrays(result)):
            a = a.reshape(len(data), -1).astype(np.float32)
            output = InferOutput(name=f"o{n}", shape=list(a.shape), datatype="FP32")
            output.set_data_from_numpy(a, binary_data=True)
            outputs.append(output)
        return InferResponse(response_id="1", model_name="model", infer_outputs=outputs)
if __name__ == "__main__":
    port = int(os.environ["PORT"])
    ModelServer(http_port=port, grpc_port=port + 1, workers=1).start([Served()])
"""
)

ML_SETTINGS = (
    '{"debug": false, "host": "127.0.0.1", "http_port": %d, "grpc_port": %d, '
    '"metrics_port": %d, "parallel_workers": 0}'
)
ML_MODEL = (
    '{"name": "model", "implementation": "served.Model", "max_batch_size": 32, '
    '"max_batch_time": 0.001}'
)


@dataclass(frozen=True)
class Peer:
    """A server at work."""

    url: str
    pid: int
    grpc_port: int = 0
    name: str = ""


class NotHere(Exception):
    """A server that cannot be had on this machine; the text says why."""


@contextlib.contextmanager
def litserve(model: Path, folder: Path) -> Iterator[Peer]:
    """LitServe, one worker."""
    python = _environment("LitServe")
    script = _written(folder, LITSERVE)
    with _running([str(python), str(script)], model, "/health", core=0) as (port, pid):
        yield Peer(f"http://127.0.0.1:{port}/predict", pid)


@contextlib.contextmanager
def mlserver(model: Path, folder: Path) -> Iterator[Peer]:
    """MLServer in one process, with its adaptive batching."""
    python = _environment("MLServer")
    _written(folder, MLSERVER)
    port = free_port()
    (folder / "settings.json").write_text(ML_SETTINGS % (port, free_port(), free_port()))
    (folder / "model-settings.json").write_text(ML_MODEL)
    command = [str(python.with_name("mlserver")), "start", str(folder)]
    with _running(command, model, "/v2/models/model/ready", core=0, port=port) as (_, pid):
        yield Peer(f"http://127.0.0.1:{port}/v2/models/model/infer", pid)


@contextlib.contextmanager
def pytriton(model: Path, folder: Path) -> Iterator[Peer]:
    """PyTriton: Triton with its own proxy to a Python process."""
    environment = _triton_environment()
    script = _written(folder, PYTRITON)
    command = [str(environment / "bin" / "python"), str(script)]
    path = {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}
    with _running(command, model, "/v2/models/model/ready", core=0, more=path) as (port, pid):
        yield Peer(f"http://127.0.0.1:{port}/v2/models/model/infer", pid, port + 1)


@contextlib.contextmanager
def kserve(model: Path, folder: Path) -> Iterator[Peer]:
    """KServe's own server in one process."""
    python = _environment("KServe")
    script = _written(folder, KSERVE)
    ready = "/v2/models/model/ready"
    with _running([str(python), str(script)], model, ready, core=0) as (port, pid):
        yield Peer(f"http://127.0.0.1:{port}/v2/models/model/infer", pid, port + 1)


@contextlib.contextmanager
def triton(model: Path, folder: Path) -> Iterator[Peer]:
    """Triton with its Python backend, the repository that ``--target triton`` uses."""
    from bench.target import Triton
    from servers.signature import read_signature
    from servers.triton.endpoint import TritonMeans, write_repository
    from servers.triton.environment import server_of

    environment = _triton_environment()
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(model)
    signature = read_signature(model)
    assert signature is not None
    means = TritonMeans(folder, folder / "log", None, 1)  # type: ignore[arg-type]
    write_repository(means, Triton(), signature)
    server, port, grpc = server_of(environment), free_port(), free_port()
    command = [
        *(str(server / "bin" / "tritonserver"), f"--model-repository={folder / 'repository'}"),
        *(f"--backend-directory={server / 'backends'}", f"--http-port={port}"),
        *(f"--grpc-port={grpc}", "--allow-metrics=false", "--http-address=127.0.0.1"),
    ]
    more = variables(environment)
    ready = "/v2/models/model/ready"
    with _running(command, model, ready, core=0, port=port, more=more) as (_, pid):
        yield Peer(f"http://127.0.0.1:{port}/v2/models/model/infer", pid, grpc)


def make_environments() -> dict[str, str]:
    """Make those that are missing, side by side: minutes. Why one cannot be had, by its name."""
    makers: dict[str, Callable[[], Path]] = {name: partial(_environment, name) for name in PACKAGES}
    failures: dict[str, str] = {}

    def make(name: str) -> None:
        try:
            makers[name]()
        except (NotHere, ConfigError) as reason:
            failures[name] = str(reason)

    makers["Triton"] = _triton_environment
    with ThreadPoolExecutor(len(makers)) as pool:
        list(pool.map(make, makers))
    return failures


def _triton_environment() -> Path:
    return ready_environment(default_environment(CACHE / "weighbridge"), print)


def _environment(name: str) -> Path:
    """The Python of an environment that has the package, and our torch behind it."""
    package = PACKAGES[name]
    folder = CACHE / "weighbridge" / f"peer-{package}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"Making an environment for {name} (once, some minutes) …", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=False)
    install = [str(python), "-m", "pip", "install", "--quiet", package]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if made.returncode or done.returncode:
        raise NotHere(next(iter(done.stderr.strip().splitlines()[-1:]), "no environment"))
    [site] = folder.glob("lib/python3.*/site-packages")
    ours = {sysconfig.get_paths()["purelib"], *(path for path in sys.path if "-packages" in path)}
    (site / "ours.pth").write_text("".join(f"{path}\n" for path in sorted(ours)))
    (folder / "complete").touch()
    return python


def _written(folder: Path, program: str) -> Path:
    folder.mkdir(parents=True)
    script = folder / "served.py"
    script.write_text(program)
    return script


@contextlib.contextmanager
def _running(
    command: list[str], model: Path, ready: str, core: int, **how: object
) -> Iterator[tuple[int, int]]:
    """The process, pinned to a core, ready to answer: its port and id."""
    port = how.get("port") or free_port()
    more = how.get("more") or {}
    assert isinstance(port, int)
    assert isinstance(more, dict)
    environment = {**os.environ, "MODEL_DIR": str(model), "PORT": str(port), **more}
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        env={**environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=Path(command[-1]).parent if command[-1].endswith(".py") else None,
    )
    try:
        deadline = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotHere(f"it did not start: {' '.join(command)}")
            time.sleep(0.2)
        yield port, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


PEERS = {"LitServe": litserve, "MLServer": mlserver, "PyTriton": pytriton, "Triton, Python": triton}
GRPC_PEERS = {"KServe": kserve, "PyTriton": pytriton, "Triton, Python": triton}
