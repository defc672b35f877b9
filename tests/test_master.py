"""Several Locust processes on one schedule: dealt out, started together, brought together again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.arrivals import due_times
from bench.config import read_experiment
from bench.deployment import Deployment, Endpoint
from bench.errors import INVALID
from bench.measure import Model, Order, measure
from bench.raw import read_events
from bench.record import Records, read_records
from bench.run import Run
from bench.target import Realtime
from reports.summary import summarise
from tests.loading import SCENARIOS, sets
from tests.serving import ECHO, Serving, eventually, serving

pytestmark = pytest.mark.slow

STEADY = sets("duration_s=2", "arrivals.rate_rps=100")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers what it is sent."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(ECHO)
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The echo behind a real-time endpoint."""
    deployment = Deployment([Endpoint("echo", Realtime(), str(model))])
    with serving(deployment, tmp_path_factory.mktemp("server")) as running:
        yield running


def locust(server: Serving, folder: Path, *options: str) -> "subprocess.Popen[str]":
    """Plain Locust on ``sustained``, started; its output goes to a file of ``folder``."""
    (folder / "body.json").write_text("1")
    command = [sys.executable, "-m", "locust", "-f", str(SCENARIOS / "sustained.py"), *options]
    command += ["--payload", str(folder / "body.json"), "--records", str(folder / "records")]
    command += ["--host", server.address, "--endpoint", "echo"]
    with (folder / "out").open("a") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, text=True)


def port() -> str:
    """A free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def check_whole(folder: Path) -> Records:
    """The records of a load that was sent as a whole."""
    text = (folder / "out").read_text()
    assert "Traceback" not in text, text
    records = np.sort(read_records((folder / "records").read_bytes()), order="seq")
    workload = read_experiment(SCENARIOS / "sustained.toml", STEADY[1::2], SCENARIOS).workload
    due_s = due_times(workload.arrivals, workload.duration_s, workload.seed)
    assert records["seq"].tolist() == list(range(len(due_s)))
    assert records["due_s"] == pytest.approx(due_s)
    assert set(records["error"]) == {b""}
    return records


def test_processes_of_one_machine_send_one_schedule(server: Serving, tmp_path: Path) -> None:
    """`--processes 2`: every due time has one record, at the time at which it was due."""
    options = ("--headless", "--processes", "2", "--users", "2", "--master-bind-port", port())
    bind = options[-1]
    process = locust(server, tmp_path, *options, "--master-port", bind, *STEADY)
    assert process.wait(60) == 0
    records = check_whole(tmp_path)
    assert (records["sent_s"] >= records["due_s"] - 1e-6).all()
    assert f" {len(records)} " in (tmp_path / "out").read_text()  # in Locust's own table


def test_a_closed_loop_is_dealt_out_by_users(server: Serving, tmp_path: Path) -> None:
    """Each process has half of them: all send, none has two requests open, no number is twice."""
    options = ["--headless", "--processes", "2", "--users", "2", "--master-bind-port", port()]
    arrivals = 'arrivals={kind="closed", users=4, think_s=0.1, think="constant"}'
    process = locust(
        server,
        tmp_path,
        *(*options, "--master-port", options[-1], *sets("duration_s=2", arrivals)),
    )
    assert process.wait(60) == 0
    assert "Traceback" not in (tmp_path / "out").read_text()
    records = np.sort(read_records((tmp_path / "records").read_bytes()), order="seq")
    assert set(records["error"]) == {b""}
    assert len(np.unique(records["seq"])) == len(records)
    assert set(records["seq"] % 2) == {0, 1}
    begins, ends = np.sort(records["sent_s"]), np.sort(records["done_s"])
    opened = np.searchsorted(begins, begins, side="right") - np.searchsorted(ends, begins)
    assert opened.max() <= 4
    # Little's law: at any time each of the four waits for an answer or thinks.
    cycle_s = (records["done_s"] - records["due_s"]).mean() + 0.1
    assert len(records) * cycle_s / 2 == pytest.approx(4, rel=0.25)


def test_plain_master_and_workers_send_one_schedule(server: Serving, tmp_path: Path) -> None:
    """`locust --master` and `--worker`, started apart as on several machines."""
    bind = port()
    workers = [
        locust(server, tmp_path, "--worker", "--master-port", bind, "--headless") for _ in range(2)
    ]
    options = ("--master", "--expect-workers", "2", "--users", "2", "--master-bind-port", bind)
    master = locust(server, tmp_path, "--headless", *options, *STEADY)
    assert master.wait(60) == 0
    assert [worker.wait(30) for worker in workers] == [0, 0]
    check_whole(tmp_path)


class Killer:
    """Kills one of the load's processes as soon as requests have come back."""

    def __init__(self, signal_number: int) -> None:
        self._signal = signal_number
        self.victim: psutil.Process | None = None

    def expect(self, duration_s: float, scheduled: int | None) -> None: ...
    def phase(self, *_: str) -> None: ...

    def live(self, _: float, new: Records) -> None:
        if self.victim is None and len(new):
            loads = [
                child
                for child in psutil.Process().children(recursive=True)
                if "locust" in " ".join(child.cmdline()) and not child.children()
            ]
            self.victim = loads[0]
            self.victim.send_signal(self._signal)


def measured(model: Path, folder: Path, killer: Killer) -> Run:
    """A load of two workers on the echo, with one of them struck."""
    change = ["duration_s=6", "arrivals.rate_rps=100"]
    workload = read_experiment(SCENARIOS / "sustained.toml", change, SCENARIOS).workload
    (folder / "body.json").write_text("1")
    given = (Model("echo", model, ""), [folder / "body.json"], "test")
    return measure(Order(workload, Realtime(), *given, workers=2), folder / "run", killer)


def test_a_lost_worker_makes_the_run_invalid(model: Path, tmp_path: Path) -> None:
    """The rest is kept, the counts add up, the reason is said; nothing waits for a frozen one."""
    killer = Killer(signal.SIGSTOP)
    try:
        run = measured(model, tmp_path, killer)
    finally:
        if killer.victim is not None and killer.victim.is_running():
            killer.victim.kill()
    load = run.manifest["load"]
    assert load["sent"] + load["dropped"] + load["unsent"] == load["scheduled"]
    assert load["ok"] > 0
    assert load["unsent"] > 0
    assert len(load["selfcheck"]["lost_workers"]) == 1
    summary = summarise(run)
    assert not summary.valid
    assert any("1 of 2 load workers" in doubt.text for doubt in summary.doubts)


def test_an_interruption_keeps_what_the_workers_have(model: Path, tmp_path: Path) -> None:
    """SIGTERM to the master, as from a user who stops: records and counts of both are there."""
    code = f"""
from pathlib import Path
from tests.test_master import Killer, measured
import signal
import socket
signal.signal(signal.SIGTERM, signal.default_int_handler)
measured(Path({str(model)!r}), Path({str(tmp_path)!r}), Killer(0))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    raw = tmp_path / "run" / "requests.bin"
    eventually(lambda: raw.exists() and raw.stat().st_size > 0, "there are records", 60)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) != 0
    eventually(lambda: not any(each.is_running() for each in family), "all have ended")
    (check,) = [e for e in read_events(tmp_path / "run") if e["kind"] == "selfcheck"]
    assert check["sent"] > 0
    assert check["unsent"] > 0
    assert check["lost_workers"] == []
    assert "Traceback" not in (tmp_path / "run" / "locust.log").read_text()


def test_a_lost_worker_is_an_exit_code_under_plain_locust(server: Serving, tmp_path: Path) -> None:
    """The code for an invalid measurement, so that a script can tell."""
    bind = port()
    worker = locust(server, tmp_path, "--worker", "--master-port", bind, "--headless")
    options = ("--master", "--expect-workers", "1", "--users", "1", "--master-bind-port", bind)
    master = locust(server, tmp_path, "--headless", *options, *sets("duration_s=30"))
    records = tmp_path / "records"
    eventually(lambda: records.exists() and records.stat().st_size > 0, "there are records", 60)
    worker.kill()
    began_s = time.monotonic()
    assert master.wait(60) == INVALID
    assert worker.wait() != 0
    assert time.monotonic() - began_s < 25  # it does not wait for a part that nobody sends
