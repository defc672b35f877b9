import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from servers.batcher import Batcher, Policy
from servers.bodies import JSON
from servers.engine import Engine
from servers.handlers import load_handlers
from servers.model_app import Served, Startup, make_app
from servers.model_server import Settings

MakeModel = Callable[[str], Path]
Sent = list[dict[str, Any]]

ECHO = """
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): return body
"""
# Says that it has begun, then works until it is released: the tests decide when.
HELD = """
import os, time
def model_fn(model_dir): return model_dir
def transform_fn(model, body, content_type, accept):
    open(model + "/begun", "w").close()
    until = time.monotonic() + 20
    while not os.path.exists(model + "/release") and time.monotonic() < until:
        time.sleep(0.005)
    return body
"""


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = 30) -> Any:
    """The first true value of ``condition``; fails with ``what`` when it takes too long."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.002)  # a poll with a deadline
    raise AssertionError(f"waited {deadline_s} s for {what}")


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def request(
    port: int, method: str, path: str, body: bytes | None = None
) -> http.client.HTTPResponse:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        answer.content = answer.read()  # type: ignore[attr-defined]
        return answer


def is_ready(port: int) -> bool:
    try:
        return request(port, "GET", "/ping").status == 200
    except ConnectionError:
        return False


def command_and_environment(folder: Path, port: int, **more: str) -> dict[str, Any]:
    environment = {
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_BASE_DIR": str(folder.parent),
        "WEIGHBRIDGE_PARENT_PID": str(os.getpid()),
        **more,
    }
    return {
        "args": [sys.executable, "-m", "servers.model_server"],
        "env": {**os.environ, **environment},
        "stderr": subprocess.PIPE,
        "text": True,
    }


@contextmanager
def serving(folder: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The real process, ready to answer, and its port."""
    port = free_port()
    with subprocess.Popen(**command_and_environment(folder, port, **more)) as process:
        try:
            wait_for(lambda: process.poll() is not None or is_ready(port), "the model server")
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield process, port
        finally:
            process.kill()


def call(folder: Path, method: str, path: str, chunks: list[bytes], **more: int) -> Sent:
    """What the application sends for one request, without a process or a socket."""
    headers = [(b"content-type", JSON.encode())]
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False
    sent: Sent = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as thread:
        handlers = load_handlers(folder)
        engine = Engine(handlers, handlers.load_model(folder))
        batcher = Batcher(engine, Policy(max_batch=1, max_waiting=more.get("max_waiting", 10)))
        batcher.start(thread)
        app = make_app(Served(batcher, Startup(1.25, 0.5, 0.0), more.get("limit", 100)))
        scope = {"type": "http", "method": method, "path": path, "headers": headers}

        async def once() -> None:
            await app(scope, receive, send)

        asyncio.run(once())
        batcher.stop()
    return sent


def header(sent: Sent, name: bytes) -> bytes | None:
    return dict(sent[0]["headers"]).get(name)


def test_ping_tells_what_the_start_cost(make_model: MakeModel) -> None:
    """/ping is an empty 200 with the parts of the cold start in milliseconds."""
    sent = call(make_model(ECHO), "GET", "/ping", [b""])
    assert (sent[0]["status"], sent[1]["body"]) == (200, b"")
    assert (
        header(sent, b"server-timing") == b"import;dur=1250.000, load;dur=500.000, warmup;dur=0.000"
    )


def test_execution_parameters_are_those_of_batch(make_model: MakeModel) -> None:
    """/execution-parameters answers what a transform job would assume without it."""
    sent = call(make_model(ECHO), "GET", "/execution-parameters", [b""])
    assert json.loads(sent[1]["body"]) == {
        "MaxConcurrentTransforms": 1,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 6,
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/models", 404),
        ("GET", "/invocations", 405),
        ("POST", "/ping", 405),
    ],
)
def test_other_paths_and_methods_are_refused(
    make_model: MakeModel, method: str, path: str, status: int
) -> None:
    """What is not part of the contract is a 404 or a 405."""
    assert call(make_model(ECHO), method, path, [b""])[0]["status"] == status


def test_a_body_in_pieces_is_put_together(make_model: MakeModel) -> None:
    """A chunked body reaches the model whole, and the answer is timed."""
    sent = call(make_model(ECHO), "POST", "/invocations", [b"[1,", b"2]"])
    assert (sent[0]["status"], sent[1]["body"]) == (200, b"[1,2]")
    number = rb"\d+\.\d{3}"
    pattern = b", ".join(
        name + b";dur=" + number for name in (b"queue", b"decode", b"predict", b"encode")
    )
    assert re.fullmatch(pattern, header(sent, b"server-timing") or b"")


def test_a_body_in_pieces_cannot_pass_the_limit(make_model: MakeModel) -> None:
    """A body without Content-Length is counted while it comes, and refused with 413."""
    sent = call(make_model(ECHO), "POST", "/invocations", [b"x" * 60, b"x" * 60, b"x"])
    assert sent[0]["status"] == 413
    assert header(sent, b"server-timing") is not None


def test_a_full_queue_is_a_503(make_model: MakeModel) -> None:
    """Requests beyond what may wait are refused at once."""
    sent = call(make_model(ECHO), "POST", "/invocations", [b"1"], max_waiting=0)
    assert sent[0]["status"] == 503


def test_settings_have_the_contracts_defaults() -> None:
    """An empty environment means port 8080, /opt/ml/model, 100 MB, JSON and loopback."""
    settings = Settings.from_environment({})
    assert (settings.port, settings.host, settings.model_dir) == (
        8080,
        "127.0.0.1",
        Path("/opt/ml/model"),
    )
    assert (settings.max_payload_bytes, settings.default_accept) == (100 << 20, "application/json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "70000"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "lots"),
        ("SAGEMAKER_PROGRAM", "../x.py"),
        ("WEIGHBRIDGE_THREADS", "0"),
        ("WEIGHBRIDGE_DEVICE", "tpu"),
        ("WEIGHBRIDGE_DEVICE", "cuda:x"),
    ],
)
def test_a_bad_setting_is_named(name: str, value: str) -> None:
    """The message names the variable and its value."""
    with pytest.raises(ConfigError, match=f"{name} is '{re.escape(value)}'"):
        Settings.from_environment({"WEIGHBRIDGE_DEVICE": "auto", name: value})


@pytest.mark.slow
def test_the_process_answers_over_http(make_model: MakeModel) -> None:
    """The real server echoes a large body, refuses one over its limit and goes on serving."""
    with serving(make_model(ECHO), SAGEMAKER_MAX_PAYLOAD_IN_MB="1") as (_, port):
        body = bytes(range(256)) * 4096
        answer = request(port, "POST", "/invocations", body)
        assert (answer.status, answer.content) == (200, body)  # type: ignore[attr-defined]
        assert answer.headers["Server-Timing"].startswith("queue;dur=")
        assert request(port, "POST", "/invocations", body + b"x").status == 413
        assert request(port, "POST", "/invocations", b"again").status == 200
        assert request(port, "GET", "/ping").headers["Server-Timing"].startswith("import;dur=")


@pytest.mark.slow
def test_what_it_holds_is_finished_before_it_leaves(make_model: MakeModel) -> None:
    """While the model works /ping answers; a call held at SIGTERM is answered, then exit 0."""
    folder = make_model(HELD)
    with serving(folder) as (process, port), ThreadPoolExecutor(1) as caller:
        answer = caller.submit(request, port, "POST", "/invocations", b"held")
        wait_for((folder / "begun").exists, "the model to begin")
        assert is_ready(port)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not is_ready(port), "the port to be closed")
        assert not answer.done()
        (folder / "release").touch()
        assert answer.result(timeout=10).content == b"held"  # type: ignore[attr-defined]
        assert process.wait(timeout=10) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            "import no_such_module",
            r"inference\.py cannot be imported: ModuleNotFoundError: No module",
        ),
        ("raise SystemExit(0)", r"inference\.py cannot be imported: SystemExit: 0"),
        ("def predict_fn(d, m): ...", r"inference\.py defines no model_fn"),
        (
            "def model_fn(d): raise OSError('no\\nweights')\ndef predict_fn(d, m): ...",
            "model_fn failed: OSError: no weights",
        ),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_the_process(
    make_model: MakeModel, program: str, reason: str
) -> None:
    """The exit code is not zero and the last line on stderr is the reason."""
    options = command_and_environment(make_model(program), free_port())
    done = subprocess.run(**options, timeout=60, check=False)
    assert done.returncode == 1
    assert re.search(reason, done.stderr.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["SAGEMAKER_BIND_TO_PORT", "WEIGHBRIDGE_GRPC_PORT"])
def test_a_port_in_use_ends_the_process(make_model: MakeModel, variable: str) -> None:
    """The reason names the port and the variable that gives another."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = int(taken.getsockname()[1])
        options = command_and_environment(make_model(ECHO), free_port(), **{variable: str(port)})
        done = subprocess.run(**options, timeout=60, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port} cannot be bound" in done.stderr.splitlines()[-1]
    assert variable in done.stderr


@pytest.mark.slow
def test_digits_are_served_from_the_archive(digits_archive: Path, tmp_path: Path) -> None:
    """The built-in model, unpacked and started as a container, reads its own samples."""
    from servers.archive import unpack_model
    from servers.samples import samples

    folder = unpack_model(digits_archive, tmp_path / "model")
    labels = [entry["label"] for entry in json.loads((folder / "samples.json").read_text())]
    read = []
    with (
        serving(folder, WEIGHBRIDGE_THREADS="1") as (_, port),
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
    ):
        for body in samples(folder):
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            read.append(json.load(connection.getresponse())["predictions"][0]["label"])
    assert sum(a == b for a, b in zip(read, labels, strict=True)) >= 0.97 * len(labels) - 1
