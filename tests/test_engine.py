"""The load generator: Locust on the scenarios, against servers whose behaviour is known."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.arrivals import due_times
from bench.config import read_experiment
from bench.deployment import Deployment, Endpoint
from bench.errors import USAGE
from bench.target import Realtime, Serverless
from tests.loading import SCENARIOS, load, sets
from tests.serving import ECHO, Serving, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """An echo behind real-time, and behind a serverless endpoint for one request at a time."""
    folder = tmp_path_factory.mktemp("engine")
    (folder / "model" / "code").mkdir(parents=True)
    (folder / "model" / "code" / "inference.py").write_text(ECHO)
    model = str(folder / "model")
    one = Serverless(max_concurrency=1, profile={"placement_median_s": 0})
    endpoints = [Endpoint("echo", Realtime(), model), Endpoint("one", one, model)]
    with serving(Deployment(endpoints), folder / "run") as running:
        yield running


STEADY = sets("duration_s=3", "arrivals.rate_rps=30")


def test_plain_locust_sends_the_schedule_of_the_scenario(server: Serving, tmp_path: Path) -> None:
    """Every due time of the seeded schedule has one record, and Locust's table shows them."""
    records = load(server.address, tmp_path, [1, 2], "--endpoint", "echo", *STEADY)
    workload = read_experiment(SCENARIOS / "sustained.toml", STEADY[1::2], SCENARIOS).workload
    due_s = due_times(workload.arrivals, workload.duration_s, workload.seed)
    assert records["due_s"] == pytest.approx(due_s)
    assert set(records["error"]) == {b""}
    assert set(records["instance"]) == {b"instance-1"}
    tables = re.findall(r"Aggregated +(\d+) +0\(0\.00%\)", (tmp_path / "out").read_text())
    assert int(tables[-1]) == len(due_s)


def test_the_times_of_a_request_follow_each_other(server: Serving, tmp_path: Path) -> None:
    """Due, sent, first byte, done; and the server's part lies within the caller's."""
    records = load(server.address, tmp_path, [1], "--endpoint", "echo", *STEADY)
    assert (records["sent_s"] >= records["due_s"]).all()
    assert (records["first_byte_s"] >= records["sent_s"]).all()
    assert (records["done_s"] >= records["first_byte_s"]).all()
    service_s = records["done_s"] - records["sent_s"]
    assert (records["model_s"] + records["overhead_s"] <= service_s).all()


def test_a_known_service_time_is_measured(server: Serving, tmp_path: Path) -> None:
    """Against a model that sleeps, nothing is measured as faster, and the median is close."""
    change = sets("duration_s=3", "arrivals.rate_rps=5")
    records = load(server.address, tmp_path, [{"sleep_s": 0.1}], "--endpoint", "echo", *change)
    service_s = records["done_s"] - records["sent_s"]
    assert service_s.min() >= 0.1
    assert np.median(records["model_s"]) == pytest.approx(0.1, rel=0.2)


def test_a_stall_delays_all_that_was_due_meanwhile(server: Serving, tmp_path: Path) -> None:
    """Open loop: when the server stands still for a second, each request due in it waits.

    At 20 requests a second, of the 20 due in the second 15 wait more than a quarter of it. A
    closed loop would show one slow request (coordinated omission).
    """
    bodies: list[object] = [*[0] * 19, {"sleep_s": 1.0}, *[0] * 80]
    change = sets("duration_s=3", 'arrivals={kind="constant", rate_rps=20}')
    records = load(server.address, tmp_path, bodies, "--endpoint", "echo", *change)
    latency_s = records["done_s"] - records["due_s"]
    assert len(records) == 60
    assert (latency_s > 0.25).sum() == pytest.approx(16, abs=3)
    assert (records["sent_s"] - records["due_s"]).max() < 0.25


def test_failures_are_recorded_with_their_code(server: Serving, tmp_path: Path) -> None:
    """A model error is a record like any other, and fails Locust's run."""
    records = load(server.address, tmp_path, ["fail", 1], "--endpoint", "echo", *STEADY)
    assert set(records["error"][::2]) == {b"ModelError"}
    assert set(records["status"][::2]) == {424}
    assert set(records["error"][1::2]) == {b""}
    assert "ModelError" in (tmp_path / "out").read_text()


def test_throttled_requests_are_recorded(server: Serving, tmp_path: Path) -> None:
    """With room for one at a time, those that find it taken are refused at once."""
    change = sets("duration_s=2", 'arrivals={kind="constant", rate_rps=20}')
    records = load(server.address, tmp_path, [{"sleep_s": 0.12}], "--endpoint", "one", *change)
    assert set(records["error"]) == {b"", b"ThrottlingException"}
    assert records["cold"].sum() == 1
    assert np.isfinite(records["setup_s"][records["cold"]]).all()


def test_requests_above_the_cap_are_dropped_and_counted(server: Serving, tmp_path: Path) -> None:
    """Each of them has a record without a time of sending."""
    change = sets("duration_s=1", "max_in_flight=2", 'arrivals={kind="constant", rate_rps=40}')
    records = load(server.address, tmp_path, [{"sleep_s": 0.3}], "--endpoint", "echo", *change)
    dropped = np.isnan(records["sent_s"])
    assert len(records) == 40
    assert 0 < dropped.sum() < 40
    assert set(records["error"][dropped]) == {b"Dropped"}


def test_a_server_that_is_not_there_is_an_outcome(tmp_path: Path) -> None:
    """Refused connections are records with status 0, not a crash."""
    records = load("http://127.0.0.1:9", tmp_path, [1], *sets("duration_s=1"))
    assert len(records) > 0
    assert set(records["status"]) == {0}
    assert set(records["error"]) == {b"ConnectionRefusedError"}


def test_a_wrong_setting_is_told_under_plain_locust(server: Serving, tmp_path: Path) -> None:
    """The key is named, and nothing is sent."""
    command = [sys.executable, "-m", "locust", "-f", str(SCENARIOS / "sustained.py"), "--headless"]
    command += ["--host", server.address, *sets("arrivals.speed=1")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == USAGE
    assert "unknown key 'arrivals.speed'" in done.stderr
    assert not list(tmp_path.iterdir())
