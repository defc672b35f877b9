"""The clients that users have in their programs, each against a real server."""

import functools
import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.deployment import Deployment, Endpoint
from bench.errors import USAGE
from bench.record import Records
from bench.target import Realtime
from tests.loading import SCENARIOS, load, sets
from tests.serving import ECHO, Serving, serving

pytestmark = pytest.mark.slow

STEADY = ("duration_s=1", 'arrivals={kind="constant", rate_rps=20}')
LARGE = "x" * 300_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "model" / "code").mkdir(parents=True)
    (folder / "model" / "code" / "inference.py").write_text(ECHO)
    endpoints = [Endpoint("echo", Realtime(), str(folder / "model"))]
    with serving(Deployment(endpoints), folder / "run") as running:
        yield running


def sent(server: Serving, folder: Path, bodies: list[object], *changes: str) -> Records:
    options = sets(*STEADY, *changes)
    return load(server.address, folder, bodies, "--endpoint", "echo", *options)


@pytest.mark.parametrize("kind", ["direct", "fasthttp", "boto3"])
def test_each_client_gives_the_same_kind_of_records(
    server: Serving, tmp_path: Path, kind: str
) -> None:
    """Status, size, first byte and the server's own timing, of answers and of failures alike."""
    bodies: list[object] = [[1, 2], LARGE, "fail"]
    records = sent(server, tmp_path, bodies, f"client.kind={kind}")
    small, large, failed = records[::3], records[1::3], records[2::3]
    assert len(records) == 20
    assert set(small["status"]) == set(large["status"]) == {200}
    assert set(small["response_bytes"]) == {len(b"[1,2]")}
    assert set(large["response_bytes"]) == {len(LARGE) + 2}
    assert set(large["request_bytes"]) == {len(LARGE) + 2}
    assert set(failed["status"]) == {424}
    assert set(failed["error"]) == {b"ModelError"}
    answered = np.concatenate((small, large))
    assert (answered["model_s"] > 0).all()
    assert set(answered["instance"]) == {b"instance-1"}
    assert (records["sent_s"] >= records["due_s"]).all()
    assert (records["first_byte_s"] >= records["sent_s"]).all()
    assert (records["done_s"] >= records["first_byte_s"]).all()


@pytest.mark.parametrize("kind", ["direct", "fasthttp", "boto3"])
def test_a_new_connection_has_its_time(server: Serving, tmp_path: Path, kind: str) -> None:
    """Whoever opens one says how long it took; whoever finds one open does not."""
    records = sent(server, tmp_path, [1], f"client.kind={kind}")
    opened = records[~np.isnan(records["connect_s"])]
    assert 1 <= len(opened) < len(records)
    assert np.isfinite(records["connect_s"][0])
    assert (opened["connect_s"] > 0).all()
    assert (opened["connect_s"] < opened["done_s"] - opened["sent_s"]).all()


OWN = """
import urllib.error
import urllib.request

def send(request):
    body = request.body if isinstance(request.body, bytes) else request.body.read()
    made = urllib.request.Request(request.url, body, request.headers)
    try:
        with urllib.request.urlopen(made, timeout=request.timeout_s) as answer:
            request.first_byte()
            return answer.read()
    except urllib.error.HTTPError as error:
        return error.code

def broken(request):
    raise LookupError("nothing")
"""


def test_a_function_of_ones_own_sends(server: Serving, tmp_path: Path) -> None:
    """What it returns is the answer or its status; what it raises is the error."""
    (tmp_path / "mine.py").write_text(OWN)
    path = f'client={{kind="function", path="{tmp_path}/mine.py:send"}}'
    records = sent(server, tmp_path, ["abc", "fail", LARGE], path)
    assert set(records["response_bytes"][::3]) == {len('"abc"')}
    assert set(records["error"][::3]) == {b""}
    assert np.isfinite(records["first_byte_s"][::3]).all()
    assert set(records["error"][1::3]) == {b"HTTP 424"}
    assert set(records["response_bytes"][2::3]) == {len(LARGE) + 2}


def test_a_function_that_fails_is_a_failed_request(server: Serving, tmp_path: Path) -> None:
    """By the name of what it raised, and the run goes on."""
    (tmp_path / "mine.py").write_text(OWN)
    path = f'client={{kind="function", path="{tmp_path}/mine.py:broken"}}'
    assert set(sent(server, tmp_path, [1], path)["error"]) == {b"LookupError"}


@pytest.mark.parametrize(
    ("path", "reason"), [("none.py:send", "no Python file"), ("mine.py:other", "no function")]
)
def test_a_function_that_is_not_there_is_told(tmp_path: Path, path: str, reason: str) -> None:
    """Before anything is sent."""
    (tmp_path / "mine.py").write_text(OWN)
    command = ["locust", "-f", str(SCENARIOS / "sustained.py"), "--headless"]
    command += ["--host", "http://127.0.0.1:9"]
    command += sets(f'client={{kind="function", path="{tmp_path}/{path}"}}')
    done = run_locust(command)
    assert done.returncode == USAGE
    assert reason in done.stderr


def run_locust(command: list[str]) -> "subprocess.CompletedProcess[str]":
    import sys

    full = [sys.executable, "-m", *command]
    return subprocess.run(full, capture_output=True, text=True, timeout=60, check=False)


class Inference(http.server.BaseHTTPRequestHandler):
    """Answers the Open Inference Protocol: sums the input tensor, or echoes any body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = 200, body
        if self.path.startswith("/v2/models/"):
            status, answer = self._infer(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _infer(self, body: bytes) -> tuple[int, bytes]:
        if self.path != "/v2/models/sum/infer":
            return 404, b'{"error": "unknown model"}'
        length = int(self.headers["Inference-Header-Content-Length"])
        asked = json.loads(body[:length])["inputs"][0]
        values = np.frombuffer(body[length:], np.float32).reshape(asked["shape"])
        output = {"name": "SUM", "datatype": "FP32", "shape": [1], "data": [float(values.sum())]}
        return 200, json.dumps({"model_name": "sum", "outputs": [output]}).encode()

    def log_message(self, format: str, *arguments: Any) -> None: ...


@contextmanager
def http_server(context: ssl.SSLContext | None = None) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inference) as running:
        running.daemon_threads = True
        if context is not None:
            running.socket = context.wrap_socket(running.socket, server_side=True)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The same over gRPC."""

    def ModelInfer(self, request: Any, context: Any) -> Any:
        if request.model_name != "sum":
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        values = np.frombuffer(request.raw_input_contents[0], np.float32)
        answer = service_pb2.ModelInferResponse(model_name="sum")
        answer.outputs.add(name="SUM", datatype="FP32", shape=[1])
        answer.raw_output_contents.append(values.sum(dtype=np.float32).tobytes())
        return answer


@contextmanager
def grpc_server() -> Iterator[str]:
    running = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(0).wait()


@pytest.mark.parametrize(
    ("kind", "serve", "lost"),
    [("triton-http", http_server, b"HTTP 404"), ("triton-grpc", grpc_server, b"NOT_FOUND")],
)
def test_tritonclient_infers(tmp_path: Path, kind: str, serve: Any, lost: bytes) -> None:
    """Each body is a tensor; a model that is not there has the protocol's own error."""
    for model, folder in (("sum", tmp_path / "a"), ("other", tmp_path / "b")):
        folder.mkdir()
        with serve() as address:
            client = f'client={{kind="{kind}", model="{model}", address="{address}"}}'
            options = sets(*STEADY, client)
            records = load("http://127.0.0.1:9", folder, [[[1.0, 2.0]], [[3.0, 4.0]]], *options)
        assert len(records) == 20
        assert set(records["error"]) == ({b""} if model == "sum" else {lost})
        assert (records["response_bytes"] > 0).all() == (model == "sum")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """One that nobody has reason to trust."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = [tool, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ('client={kind="fasthttp", verify=false}', {b""}),
        ('client={kind="direct"}', {b"SSLCertVerificationError"}),
    ],
)
def test_https_is_spoken(
    tmp_path: Path, certificate: ssl.SSLContext, change: str, errors: set[bytes]
) -> None:
    """A certificate is checked unless it is said otherwise; a body may be a large one."""
    with http_server(certificate) as address:
        options = sets(*STEADY, change)
        records = load(f"https://{address}", tmp_path, [1, LARGE], *options)
    assert set(records["error"]) == errors
    if errors == {b""}:
        assert set(records["response_bytes"][1::2]) == {len(LARGE) + 2}


def test_a_closed_loop_waits_for_each_answer(server: Serving, tmp_path: Path) -> None:
    """Never more requests open than users; each due when its user has thought; all answered."""
    change = 'arrivals={kind="closed", users=3, think_s=0.05}'
    records = sent(server, tmp_path, [{"sleep_s": 0.1}], "duration_s=2", change)
    begins = np.sort(records["sent_s"])
    ends = np.sort(records["done_s"])
    opened = np.searchsorted(begins, begins, side="right") - np.searchsorted(ends, begins)
    assert opened.max() <= 3
    assert records["due_s"].max() < 2
    assert (records["sent_s"] >= records["due_s"]).all()
    # Little's law: at any time each of the three waits for an answer or thinks.
    cycle_s = (records["done_s"] - records["due_s"]).mean() + 0.05
    assert len(records) * cycle_s / 2 == pytest.approx(3, rel=0.25)
    assert np.median(records["sent_s"] - records["due_s"]) < 0.005
    assert set(records["error"]) == {b""}


def test_a_closed_loop_without_thinking_never_rests(server: Serving, tmp_path: Path) -> None:
    """Each next request is due the moment the answer before it came."""
    change = 'arrivals={kind="closed", users=1, think_s=0}'
    records = sent(server, tmp_path, [1], "duration_s=1", change)
    assert len(records) > 20
    assert records["due_s"][1:] == pytest.approx(records["done_s"][:-1], abs=1e-9)


MEMORY = """
from locust import events
from bench.process import peak_memory_bytes
from scenarios.engine import OpenLoopUser

class Sustained(OpenLoopUser):
    scenario = "sustained"

BEFORE = []

@events.test_start.add_listener
def begin(**rest):
    BEFORE.append(peak_memory_bytes())

@events.quitting.add_listener
def tell(**rest):
    print("grew by", peak_memory_bytes() - BEFORE[0])
"""


def test_large_bodies_are_never_held(tmp_path: Path) -> None:
    """Bodies of 200 MB each, several at once, grow the generator by a fraction of one."""
    (tmp_path / "file.py").write_text(MEMORY)
    size = 200 * 2**20
    command = ["locust", "-f", str(tmp_path / "file.py"), "--headless"]
    command += ["--payload", str(SCENARIOS / "payloads"), "--records", str(tmp_path / "records")]
    command += sets(
        *("duration_s=0.3", 'arrivals={kind="constant", rate_rps=10}'),
        f'payload.size={{kind="constant", bytes={size}}}',
    )
    got: list[int] = []
    with draining(got) as address:
        done = run_in(SCENARIOS.parent, [*command, "--host", address])
    assert got == [size] * 3
    (grown,) = [line for line in done.stdout.splitlines() if line.startswith("grew by")]
    assert int(grown.removeprefix("grew by")) < 60 * 2**20


def run_in(root: Path, command: list[str]) -> "subprocess.CompletedProcess[str]":
    import os
    import sys

    return subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


class Drain(http.server.BaseHTTPRequestHandler):
    """Counts the bytes of each body and forgets them."""

    protocol_version = "HTTP/1.1"

    def __init__(self, got: list[int], *arguments: Any) -> None:
        self._got = got
        super().__init__(*arguments)

    def do_POST(self) -> None:
        buffer, count = bytearray(2**20), 0
        left = int(self.headers["Content-Length"])
        while left and (read := self.rfile.readinto(memoryview(buffer)[:left])):
            count, left = count + read, left - read
        self._got.append(count)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None: ...


@contextmanager
def draining(got: list[int]) -> Iterator[str]:
    handler = functools.partial(Drain, got)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
