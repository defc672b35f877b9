"""One measurement from end to end: real servers, real Locust, a run folder."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats

from bench.arrivals import Bursts
from bench.errors import ConfigError, MeasurementError
from bench.measure import Model, Order, measure
from bench.record import Records
from bench.replay import Replay
from bench.run import SAMPLE_COLUMNS, Run, read_run
from bench.target import Realtime, Serverless, Target
from bench.workload import Objective, Workload
from reports.summary import summarise
from tests.serving import ECHO

pytestmark = pytest.mark.slow

SMALL = Workload(
    name="small",
    title="a short intermittent load",
    scenario="intermittent",
    duration_s=24.0,
    arrivals=Bursts(mean_gap_s=3.0, mean_size=2.0, mean_spacing_s=0.2),
    objective=Objective(latency_s=5.0),
    seed=3,
    fast_forward=True,
)
ZERO = Serverless(
    memory_mb=1024,
    profile={
        "keep_alive_s": 2.0,
        "keep_alive_sigma": 0,
        "placement_median_s": 1.5,
        "placement_sigma": 0.2,
    },
)


class Watcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.seen = 0

    def expect(self, duration_s: float, scheduled: int | None) -> None: ...

    def phase(self, mode: str, text: str) -> None:
        self.phases.append(f"{mode}: {text}")

    def live(self, at_s: float, new: Records) -> None:
        del at_s
        self.seen += len(new)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("measured") / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(ECHO)
    return Model("echo", folder, "0" * 64)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    path = tmp_path_factory.mktemp("bodies") / "body.json"
    path.write_text("[1, 2, 3]")
    return [path]


def order(model: Model, bodies: list[Path], workload: Workload, target: Target) -> Order:
    return Order(workload, target, model, bodies, "weighbridge run small")


@pytest.fixture(scope="module")
def skipped(tmp_path_factory: pytest.TempPathFactory, model: Model, bodies: list[Path]) -> Run:
    """The small load on serverless, with fast-forward."""
    folder = tmp_path_factory.mktemp("skipped") / "run"
    return measure(order(model, bodies, SMALL, ZERO), folder, Watcher())


def test_every_request_has_a_record(skipped: Run) -> None:
    """As many rows as the schedule has, each answered, in the order of the schedule."""
    requests = skipped.requests()
    assert len(requests) == skipped.manifest["load"]["scheduled"] > 5
    assert set(requests["status"]) == {200}
    assert list(requests["seq"]) == list(range(len(requests)))


def test_the_cold_requests_are_those_that_the_servers_started_for(skipped: Run) -> None:
    """Records and events, written by different processes, agree."""
    requests, events = skipped.requests(), skipped.events()
    started = {event["instance"] for event in events if event["kind"] == "cold_start"}
    assert set(requests.loc[requests["cold"], "instance"]) == started
    assert 1 < len(started) < len(requests)


def test_the_run_tells_the_idle_gap_before_each_request_and_how_it_ended(skipped: Run) -> None:
    """Enough for the chance of a cold start against the gap: warm within the keep-alive alone."""
    [keep_s] = [
        each["value"] for each in skipped.manifest["profile"] if each["name"] == "keep_alive_s"
    ]
    done_s: dict[str, float] = {}
    gaps_s: dict[bool, list[float]] = {True: [], False: []}
    for row in skipped.requests().sort_values("sent_s").to_dict("records"):
        last_s = max(done_s.values(), default=-math.inf)
        since_s = last_s if row["cold"] else done_s[row["instance"]]
        gaps_s[row["cold"]].append(row["sent_s"] - since_s)
        done_s[row["instance"]] = row["done_s"]
    assert 0 < max(gaps_s[False]) <= keep_s
    # Shorter, or negative, where others were at work: it came beside them.
    assert sum(gap_s > keep_s for gap_s in gaps_s[True]) > 1
    ended = {e["instance"]: e["at_s"] for e in skipped.events() if e.get("reason") == "idle"}
    assert ended
    assert all(at_s - done_s[name] > keep_s - 0.5 for name, at_s in ended.items())


def test_a_cold_latency_is_the_sum_of_its_parts(skipped: Run) -> None:
    """Modelled placement and measured set-up, model and overhead make up the latency."""
    cold = skipped.requests().query("cold")
    parts = cold[["model_s", "overhead_s", "wait_s", "setup_s", "placement_s"]].sum(axis=1)
    latency = cold["done_s"] - cold["due_s"]
    assert (latency - parts).between(0, 0.1).all()


def test_skipped_and_real_time_make_up_the_duration(skipped: Run) -> None:
    """Nothing of the simulated time is lost, and some of it was skipped."""
    load = skipped.manifest["load"]
    assert load["real_s"] + load["skipped_s"] == pytest.approx(SMALL.duration_s, abs=0.01)
    assert load["skipped_s"] > 5


def test_a_jump_lands_before_what_is_due(skipped: Run) -> None:
    """Each request leaves at its due time, skipped or not: never early, and hardly late."""
    requests = skipped.requests()
    late_s = requests["sent_s"] - requests["due_s"]
    assert late_s.min() >= 0
    assert late_s.median() < 0.01


def test_the_manifest_says_what_was_run(skipped: Run) -> None:
    """Workload, target, machine, profile and how the memory size was enforced."""
    manifest = skipped.manifest
    assert manifest["status"] == "finished"
    assert msgspec.convert(manifest["workload"], Workload) == SMALL
    assert manifest["target"]["memory_mb"] == 1024
    assert {entry["name"] for entry in manifest["profile"]} >= {"keep_alive_s", "payload_max_bytes"}
    assert "memory" in manifest["enforced"]
    assert manifest["machine"]["fingerprint"]
    assert list(skipped.samples().columns) == list(SAMPLE_COLUMNS)


DUE_S = (0.0, 0.4, 6.0, 6.4, 18.0, 18.4, 23.0)
"""Two together find nobody, then two find both, then again after a longer rest than is kept.

A measured start and a turn of the machine decide nothing: they would have to take seconds more.
"""


def test_fast_forward_changes_neither_cold_starts_nor_latencies(
    tmp_path: Path, model: Model, bodies: list[Path]
) -> None:
    """In real time the same requests start cold, with the same delays, and take as long.

    How alike the latencies are is a matter of many runs: ``make perf ARGS=fast-forward``.
    """
    trace = tmp_path / "trace.csv"
    trace.write_text("\n".join(["timestamp", *map(str, DUE_S)]))
    target = msgspec.structs.replace(ZERO, profile={**ZERO.profile, "keep_alive_s": 6.0})

    def run(fast_forward: bool) -> Run:
        load = msgspec.structs.replace(
            SMALL, arrivals=Replay(str(trace)), fast_forward=fast_forward
        )
        folder = tmp_path / f"run-{fast_forward}"
        return measure(order(model, bodies, load, target), folder, Watcher())

    real, skipped = run(fast_forward=False), run(fast_forward=True)
    assert real.manifest["load"]["skipped_s"] == 0
    assert skipped.manifest["load"]["skipped_s"] > 5
    one, other = real.requests(), skipped.requests()
    assert one["due_s"].tolist() == other["due_s"].tolist() == list(DUE_S)
    cold = [True, True, False, False, True, True, False]
    assert one["cold"].tolist() == other["cold"].tolist() == cold
    placements = [run["placement_s"][run["cold"]].tolist() for run in (one, other)]
    assert len(set(placements[0])) == 4
    assert placements[0] == pytest.approx(placements[1])
    # How long a process takes to start depends on what else the machine does at that moment.
    started = [
        run["done_s"] - run["due_s"] - run["setup_s"] - run["wait_s"] for run in (one, other)
    ]
    waited = [float(run[one["cold"]].median()) for run in started]
    assert waited[0] == pytest.approx(waited[1], rel=0.3)


def test_the_cold_starts_of_a_run_follow_the_keep_alive(
    tmp_path: Path, model: Model, bodies: list[Path]
) -> None:
    """After each silence, as often as configured (KS); another keep-alive would not do.

    A silence tells of a keep-alive only whether it was shorter, so it is drawn from what is left of
    its distribution: then it has that distribution (Dunn and Smyth 1996, randomised residuals).
    """
    chance = np.random.default_rng(5)
    due_s = np.cumsum(chance.uniform(5.0, 120.0, 60))
    trace = tmp_path / "trace.csv"
    trace.write_text("\n".join(["timestamp", *map(str, due_s)]))
    kept = {"keep_alive_s": 60.0, "keep_alive_sigma": 0.4, "placement_median_s": 0.1}
    target = msgspec.structs.replace(ZERO, profile={**ZERO.profile, **kept})
    load = msgspec.structs.replace(
        SMALL, arrivals=Replay(str(trace)), duration_s=float(due_s[-1]) + 1
    )
    found = measure(order(model, bodies, load, target), tmp_path / "run", Watcher()).requests()
    idle_s = found["due_s"].to_numpy()[1:] - found["done_s"].to_numpy()[:-1]
    cold = found["cold"].to_numpy()[1:]
    assert 15 < cold.sum() < 45

    def probability(median_s: float) -> float:
        expired = stats.lognorm.cdf(idle_s, 0.4, scale=median_s)
        draw = np.random.default_rng(6).uniform
        drawn = draw(np.where(cold, 0.0, expired), np.where(cold, expired, 1.0))
        return float(stats.kstest(drawn, "uniform").pvalue)

    assert probability(60.0) > 0.01
    assert max(probability(120.0), probability(30.0)) < 0.01


def test_the_watcher_is_told_phases_and_records(
    tmp_path: Path, model: Model, bodies: list[Path]
) -> None:
    """Real-time, too; every record passes by once."""
    watcher = Watcher()
    run = measure(order(model, bodies, SMALL, Realtime()), tmp_path / "run", watcher)
    assert watcher.phases == [
        "realtime: starting the endpoint",
        "realtime: under load",
        "realtime: stopping the endpoint",
    ]
    assert watcher.seen == len(run.requests())
    assert not run.requests()["cold"].any()


def test_a_model_that_cannot_start_leaves_a_failed_run(tmp_path: Path, bodies: list[Path]) -> None:
    """The error is the model's own word; the manifest says that the run failed."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    program = "def model_fn(d): raise OSError('no weights')\ndef predict_fn(x, m): pass"
    (tmp_path / "model" / "code" / "inference.py").write_text(program)
    broken = Model("broken", tmp_path / "model", "0" * 64)
    with pytest.raises(ConfigError, match="no weights"):
        measure(order(broken, bodies, SMALL, Realtime()), tmp_path / "run", Watcher())
    with pytest.raises(ConfigError, match=r"ended \(failed\) before any request was recorded"):
        read_run(tmp_path / "run")


LARGE = "def model_fn(d): return bytearray(b'x') * (1500 * 2**20)\ndef predict_fn(x, m): return x"
SLOW = "import time\ndef model_fn(d): time.sleep(30)\ndef predict_fn(x, m): return x"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (LARGE, "it needs more than its memory size of 1024 MB"),
        (SLOW, "it did not pass /ping within 1 s"),
    ],
)
def test_a_model_beyond_a_limit_yields_a_report_that_explains_it(
    tmp_path: Path, bodies: list[Path], program: str, words: str
) -> None:
    """Memory, and the time to start (three minutes there, a second here), with the remedy."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(program)
    (tmp_path / "trace.csv").write_text("timestamp\n0.0\n")
    load = msgspec.structs.replace(SMALL, arrivals=Replay(str(tmp_path / "trace.csv")))
    limit = {"startup_timeout_s": 1.0} if program is SLOW else {}
    target = msgspec.structs.replace(ZERO, profile={"placement_median_s": 0, **limit})
    heavy = Model("heavy", tmp_path / "model", "0" * 64)
    run = measure(order(heavy, bodies, load, target), tmp_path / "run", Watcher())
    assert list(run.requests()["error"]) == ["ModelError"]
    [said] = [doubt.text for doubt in summarise(run).doubts if words in doubt.text]
    assert "on AWS as well" in said or "AWS gives up there as well" in said


def test_a_server_that_dies_under_load_ends_the_measurement(
    tmp_path: Path, model: Model, bodies: list[Path]
) -> None:
    """It is a failed measurement, not a slow one; what was recorded is kept."""
    import psutil

    class Killer(Watcher):
        def expect(self, *_: object) -> None: ...
        def live(self, at_s: float, new: Records) -> None:
            super().live(at_s, new)
            for child in psutil.Process().children():
                if "servers" in child.cmdline():
                    child.kill()

    slow = msgspec.structs.replace(SMALL, fast_forward=False)
    with pytest.raises(MeasurementError, match="The server process ended during the load"):
        measure(order(model, bodies, slow, Realtime()), tmp_path / "run", Killer())
    assert '"status": "failed"' in (tmp_path / "run" / "manifest.json").read_text()
