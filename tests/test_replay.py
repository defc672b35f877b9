"""Recorded traffic: windows of a trace, its speed, its length, and the command for it."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import bench.replay
import scenarios
from bench.arrivals import due_times
from bench.cli import cli
from bench.config import read_experiment
from bench.errors import USAGE, ConfigError
from bench.measure import Model, Order, measure
from bench.rates import Daily
from bench.replay import SAMPLE, Replay
from bench.target import Realtime
from bench.workload import Workload
from tests.make_traces import NGINX, csv, replayed
from tests.serving import ECHO
from tests.test_measure import Watcher

SCENARIOS = Path(scenarios.__file__).parent


def test_whole_seconds_of_nginx_are_spread(trace: Callable[..., str]) -> None:
    """Requests of one second do not all leave at its start; the seed decides when each does."""
    path = trace([NGINX.format(came="01/Nov/2026:00:00:02 +0000")] * 400, "access.log")
    due = np.array(replayed(path))
    assert len(due) == 400
    assert 0 <= due[0] < 0.05 < 0.95 < due[-1] < 1
    assert due.mean() == pytest.approx(0.5, abs=0.05)
    assert due.tolist() != [round(due, 6) for due in due_times(Replay(path), 1.0, 2)]


@pytest.mark.parametrize(
    ("start", "end", "due"),
    [
        (None, None, [0, 10, 20, 30]),
        (5, None, [0, 10, 20]),
        (10, 30, [0, 10]),
        (None, 10.5, [0, 10]),
        (datetime(2026, 11, 2, 0, 0, 20, tzinfo=UTC), None, [0, 10]),
        (None, datetime(2026, 11, 2, 0, 0, 20), [0, 10]),
    ],
)
def test_a_window_counts_from_its_first_request(
    trace: Callable[..., str], start: Any, end: Any, due: list[float]
) -> None:
    """The start belongs to it, the end does not; seconds from the trace's first, or dates."""
    path = trace(csv(*(f"2026-11-02T00:00:{second:02}Z" for second in (0, 10, 20, 30))))
    assert replayed(path, start=start, end=end) == due


def test_speed_divides_times_and_length(trace: Callable[..., str]) -> None:
    """At speed 10 a trace takes a tenth of its time."""
    path = trace(csv(0, 10, 30))
    assert replayed(path, speed=10) == [0, 1, 3]
    assert Replay(path, speed=10.0).length_s() == pytest.approx(Replay(path).length_s() / 10)


def test_a_trace_ends_a_mean_gap_after_its_last_request(trace: Callable[..., str]) -> None:
    """So its rate is kept; a window ends where it was said to, but not after the trace."""
    path = trace(csv(0, 2, 3, 6))
    assert Replay(path).length_s() == 8
    assert Replay(path, end=5.0).length_s() == 5
    assert Replay(path, end=1e9).length_s() == 8
    assert Replay(trace(csv(7), "one.csv")).length_s() == 1


def test_the_count_expected_is_the_count_replayed(trace: Callable[..., str]) -> None:
    """Within any duration."""
    replay = Replay(trace(csv(0, 10, 20, 30)))
    for duration_s in (5.0, 10.0, 25.0, 100.0):
        assert replay.expected_count(duration_s) == len(due_times(replay, duration_s, 1))


@pytest.mark.parametrize(("limit", "refused"), [(0, True), (0.24, True), (0.25, False), (1, False)])
def test_the_limit_is_a_share_or_a_number(
    trace: Callable[..., str], limit: float, refused: bool
) -> None:
    """Below 1 it is a share of the rows, else a number of them."""
    replay = Replay(trace(csv(1, 2, 3, "x")), max_malformed=limit)
    if refused:
        with pytest.raises(ConfigError, match=r"1 of its 4 rows are malformed, .*row 5: 'x'"):
            replay.length_s()
    else:
        assert replay.length_s() == 3


def test_too_many_requests_are_refused(
    trace: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of the trace is the remedy."""
    monkeypatch.setattr(bench.replay, "MAX_REQUESTS", 2)
    path = trace(csv(1, 2, 3))
    with pytest.raises(ConfigError, match=r"has 3 requests, more than the 2 .*arrivals\.end"):
        Replay(path).length_s()
    assert replayed(path, end=2) == [0, 1]


def test_the_sample_is_a_day_of_daily_traffic() -> None:
    """It is made from a seeded daily curve, so it can be made again."""
    due = due_times(Daily(mean_rps=300 / 86400, peak_ratio=2.5, peak_hour=14.0), 86400.0, 1)
    midnight = datetime(2026, 11, 2, tzinfo=UTC)
    dates = [midnight + timedelta(seconds=float(each)) for each in due]
    lines = [date.isoformat(timespec="milliseconds").replace("+00:00", "Z") for date in dates]
    assert SAMPLE.read_text().splitlines() == csv(*lines)


@pytest.mark.slow
def test_a_replay_is_sent_as_its_trace_says(
    tmp_path: Path, trace: Callable[..., str], make_model: Callable[[str], Path]
) -> None:
    """A real run sends each request at its time; its manifest names the trace's content."""
    (tmp_path / "body.json").write_text("1")
    workload = read("arrivals.max_malformed=1", trace=trace(csv(5, 6, "x", 6.5, 60)))
    model = Model("echo", make_model(ECHO), "0" * 64)
    order = Order(workload, Realtime(), model, [tmp_path / "body.json"], "weighbridge run")
    run = measure(order, tmp_path / "run", Watcher())
    assert run.requests()["due_s"].tolist() == [0, 1, 1.5, 55]
    assert run.duration_s == pytest.approx(55 * 4 / 3)
    assert run.manifest["trace"]["malformed"] == 1
    content = (tmp_path / "trace.csv").read_bytes()
    assert run.manifest["trace"]["sha256"] == hashlib.sha256(content).hexdigest()


def read(*settings: str, trace: str | None = None, name: str = "replay") -> Workload:
    path = SCENARIOS / f"{name}.toml"
    given = Path(trace) if trace else None
    return read_experiment(path, list(settings), SCENARIOS, given).workload


def test_the_scenario_lasts_as_long_as_its_trace(trace: Callable[..., str]) -> None:
    """Unless it is said how long; the workload then has a plain number."""
    path = trace(csv(0, 10, 20))
    assert read(trace=path).duration_s == 30
    assert read("arrivals.speed=10", trace=path).duration_s == 3
    workload = read("duration_s=15", trace=path)
    assert workload.duration_s == 15
    assert len(due_times(workload.arrivals, 15.0, 1)) == 2


def test_the_window_may_be_set_as_dates(trace: Callable[..., str]) -> None:
    """TOML's own dates; a workload with them goes through JSON to the load generator."""
    path = trace(csv("2026-11-02T00:00:00Z", "2026-11-02T00:01:00Z"))
    workload = read("arrivals.start=2026-11-02T00:00:30", trace=path)
    assert workload.arrivals.expected_count(1e6) == 1
    assert msgspec.json.decode(msgspec.json.encode(workload), type=Workload) == workload


def test_the_sample_is_replayed_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace's path is relative to the current folder, but the sample ships."""
    monkeypatch.chdir(tmp_path)
    assert read().arrivals.expected_count(1e6) == 301
    (tmp_path / "mine.csv").write_text("timestamp\n1\n2\n")
    assert read(trace="mine.csv").arrivals.expected_count(1e6) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sustained", "--trace", "t.csv"], "the arrivals of sustained are 'poisson', not a repl"),
        (["replay", "--trace", "t.csv"], "There is no trace file t.csv"),
        (["replay", "--set", "arrivals.speed=0"], "arrivals.speed: expected `float` > 0"),
        (["replay", "--set", "arrivals.start=soon"], "arrivals.start: "),
        (["replay", "--set", "arrivals.format=xls"], "arrivals.format: invalid enum value 'xls'"),
        (["replay", "--set", "duration_s=-5"], "duration_s: expected `float` > 0"),
    ],
)
def test_bad_input_to_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """Exit code 2 and the remedy, before anything starts."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["run", *arguments])
    assert result.exit_code == USAGE, result.output
    assert words in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []
