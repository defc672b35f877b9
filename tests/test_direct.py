"""The generator's own HTTP against a server that does what each request's body says."""

import csv
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.record import Records, read_records
from tests.answering import OK, listening, plainly, read_request
from tests.loading import SCENARIOS, load, sets

pytestmark = pytest.mark.slow

LARGE_BYTES = 5_000_000
TIMEOUT_S = 0.8


def act(connection: socket.socket, number: int) -> None:
    """Do what each body says until one of them ends the connection."""
    while (body := read_request(connection)) is not None:
        what = json.loads(body)
        timing = f'Server-Timing: instance;desc="{number}"\r\n'.encode()
        for piece in PIECES.get(what, PIECES["plain"]):
            connection.sendall(piece.replace(b"TIMING", timing))
            if what in ("slow", "chunked"):
                time.sleep(0.05)
        if what == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if what == "never":
            connection.recv(1)
        if what in ("until close", "close", "half", "nothing", "garbage", "reset", "never"):
            return


PIECES = {
    "plain": [OK + b"TIMINGContent-Length: 2\r\n\r\n{}"],
    "chunked": [OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"],
    "slow": [OK, b"Content-Length: 2\r\n", b"\r\n", b"{}"],
    "continue": [b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"],
    "until close": [OK + b"\r\nabcdefg"],
    "close": [OK + b"TIMINGContent-Length: 2\r\n\r\n{}"],  # without a word, as after a time-out
    "half": [OK + b"Content-Length: 100\r\n\r\nabc"],
    "nothing": [],
    "garbage": [b"SSH-2.0-OpenSSH\r\n"],
    "reset": [],
    "never": [],
    "failure": [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"],
}
ORDER = [name for each in PIECES for name in (each, "plain")]
"""After each oddity an ordinary request, which must not suffer from it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("direct")


@pytest.fixture(scope="module")
def records(folder: Path) -> Records:
    """One load that goes twice through all that the server can do."""
    count = 2 * len(ORDER)
    change = sets(
        f"duration_s={count / 40}",
        'arrivals={kind="constant", rate_rps=40}',
        f"request_timeout_s={TIMEOUT_S}",
    )
    with listening(act) as address:
        found = load(address, folder, ORDER, *change, "--csv", str(folder / "locust"))
    assert len(found) == count
    return found


def those(records: Records, what: str) -> Records:
    """The records of the requests that asked for this."""
    return records[[ORDER[seq % len(ORDER)] == what for seq in records["seq"]]]


@pytest.mark.parametrize(
    ("what", "response_bytes"),
    [("plain", 2), ("chunked", 5), ("slow", 2), ("continue", 0), ("until close", 7), ("close", 2)],
)
def test_an_answer_is_read(records: Records, what: str, response_bytes: int) -> None:
    """Whatever its form, and whatever became of the connection before."""
    found = those(records, what)
    assert len(found) >= 2
    assert set(found["error"]) == {b""}
    assert set(found["status"]) == {200}
    assert set(found["response_bytes"]) == {response_bytes}


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("half", b"IncompleteRead"),
        ("nothing", b"RemoteDisconnected"),
        ("garbage", b"BadAnswer"),
        ("reset", b"ConnectionResetError"),
        ("never", b"Timeout"),
        ("failure", b"HTTP 503"),
    ],
)
def test_a_failure_has_its_name(records: Records, what: str, error: bytes) -> None:
    """And a status only when there was an answer."""
    found = those(records, what)
    assert set(found["error"]) == {error}
    assert set(found["status"]) == {503 if what == "failure" else 0}


def test_a_request_is_given_up_after_its_time(records: Records) -> None:
    """Not before, and not long after."""
    found = those(records, "never")
    waited_s = found["done_s"] - found["sent_s"]
    assert waited_s.min() >= TIMEOUT_S - 0.001  # it counts from when the client was asked
    assert waited_s.max() < TIMEOUT_S + 0.2


def test_the_first_byte_is_not_the_last(records: Records) -> None:
    """A slow answer begins at once and ends after its three pauses."""
    found = those(records, "slow")
    assert (found["first_byte_s"] - found["sent_s"]).max() < 0.1
    assert (found["done_s"] - found["first_byte_s"]).min() >= 0.15


def test_connections_are_kept_until_the_server_ends_them(records: Records) -> None:
    """They are fewer than the requests, and none that was closed is used again."""
    used = those(records, "plain")["instance"]
    assert len(set(used)) < 0.7 * len(used)
    for record in those(records, "close"):
        after = records[(records["seq"] > record["seq"]) & (records["instance"] != b"")]
        assert record["instance"] not in after["instance"]


def test_lateness_is_recorded_and_small(records: Records) -> None:
    """No request leaves before it is due; the usual one within a few milliseconds."""
    late_s = records["sent_s"] - records["due_s"]
    assert late_s.min() >= 0
    assert np.median(late_s) < 0.005


def test_locust_counts_each_request(records: Records, folder: Path) -> None:
    """Its CSV files have the same numbers of requests and failures as the records."""
    with (folder / "locust_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    failed = int((records["error"] != b"").sum())
    assert int(rows["Aggregated"]["Request Count"]) == len(records)
    assert int(rows["Aggregated"]["Failure Count"]) == failed
    latency_ms = (records["done_s"] - records["due_s"]) * 1000
    slowest = float(rows["Aggregated"]["Max Response Time"])
    assert slowest == pytest.approx(latency_ms.max(), abs=0.01)
    with (folder / "locust_failures.csv").open() as file:
        counted = {row["Error"]: int(row["Occurrences"]) for row in csv.DictReader(file)}
    assert sum(counted.values()) == failed
    assert counted["RequestFailed('Timeout')"] == len(those(records, "never"))


def test_a_large_body_is_sent_in_parts(tmp_path: Path) -> None:
    """Five megabytes to a server that reads slowly arrive whole; other requests go on meanwhile."""

    def slowly(connection: socket.socket, number: int) -> None:
        del number
        time.sleep(0.3)
        while (body := read_request(connection)) is not None:
            good = body == json.dumps("x" * LARGE_BYTES).encode() or body == b'"small"'
            connection.sendall(
                (OK if good else b"HTTP/1.1 400 No\r\n") + b"Content-Length: 0\r\n\r\n"
            )

    change = sets("duration_s=0.5", 'arrivals={kind="constant", rate_rps=20}')
    with listening(slowly) as address:
        found = load(address, tmp_path, ["x" * LARGE_BYTES, *["small"] * 4], *change)
    assert set(found["status"]) == {200}
    assert found["request_bytes"].max() == LARGE_BYTES + 2
    assert (found["sent_s"] - found["due_s"]).max() < 0.25


def test_an_answer_before_the_request_is_whole_counts(tmp_path: Path) -> None:
    """A server that refuses a large body on sight is heard, and its connection not used again."""

    def refuse(connection: socket.socket, number: int) -> None:
        del number
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.3)  # it does not read the rest

    change = sets("duration_s=0.5", 'arrivals={kind="constant", rate_rps=10}')
    with listening(refuse) as address:
        found = load(address, tmp_path, ["x" * LARGE_BYTES], *change)
    assert set(found["error"]) == {b"HTTP 413"}


LISTENER = """
from locust import events
import time
from scenarios.engine import OpenLoopUser

class Sustained(OpenLoopUser):
    scenario = "sustained"

HEARD = []

@events.request.add_listener
def hear(request_type, name, response_time, response_length, exception, **rest):
    end_s = time.monotonic() + 0.3
    while not HEARD and time.monotonic() < end_s:
        pass
    time.sleep(0)  # it may also wait
    HEARD.append(response_time)

@events.quitting.add_listener
def tell(**rest):
    print("heard", len(HEARD))
"""


def test_listeners_are_told_and_a_stalled_generator_says_so(tmp_path: Path) -> None:
    """Who listens hears of each request; what a slow listener delays is late, the rest is not."""
    (tmp_path / "file.py").write_text(LISTENER)
    records = tmp_path / "records"
    command = [sys.executable, "-m", "locust", "-f", str(tmp_path / "file.py"), "--headless"]
    command += ["--records", str(records), "--payload", str(SCENARIOS / "payloads")]
    command += sets("duration_s=2.5", 'arrivals={kind="constant", rate_rps=40}')
    with listening(plainly) as address:
        done = subprocess.run(
            [*command, "--host", address],
            env={**os.environ, "PYTHONPATH": str(SCENARIOS.parent)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    found = np.sort(read_records(records.read_bytes()), order="seq")
    late_s = found["sent_s"] - found["due_s"]
    assert f"heard {len(found)}" in done.stdout
    assert late_s.max() > 0.2
    assert np.median(late_s) < 0.005
    assert late_s[-10:].max() < 0.1
