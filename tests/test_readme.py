"""The examples of README.md for a running endpoint, as they are printed."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.config import read_experiment
from servers.layout import check_realtime
from tests.conftest import CACHE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PRINTED = "http://127.0.0.1:8080"
"""Stands in the examples for the address that `up` printed."""
LAUNCH = "realtime.profile.launch_median_s=0.1"
PREDICTION = r'"label": ?8'


AN_ALARM_RINGS = """
cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
waiter.wait(EndpointName="digits-realtime", WaiterConfig={"Delay": 1, "MaxAttempts": 300})
shown = control.describe_endpoint(EndpointName="digits-realtime")
print(shown["EndpointConfigName"], shown["FailureReason"], sep="\\n")
"""


def section(title: str) -> str:
    """The part of the README under a heading."""
    return re.split(r"^## ", README.split(f"## {title}\n", 1)[1], flags=re.MULTILINE)[0]


def blocks(title: str, language: str) -> list[str]:
    """Its code in one language."""
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


@pytest.fixture(scope="module")
def up(digits_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `weighbridge up` prints, while it runs; its models come from the tests' cache."""
    assert digits_archive.is_relative_to(CACHE)
    data = str(tmp_path_factory.mktemp("up"))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench", "up", "--port", "0"),
            *("--data", data, "--set", LAUNCH),
        ],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(CACHE)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said, deadline = b"", time.monotonic() + 120
    try:
        while not re.search(rb"gRPC .*\n", said):
            assert time.monotonic() < deadline, said
            if select.select([process.stdout], [], [], 1.0)[0]:
                chunk = os.read(process.stdout.fileno(), 65536)
                assert chunk, said
                said += chunk
        yield said.decode()
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        process.wait(60)


@pytest.fixture(scope="module")
def address(up: str) -> str:
    """Where it listens."""
    found = re.search(r"Listening on (http://[\d.:]+)", up)
    assert found is not None
    return found[1]


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_boto3_example_runs_as_printed(address: str) -> None:
    """Whole and in parts, it prints the prediction that its comment shows."""
    [code] = blocks("Talk to it with boto3", "python")
    assert PRINTED in code
    printed = run([sys.executable, "-c", code.replace(PRINTED, address)])
    assert len(re.findall(PREDICTION, printed)) == 2


def test_the_curl_examples_run_as_printed(address: str) -> None:
    """A prediction, and the metrics that count it."""
    [code] = blocks("Talk to it with boto3", "bash")
    printed = run(["bash", "-ec", code.replace(PRINTED, address)])
    assert re.search(PREDICTION, printed)
    assert 'sagemaker_invocations_total{endpoint_name="digits-realtime"' in printed


@pytest.mark.parametrize(("library", "line"), [("http", "HTTP http://"), ("grpc", "gRPC ")])
def test_the_tritonclient_example_runs_as_printed(up: str, library: str, line: str) -> None:
    """Over HTTP, and over gRPC with the other address."""
    [code] = blocks("Talk to it with tritonclient", "python")
    assert {"tritonclient.http", "127.0.0.1:8000"} <= set(re.findall(r"[\w.]+[.:]\w+", code))
    where = re.search(rf"^ *{line}([\d.:]+)", up, re.MULTILINE)
    assert where is not None
    code = code.replace("127.0.0.1:8000", where[1])
    printed = run(
        [sys.executable, "-c", code.replace("tritonclient.http", f"tritonclient.{library}")]
    )
    assert re.fullmatch(r"\[\d\]\n", printed)


def test_the_update_example_runs_as_printed(address: str, digits_archive: Path) -> None:
    """With the address and the model of this machine; the second update is ended by its alarm."""
    code, guarded = blocks("Changing an endpoint while it serves", "python")
    model, archive = "/path/to/model.tar.gz", str(digits_archive)
    assert model in code
    run_here = f"{code}\n{guarded}\n{AN_ALARM_RINGS}".replace(PRINTED, address)
    printed = run([sys.executable, "-c", f"import boto3\n{run_here.replace(model, archive)}"])
    assert printed.splitlines() == ["next", "Alarm errors is in ALARM. a test"]


def test_the_scaling_file_is_a_scenario(tmp_path: Path) -> None:
    """The example in TOML is read, and its steps make sense."""
    [text] = blocks("Replicas, variants and scaling of a real-time endpoint", "toml")
    (tmp_path / "steps.toml").write_text(text)
    experiment = read_experiment(tmp_path / "steps.toml", [], ROOT / "scenarios")
    check_realtime(experiment.targets["realtime"])  # type: ignore[arg-type]


def test_the_settings_of_the_table_are_read() -> None:
    """Every key=value of the table is one that --set takes."""
    text = section("Replicas, variants and scaling of a real-time endpoint")
    settings = re.findall(r"`(realtime\.[^`]+=[^`]+)`", text)
    assert len(settings) == 6
    read_experiment(ROOT / "scenarios" / "sustained.toml", settings, ROOT / "scenarios")
