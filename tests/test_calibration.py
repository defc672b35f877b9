"""The speed factor between two machines."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import ConfigError
from reports.calibration import Score, factor, read_score, write_score


def score(median_s: float, seed: int, **changes: object) -> Score:
    noise = np.random.default_rng(seed).lognormal(0, 0.03, 15)
    values = {"machine": {}, "model_sha256": "a", "model_name": "m", "threads": 1}
    return Score(**{**values, "rounds_s": (median_s * noise).tolist(), **changes})


def test_the_factor_is_time_there_over_time_here() -> None:
    """Twice as slow there: about 2, inside its interval."""
    found = factor(score(0.01, 1), score(0.02, 2))
    assert found.value == pytest.approx(2, rel=0.05)
    assert found.low < found.value < found.high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """1.5 lies in at least 90 of 100 intervals of 95 %."""
    pairs = [factor(score(0.02, i), score(0.03, 1000 + i)) for i in range(100)]
    assert sum(found.low <= 1.5 <= found.high for found in pairs) >= 90


def test_equal_rounds_give_a_factor_without_a_spread() -> None:
    """Nothing is divided by nothing."""
    same = score(0.01, 1, rounds_s=[0.01] * 5)
    found = factor(same, same)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("changes", [{"model_sha256": "b"}, {"threads": 4}])
def test_scores_that_do_not_compare_are_refused(changes: dict[str, object]) -> None:
    """Another model, or other threads."""
    with pytest.raises(ConfigError, match="same"):
        factor(score(0.01, 1), score(0.01, 2, **changes))


def test_a_score_is_carried_in_a_file(tmp_path: Path) -> None:
    """And comes back as it was."""
    write_score(score(0.01, 1), tmp_path / "s.json")
    assert read_score(tmp_path / "s.json") == score(0.01, 1)


@pytest.mark.parametrize("text", ["", "{}", "[1]", json.dumps({"rounds_s": [1.0]})])
def test_a_file_without_a_score_is_an_error(tmp_path: Path, text: str) -> None:
    """It says how to write one."""
    (tmp_path / "s.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="weighbridge calibrate"):
        read_score(tmp_path / "s.json")


@pytest.mark.slow
def test_the_command_times_the_built_in_model_and_compares(tmp_path: Path) -> None:
    """A machine against itself: the factor stands in the output, with what to do with it."""
    out, again = tmp_path / "one.json", tmp_path / "two.json"
    first = CliRunner().invoke(cli, ["calibrate", "--seconds", "0.5", "--out", str(out)])
    assert first.exit_code == 0, first.output
    arguments = ["calibrate", "--seconds", "0.5", "--out", str(again), "--against", str(out)]
    second = CliRunner().invoke(cli, arguments)
    assert second.exit_code == 0, second.output
    assert "--speed-factor" in second.output
    assert read_score(again).call_s > 0
