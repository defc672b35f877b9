"""Traffic that nobody can plan: a user's own Locust file, and a closed loop on a skipping clock."""

from pathlib import Path

import numpy as np
import pytest

import scenarios
from bench.commands.common import checked_modes
from bench.config import read_experiment
from bench.errors import ConfigError, MeasurementError
from bench.loops import Closed
from bench.measure import Model, Order, measure
from bench.progress import Progress
from bench.run import Run
from bench.target import Realtime
from bench.workload import Objective, Workload
from reports.costs import read_prices
from reports.report import make_report
from tests.serving import ECHO

SCENARIOS = Path(scenarios.__file__).parent

MINE = """
from locust import FastHttpUser, HttpUser, task, constant

class Caller(HttpUser):
    wait_time = constant(0.05)
    host = "http://example.invalid"  # the endpoint's address replaces it

    @task
    def good(self):
        self.client.post("/invocations", json=[1, 2, 3])

    @task
    def bad(self):
        self.client.post("/invocations", json="fail")

    @task
    def judged(self):
        with self.client.post("/invocations", json=7, catch_response=True) as answer:
            answer.failure("not what I wanted")

class Fast(FastHttpUser):
    wait_time = constant(0.05)

    @task
    def good(self):
        self.client.post("/invocations", data=b"[4, 5]", headers={"Content-Type":
                                                                  "application/json"})
"""


class Quiet:
    """Is told how it goes, and says nothing."""

    def expect(self, duration_s: float, scheduled: int | None) -> None: ...
    def phase(self, *_: object) -> None: ...
    def live(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("adopted") / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(ECHO)
    return Model("echo", folder, "0" * 64)


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Run:
    """A Locust file of two kinds of users, run as it is."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "my-file.py").write_text(MINE)
    changes = ["duration_s=2", "arrivals.users=4"]
    workload = read_experiment(folder / "my-file.py", changes, SCENARIOS).workload
    return measure(Order(workload, Realtime(), model, [], "test"), folder / "run", Quiet())


@pytest.mark.slow
def test_a_locust_file_is_a_scenario(adopted: Run) -> None:
    """Each of its requests is a record, with status, error, sizes and the server's own timing."""
    found = adopted.requests()
    good = found[(found["error"] == "") & (found["response_bytes"] == len("[1,2,3]"))]
    assert len(good) > 3
    assert set(good["status"]) == {200}
    assert set(good["request_bytes"]) == {len("[1, 2, 3]")}
    assert (good["model_s"] > 0).all()
    assert np.isfinite(good["first_byte_s"]).all()
    errors = set(found["error"])
    assert errors == {"", "ModelError", "CatchResponseError"}
    fast = found[found["response_bytes"] == len("[4,5]")]
    assert len(fast) > 3
    assert set(fast["request_bytes"]) == {len("[4, 5]")}


@pytest.mark.slow
def test_its_requests_are_due_when_they_are_sent(adopted: Run) -> None:
    """For nobody knows better; and the report says so."""
    found = adopted.requests()
    assert (found["sent_s"] == found["due_s"]).all()
    assert found["due_s"].between(-0.1, 3).all()
    assert (found["done_s"] > found["sent_s"]).all()
    load = adopted.manifest["load"]
    assert load["scheduled"] == load["sent"] == len(found)
    assert adopted.manifest["payload"]["largest_bytes"] == len("[1, 2, 3]")
    report = make_report([adopted], read_prices(None))
    texts = [doubt.text for _, doubt in report.doubts]
    assert any("latency counts from the send" in text for text in texts)
    assert any("4 users each wait" in text for text in texts)


@pytest.mark.slow
def test_a_locust_file_that_fails_is_told(tmp_path: Path, model: Model) -> None:
    """With Locust's own words."""
    (tmp_path / "broken.py").write_text("from locust import HttpUser\nraise LookupError('mine')\n")
    workload = read_experiment(tmp_path / "broken.py", [], SCENARIOS).workload
    order = Order(workload, Realtime(), model, [], "test")
    with pytest.raises(MeasurementError, match="mine"):
        measure(order, tmp_path / "run", Quiet())


def test_a_scenario_file_may_name_a_locust_file(tmp_path: Path) -> None:
    """From its own folder, with its own objective and number of users."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "mine.toml").write_text(
        'extends = "sustained"\nname = "mine"\nscenario = "mine.py"\nduration_s = 5\n'
        'arrivals = {kind = "users", users = 3, spawn_rate = 1.5}\n'
    )
    workload = read_experiment(tmp_path / "mine.toml", [], SCENARIOS).workload
    assert workload.scenario == str(tmp_path / "mine.py")
    assert workload.objective.latency_s == 0.25


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("scenario=none.py", "no such Locust file"),
        ("scenario=sustained", "a .py file of your own"),
        ("fast_forward=true", "cannot be skipped"),
        ("arrivals.users=0", "arrivals.users"),
    ],
)
def test_what_a_locust_file_cannot_do_is_told(tmp_path: Path, change: str, reason: str) -> None:
    """Before anything is started."""
    path = tmp_path / "mine.toml"
    (tmp_path / "mine.py").write_text(MINE)
    path.write_text(
        'name = "mine"\ntitle = "t"\nscenario = "mine.py"\nduration_s = 5\n'
        'arrivals = {kind = "users"}\nobjective = {latency_s = 1}\n'
    )
    with pytest.raises(ConfigError, match=reason):
        read_experiment(path, [change], SCENARIOS)


def test_a_locust_file_needs_an_option_that_answers(tmp_path: Path) -> None:
    """The others are refused when they are asked for, and left out otherwise."""
    (tmp_path / "mine.py").write_text(MINE)
    experiment = read_experiment(tmp_path / "mine.py", [], SCENARIOS)
    assert checked_modes("", experiment) == ["realtime", "serverless"]
    with pytest.raises(ConfigError, match="--modes async,batch: a Locust file of one's own waits"):
        checked_modes("realtime,async,batch", experiment)


def test_more_users_than_requests_may_be_open_are_refused(tmp_path: Path) -> None:
    """For a loop whose requests are dropped is no loop."""
    del tmp_path
    changes = ['arrivals={kind="closed", users=5}', "max_in_flight=4"]
    with pytest.raises(ConfigError, match="max_in_flight is 4"):
        read_experiment(SCENARIOS / "sustained.toml", changes, SCENARIOS)


@pytest.mark.slow
def test_a_closed_loop_skips_the_thinking(tmp_path: Path, model: Model) -> None:
    """Hours of thought take seconds, and stay out of every latency and lateness."""
    closed = Closed(users=3, think_s=600.0)
    objective = Objective(1.0)
    workload = Workload("loop", "t", "sustained", 7200.0, closed, objective, fast_forward=True)
    (tmp_path / "body.json").write_text("[1, 2]")
    order = Order(workload, Realtime(), model, [tmp_path / "body.json"], "test")
    run = measure(order, tmp_path / "run", Quiet())
    found = run.requests()
    assert len(found) == pytest.approx(36, abs=20)
    assert found["due_s"].max() > 3600
    assert set(found["error"]) == {""}
    assert (found["done_s"] - found["due_s"]).max() < 1.0
    assert (found["sent_s"] - found["due_s"]).min() >= 0
    assert run.manifest["load"]["real_s"] < 60
    assert run.manifest["load"]["scheduled"] == len(found)


def test_progress_does_without_a_total() -> None:
    """Where nobody knows how many requests there will be, the line does not say."""
    from io import StringIO

    from rich.console import Console

    from bench.record import read_records

    text = StringIO()
    progress = Progress(Console(file=text))
    progress.expect(60.0, None)
    progress.phase("realtime", "under load")
    progress._last_plain_s -= 100
    progress.live(5.0, read_records(b""))
    assert "0 requests" in text.getvalue()
