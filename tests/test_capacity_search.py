"""The search for the highest rate on a real endpoint whose capacity is known."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import PASSED, USAGE

pytestmark = pytest.mark.slow

SLEEPS = """
import threading, time
one = threading.Lock()

def model_fn(folder): return None
def input_fn(body, content_type): return body
def predict_fn(data, model):
    with one:
        time.sleep(0.1)
    return b"{}"
def output_fn(result, accept): return result
"""


def test_the_capacity_of_a_server_that_takes_a_tenth_of_a_second_is_found(
    make_model: object, tmp_path: Path
) -> None:
    """One request at a time, 0.1 s each: ten a second at most, and fewer at a good latency."""
    model = make_model(SLEEPS)  # type: ignore[operator]
    body = tmp_path / "body.json"
    body.write_text("1")
    change = ["start_rps=4", "step_s=2", "max_step_s=4", "warm_up_s=0.5", "tolerance=0.5"]
    arguments = ["run", "capacity", "--modes", "realtime", "--model", str(model)]
    arguments += ["--payload", str(body), "--out", str(tmp_path / "runs")]
    for each in change:
        arguments += ["--set", f"search.{each}"]
    result = CliRunner().invoke(cli, [*arguments, "--set", "objective.latency_s=0.5"])
    assert result.exit_code == PASSED, result.output
    assert "meets p99 within 500 ms up to" in " ".join(result.output.split())
    found = json.loads((tmp_path / "runs/latest/realtime/capacity.json").read_text())
    assert 1 <= found["highest_rps"] < 10
    assert found["bounded"]
    for step in found["steps"]:
        assert step["verdict"] == "misses" or step["rate_rps"] < 10
    runs = sorted(
        each.parent.name for each in tmp_path.glob("runs/latest/realtime/*/manifest.json")
    )
    assert len(runs) >= len(found["steps"])


def test_arrivals_without_a_rate_cannot_be_searched(tmp_path: Path) -> None:
    """The message names what is needed."""
    given = ["run", "capacity", "--modes", "realtime", "--out", str(tmp_path)]
    bursts = 'arrivals={kind="bursts", mean_gap_s=1, mean_size=2, mean_spacing_s=0.1}'
    result = CliRunner().invoke(cli, [*given, "--set", bursts])
    assert result.exit_code == USAGE
    assert "constant, poisson or gamma" in result.output
