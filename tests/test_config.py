import tomllib
from pathlib import Path

import pytest

import scenarios
from bench.arrivals import Bursts, Poisson
from bench.config import Experiment, read_experiment, scenario_path
from bench.errors import USAGE, ConfigError
from bench.settings import settings
from bench.target import Serverless
from bench.together import Together

SCENARIOS = Path(scenarios.__file__).parent

SMALL = """
name = "small"
title = "a test"
scenario = "sustained"
duration_s = 10

[arrivals]
kind = "poisson"
rate_rps = 5

[objective]
latency_s = 1
"""


def read(path: Path, *changes: str) -> Experiment:
    return read_experiment(path, list(changes), SCENARIOS)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize(
    "name", ["huge_payload", "intermittent", "large_payload", "replay", "sustained"]
)
def test_every_scenario_that_ships_is_valid(name: str) -> None:
    """The files beside the Locust files are read without complaint, under their own names."""
    assert read(scenario_path(name, SCENARIOS)).workload.name == name


def test_a_file_gives_a_workload_and_targets_with_defaults(small: Path) -> None:
    """What the file does not say has its default."""
    experiment = read(small)
    assert experiment.workload.arrivals == Poisson(5.0)
    assert experiment.targets["serverless"] == Serverless(memory_mb=2048, max_concurrency=20)


def test_a_setting_changes_a_value(small: Path) -> None:
    """--set takes dotted keys and TOML values, also of a target and of its profile."""
    experiment = read(
        small,
        "arrivals.rate_rps=7",
        "serverless.memory_mb=1024",
        "serverless.profile.keep_alive_s=60",
        "title=two words",
    )
    assert experiment.workload.arrivals == Poisson(7.0)
    assert experiment.workload.title == "two words"
    target = experiment.targets["serverless"]
    assert target == Serverless(memory_mb=1024, profile={"keep_alive_s": 60})


def test_a_file_may_extend_a_scenario(tmp_path: Path) -> None:
    """Only what differs has to be written; an arrival process of another kind replaces the old."""
    path = tmp_path / "mine.toml"
    path.write_text('extends = "intermittent"\nname = "mine"\n[arrivals]\nmean_gap_s = 60\n')
    arrivals = read(path).workload.arrivals
    assert isinstance(arrivals, Bursts)
    assert (arrivals.mean_gap_s, arrivals.mean_size) == (60, 3)
    path.write_text('extends = "intermittent"\n[arrivals]\nkind = "poisson"\nrate_rps = 2\n')
    assert read(path).workload.arrivals == Poisson(2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("arrivals.rate_rps=-1", r"arrivals\.rate_rps: expected `float` > 0"),
        ("arrivals.rate_rps=fast", r"arrivals\.rate_rps: expected `float`, got `str`"),
        ("arrivals.speed=1", r"unknown key 'arrivals\.speed'"),
        ("arrivals.kind=tides", r"arrivals\.kind: invalid value 'tides'"),
        ("duration=5", "unknown key 'duration'"),
        ("serverless.memory=1", r"unknown key 'serverless\.memory'"),
        ("serverless.memory_mb=big", r"serverless\.memory_mb: expected `int`"),
        ("objective.quantile=99", r"objective\.quantile: expected `float` < 1"),
        ("seed=-1", "seed: expected `int` >= 0"),
        ("nonsense", "write key=value"),
        ("scenario=tides", r"scenario = 'tides'.*Choose one of capacity, huge_payload"),
        ("arrivals.rate_rps=0.001", "no request is due in 60 s"),
        ("name.first=x", "'name' is a value, not a table"),
        ("arrivals.rate_rps=90000", "are more than the 5,000,000"),
    ],
)
def test_a_wrong_setting_is_named(small: Path, change: str, message: str) -> None:
    """The error names the key and what is allowed, and leads to exit code 2."""
    with pytest.raises(ConfigError, match=message) as caught:
        read(small, change, "duration_s=60") if "duration" not in change else read(small, change)
    assert caught.value.exit_code == USAGE


def test_a_dataset_of_ones_own_is_all_of_its_records(tmp_path: Path) -> None:
    """Each once, unless the number is given; the scenario's own number is for the samples."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("[1]\n[2]\n\n[3]\n")
    offline = scenario_path("offline", SCENARIOS)
    counts = []
    mine = f"payload.records={rows}"
    for changes in ([], [mine], [mine, "arrivals.records=7"]):
        arrivals = read_experiment(offline, changes, SCENARIOS).workload.arrivals
        assert isinstance(arrivals, Together)
        counts.append(arrivals.records)
    assert counts == [20_000, 3, 7]


def test_malformed_toml_is_named_with_its_line(tmp_path: Path) -> None:
    """The message has the file and the line."""
    path = tmp_path / "broken.toml"
    path.write_text("name = \nx = 1\n")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML: .*line 1"):
        read(path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    """A file without an objective is told so."""
    path = tmp_path / "short.toml"
    path.write_text(SMALL.partition("[objective]")[0])
    with pytest.raises(ConfigError, match="the key 'objective' is missing"):
        read(path)


def test_an_unknown_scenario_is_answered_with_the_known_ones() -> None:
    """The remedy is in the message."""
    with pytest.raises(ConfigError, match=r"no scenario 'nosuch'.*intermittent.*replay, sustained"):
        scenario_path("nosuch", SCENARIOS)


def test_a_missing_file_is_named() -> None:
    """A name that ends in .toml is a file's."""
    with pytest.raises(ConfigError, match=r"There is no file nosuch\.toml"):
        read(scenario_path("nosuch.toml", SCENARIOS))


def test_the_settings_cover_every_key_of_the_scenarios() -> None:
    """Each key that a shipped scenario uses is in the list, and each key has a meaning."""
    listed = {setting.key for setting in settings()}
    for file in SCENARIOS.glob("*.toml"):
        assert keys(tomllib.loads(file.read_text())) - {"extends"} <= listed
    assert [setting.key for setting in settings() if not setting.meaning] == []


def keys(table: dict[str, object], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in table.items():
        found |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found
