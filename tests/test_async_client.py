"""Asynchronous load: where its inputs go, what it is told, how it ends."""

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest

from bench.arrivals import Constant
from bench.children import start_load
from bench.loops import Closed
from bench.measure import Model, Order, measure
from bench.payload import Payload
from bench.plan import Plan
from bench.record import Records, read_records
from bench.run import Run
from bench.target import Async
from bench.workload import Objective, Workload
from servers.__main__ import DRAIN_S
from tests.answering import listening
from tests.asynchronous import MODEL, deployed, outcome, s3
from tests.serving import eventually, serving

pytestmark = pytest.mark.slow

MakeModel = Callable[[str], Path]
ALWAYS = Async(min_instances=1)
WORKLOAD = Workload(
    name="queued",
    title="requests for a queue",
    scenario="sustained",
    duration_s=1.0,
    arrivals=Constant(5.0),
    objective=Objective(60.0),
    payload=Payload(content_type="text/plain", accept="text/plain"),
)


class Silent:
    """A watcher that says nothing."""

    def phase(self, mode: str, text: str) -> None: ...
    def expect(self, *_: object) -> None: ...
    def live(self, at_s: float, new: Records) -> None: ...


def run(folder: Path, workload: Workload, target: Async, make_model: MakeModel) -> Run:
    (folder / "body").write_bytes(b"hello")
    model = Model("echo", make_model(MODEL), "0" * 64)
    order = Order(workload, target, model, [folder / "body"], "test")
    measured = measure(order, folder / "run", Silent())
    assert measured.manifest["load"]["balanced"]
    assert (folder / "run" / "locust.log").read_text() == ""
    assert (folder / "run" / "servers.log").read_text() == ""
    return measured


def test_inputs_go_to_the_store_that_the_settings_name(
    tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so do the results; the server's own store stays empty."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    model = make_model(MODEL)
    with serving(deployed(model, Async(output_path="s3://mine/out")), tmp_path / "other") as other:
        target = Async(
            min_instances=1, store_url=f"{other.address}/s3", output_path="s3://mine/out"
        )
        found = run(tmp_path, WORKLOAD, target, lambda _: model).requests()
        listed = s3(other).list_objects_v2(Bucket="mine")["Contents"]
    assert list(found["error"]) == [""] * 5
    assert (found["upload_s"] > 0).all()
    places = [each["Key"].partition("/")[0] for each in listed]
    assert (places.count("input"), places.count("out")) == (5, 5)


def test_a_closed_loop_waits_for_results(tmp_path: Path, make_model: MakeModel) -> None:
    """A user sends again when the result of the last request is there."""
    closed = msgspec.structs.replace(WORKLOAD, arrivals=Closed(users=2, think_s=0.2))
    measured = run(tmp_path, msgspec.structs.replace(closed, duration_s=3.0), ALWAYS, make_model)
    found = measured.requests()
    assert len(found) > 4
    assert (found["error"] == "").all()


class Hasty:
    """A server that ends every connection after an invocation, and does not say so."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._listens = threading.Event()

    def serve(self, connection: socket.socket, number: int) -> None:
        while head := _head(connection):
            if head.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n\n")
                self._listener = connection
                self._listens.set()
                connection.recv(1)  # until the caller ends
                return
            connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            if head.startswith(b"POST"):
                return self._tell(re.search(rb"Inference-Id: (\S+)", head))
        del number

    def _tell(self, found: re.Match[bytes] | None) -> None:
        assert found is not None
        assert self._listens.wait(10)
        assert self._listener is not None
        told = {"inferenceId": found[1].decode(), "status": 200, "error": "", "bytes": 0}
        self._listener.sendall(json.dumps({**told, "timing": ""}).encode() + b"\n")


def _head(connection: socket.socket) -> bytes:
    """A request's head, with its body if that is small; empty when the caller has closed."""
    head = b""
    while b"\r\n\r\n" not in head or (head.startswith(b"PUT") and b"hello" not in head):
        if not (piece := connection.recv(65536)):
            return b""
        head += piece
    return head


def test_a_connection_that_the_server_has_ended_fails_no_request(tmp_path: Path) -> None:
    """The next request has one of its own."""
    (tmp_path / "body").write_bytes(b"hello")
    records = tmp_path / "records"
    with listening(Hasty().serve) as address:
        url = f"{address}/endpoints/hasty/async-invocations"
        plan = Plan(WORKLOAD, url, [str(tmp_path / "body")], records=str(records))
        load = start_load(plan, tmp_path)
        try:
            eventually(lambda: load.exit_code is not None, "all is sent")
        finally:
            load.stop()
    assert load.log.read_text() == ""
    found = read_records(records.read_bytes())
    assert set(found["error"]) == {b""}
    assert len(found) == 5


def test_open_lines_do_not_hold_up_the_end(tmp_path: Path, make_model: MakeModel) -> None:
    """The server ends them, and itself, at once; and a model has the time that the option gives."""
    with serving(deployed(make_model(MODEL), ALWAYS), tmp_path / "run") as server:
        (instance,) = server.instances()
        assert instance.environ()["SAGEMAKER_MODEL_SERVER_TIMEOUT"] == "3600"
        parts = urlsplit(server.address)
        line = http.client.HTTPConnection(parts.netloc, timeout=60)
        line.request("GET", "/endpoints/later/notifications")
        answer = line.getresponse()
        assert answer.readline() == b"\n"
        psutil.Process(server.child.pid).terminate()
        eventually(lambda: server.child.exit_code is not None, "it has ended", DRAIN_S / 2)
        assert answer.read() == b""
        line.close()


def certified(folder: Path) -> Path:
    """A self-signed certificate of localhost; its key lies beside it."""
    path = folder / "localhost.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    if shutil.which("openssl") is None:
        pytest.skip("this machine has no openssl to make a certificate with")
    subprocess.run(command, capture_output=True, check=True)
    return path


def give(connection: socket.socket, number: int) -> None:
    """Answer the first request of a connection."""
    del number
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nover TLS")


def test_an_input_is_fetched_over_tls(
    tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a server that SSL_CERT_FILE vouches for; without that it is a failure."""
    certificate = certified(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with listening(give, tls=context) as address:
        for trusted in (False, True):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            folder = tmp_path / str(trusted)
            with serving(deployed(make_model(MODEL), ALWAYS), folder) as server:
                answer = server.client().invoke_endpoint_async(
                    EndpointName="later", InputLocation=f"{address}/object?X-Amz-Signature=secret"
                )
                kind, text = outcome(server, answer)
            if trusted:
                assert (kind, text) == ("output", b"over TLS")
            else:
                assert kind == "failure"
                assert b"Certificate" in text
