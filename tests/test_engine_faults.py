"""The load generator when something breaks in mid-run: honest records, no hang, no traceback."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.arrivals import Constant
from bench.children import Child, start_load
from bench.plan import Plan
from bench.raw import finish
from bench.record import Records, read_records
from bench.workload import Objective, Workload
from tests.answering import OK, listening, plainly, read_request
from tests.loading import SCENARIOS, load, sets
from tests.serving import eventually

pytestmark = pytest.mark.slow


def planned(url: str, folder: Path, duration_s: float, **changes: Any) -> Child:
    """A load of 100 requests a second on ``url``, as a measurement starts it."""
    body = folder / "body.json"
    body.write_text("[1]")
    workload = Workload(
        "faults", "", "sustained", duration_s, Constant(100.0), Objective(1.0), **changes
    )
    records, events = str(folder / "requests.bin"), str(folder / "events.jsonl")
    return start_load(Plan(workload, url, [str(body)], records=records, events=events), folder)


def ended(child: Child) -> int:
    """The exit code, once it has ended; what it printed holds no traceback."""
    eventually(lambda: child.exit_code is not None, "the load generator ends")
    assert "Traceback" not in child.log.read_text()
    assert child.exit_code is not None
    return child.exit_code


def recorded(folder: Path) -> Records:
    path = folder / "requests.bin"
    return read_records(path.read_bytes() if path.exists() else b"")


def account(folder: Path, duration_s: float) -> dict[str, Any]:
    """The manifest's account of the load, whose identities hold."""
    found = finish(folder, [], duration_s)
    check = found["selfcheck"]
    assert found["balanced"] is True
    assert check["scheduled"] == found["sent"] + found["dropped"] + found["unsent"]
    parts = (found["ok"], found["errors"], found["timeouts"], found["in_flight"])
    assert found["sent"] == sum(parts)
    return found


def test_an_interrupted_load_accounts_for_every_request(tmp_path: Path) -> None:
    """What was answered, what was on its way and what was never sent make up the schedule."""

    def every_second(connection: socket.socket, number: int) -> None:
        if number % 2:
            plainly(connection, number)
        read_request(connection)
        connection.recv(1)  # nothing more until the caller closes

    with listening(every_second) as address:
        child = planned(address, tmp_path, 60.0)
        eventually(lambda: len(recorded(tmp_path)) > 20, "some requests are answered")
        child.stop()
    assert "Traceback" not in child.log.read_text()
    found = account(tmp_path, 60.0)
    assert min(found["ok"], found["in_flight"], found["unsent"]) > 0
    assert found["duration_s"] < 60


def test_a_server_that_goes_away_leaves_errors(tmp_path: Path) -> None:
    """Before, answers; after, refused connections; the load goes on to its end."""
    gone = threading.Event()

    def until_gone(connection: socket.socket, number: int) -> None:
        del number
        while not gone.is_set() and read_request(connection) is not None:
            connection.sendall(OK + b"Content-Length: 0\r\n\r\n")

    with listening(until_gone) as address:
        child = planned(address, tmp_path, 4.0)
        eventually(lambda: len(recorded(tmp_path)) > 20, "some requests are answered")
        gone.set()
    assert ended(child) == 0
    codes = set(recorded(tmp_path)["error"])
    assert {b"", b"ConnectionRefusedError"} <= codes
    found = account(tmp_path, 4.0)
    assert (found["sent"], found["unsent"], found["in_flight"]) == (400, 0, 0)


def test_a_path_that_goes_dead_leaves_timeouts(tmp_path: Path) -> None:
    """Nothing is answered or refused any more: each request is given up after its time."""
    dead = threading.Event()

    def until_dead(connection: socket.socket, number: int) -> None:
        del number
        while read_request(connection) is not None:
            if dead.is_set():
                connection.recv(1)
                return
            connection.sendall(OK + b"Content-Length: 0\r\n\r\n")

    with listening(until_dead) as address:
        child = planned(address, tmp_path, 3.0, request_timeout_s=0.5)
        eventually(lambda: len(recorded(tmp_path)) > 20, "some requests are answered")
        dead.set()
        assert ended(child) == 0
    found = account(tmp_path, 3.0)
    assert found["ok"] > 0
    assert found["timeouts"] > 0
    assert found["sent"] == 300


BUSY = """
from locust import events
import time
import gevent
from scenarios.engine import OpenLoopUser

class Sustained(OpenLoopUser):
    scenario = "sustained"

def spin():
    while True:
        end_s = time.monotonic() + 0.02
        while time.monotonic() < end_s:
            pass
        gevent.sleep(0)

@events.test_start.add_listener
def begin(**rest):
    gevent.spawn(spin)
"""


def test_ctrl_c_under_plain_locust_ends_without_a_traceback(tmp_path: Path) -> None:
    """Also when it comes while the event loop is at work, which here it always is."""
    (tmp_path / "file.py").write_text(BUSY)
    command = [sys.executable, "-m", "locust", "-f", str(tmp_path / "file.py"), "--headless"]
    command += ["--payload", str(SCENARIOS / "payloads"), "--records", str(tmp_path / "records")]
    command += sets("duration_s=60", 'arrivals={kind="constant", rate_rps=100}')
    with listening(plainly) as address, (tmp_path / "out").open("w+") as out:
        child = subprocess.Popen(
            [*command, "--host", address],
            env={**os.environ, "PYTHONPATH": str(SCENARIOS.parent)},
            stdout=out,
            stderr=out,
        )
        eventually((tmp_path / "records").exists, "requests are recorded")
        child.send_signal(signal.SIGINT)
        code = child.wait(30)
    text = (tmp_path / "out").read_text()
    assert "Traceback" not in text
    assert code == 0
    assert "Response time percentiles" in text
    assert len(read_records((tmp_path / "records").read_bytes())) > 0


IPV6 = "::1"


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server((IPV6, 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_an_ipv6_address_is_reached(tmp_path: Path) -> None:
    """In brackets, as in any URL."""
    with listening(plainly, IPV6) as address:
        found = load(address, tmp_path, [1], *sets("duration_s=0.5"))
    assert len(found) > 0
    assert set(found["status"]) == {200}


SHORT = """
import scenarios.direct
from scenarios.engine import OpenLoopUser

scenarios.direct.CONNECT_TIMEOUT_S = 0.4

class Sustained(OpenLoopUser):
    scenario = "sustained"
"""


def test_a_connection_that_nobody_accepts_is_given_up(tmp_path: Path) -> None:
    """A listener whose queue is full says nothing; the request ends with ConnectTimeout."""
    (tmp_path / "file.py").write_text(SHORT)
    command = [sys.executable, "-m", "locust", "-f", str(tmp_path / "file.py"), "--headless"]
    command += ["--payload", str(SCENARIOS / "payloads"), "--records", str(tmp_path / "records")]
    command += sets("duration_s=0.3", 'arrivals={kind="constant", rate_rps=20}')
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(4):  # fill it
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        subprocess.run(
            [*command, "--host", f"http://127.0.0.1:{port}"],
            env={**os.environ, "PYTHONPATH": str(SCENARIOS.parent)},
            capture_output=True,
            timeout=60,
            check=False,
        )
    found = read_records((tmp_path / "records").read_bytes())
    assert set(found["error"]) == {b"ConnectTimeout"}
    waited_s = found["done_s"] - found["sent_s"]
    assert 0.39 < waited_s.min() <= waited_s.max() < 5


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate of localhost in one file."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(path), "-out", str(path) + ".crt"]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("this machine has no openssl to make a certificate with")
    path.write_text(path.read_text() + Path(str(path) + ".crt").read_text())
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[str]:
    """A server that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with listening(plainly, tls=context) as address:
        yield address


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, secure: str) -> None:
    """Each request is an error, and none is sent in the open."""
    found = load(secure, tmp_path, [1], *sets("duration_s=0.5"))
    assert len(found) > 0
    assert set(found["status"]) == {0}
    assert set(found["error"]) == {b"SSLCertVerificationError"}


def test_https_is_measured(tmp_path: Path, secure: str, certificate: Path) -> None:
    """With a certificate that SSL_CERT_FILE vouches for, all is as over plain HTTP."""
    command = [sys.executable, "-m", "locust", "-f", str(SCENARIOS / "sustained.py"), "--headless"]
    command += ["--payload", str(SCENARIOS / "payloads"), "--records", str(tmp_path / "records")]
    command += sets("duration_s=1", 'arrivals={kind="constant", rate_rps=20}')
    done = subprocess.run(
        [*command, "--host", secure],
        env={**os.environ, "SSL_CERT_FILE": str(certificate) + ".crt"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.sort(read_records((tmp_path / "records").read_bytes()), order="seq")
    assert len(found) == 20
    assert set(found["status"]) == {200}
    assert (found["done_s"] >= found["first_byte_s"]).all()
    assert (found["first_byte_s"] >= found["sent_s"]).all()
