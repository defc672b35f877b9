"""The command as a user has it: its words, its exit codes, what it leaves behind."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

import bench.measure
from bench.cli import cli
from bench.errors import INTERRUPTED, INVALID, PASSED, USAGE
from servers.samples import samples
from tests.conftest import CACHE
from tests.serving import ECHO, aws, eventually

ENVIRONMENT = {**os.environ, "XDG_CACHE_HOME": str(CACHE), "COLUMNS": "100"}

QUICK = ["--set", "duration_s=2400", "--set", "arrivals.mean_gap_s=800"]


def weighbridge(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def start(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def refused(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """What the command says when it refuses; it started nothing and made no run."""
    folder = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(folder)

    def say(*arguments: str) -> str:
        result = CliRunner(env={"XDG_CACHE_HOME": str(CACHE)}).invoke(cli, list(arguments))
        assert result.exit_code == USAGE, result.output
        assert list(folder.iterdir()) == []
        assert psutil.Process().children() == []
        return " ".join(result.output.split())

    return say


def archive_with(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            content = b"x" if member.isreg() else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def linked() -> tarfile.TarInfo:
    member = tarfile.TarInfo("weights.bin")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nosuch"], "There is no scenario 'nosuch'. Choose one of capacity, huge_payload"),
        (["run", "nosuch.toml"], "There is no file nosuch.toml"),
        (["run", "sustained", "--set", "arrivals.rate_rps=-1"], "arrivals.rate_rps: expected"),
        (["run", "sustained", "--set", "arrivals.speed=1"], "unknown key 'arrivals.speed'"),
        (["run", "sustained", "--modes", "bath"], "--modes bath: choose from realtime"),
        (
            ["run", "sustained", "--modes", "batch", "--set", "arrivals={kind='closed', users=2}"],
            "cannot be gathered into jobs",
        ),
        (["run", "sustained", "--model", "nosuch.tar.gz"], "nosuch.tar.gz"),
        (["run", "sustained", "--payload", "nosuch"], "--payload nosuch: there is no such file"),
        (["run", "sustained", "--prices", "nosuch.toml"], "nosuch.toml"),
        (["run", "sustained", "--set", "serverless.memory_mb=1"], "serverless.memory_mb = 1"),
        (["run", "sustained", "--set", "duration_s=0.001"], "no request is due"),
        (["run"], "Missing argument 'SCENARIO'"),
        (["run", "sustained", "--nosuch"], "No such option"),
        (["report", "nosuch"], "nosuch holds no runs"),
        (["nosuch"], "No such command 'nosuch'"),
    ],
)
def test_bad_input_is_named_with_the_remedy(
    refused: Callable[..., str], arguments: list[str], words: str
) -> None:
    """Exit code 2, no process started, no run made."""
    assert words in refused(*arguments)


def test_a_dataset_without_a_record_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    """``--payload`` may name a dataset where the traffic is one."""
    (tmp_path / "rows.jsonl").touch()
    said = refused("run", "offline", "--payload", str(tmp_path / "rows.jsonl"))
    assert "rows.jsonl has no record to send" in said


def test_malformed_toml_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    """The file and the line are in the message."""
    (tmp_path / "bad.toml").write_text("name = \n")
    assert "bad.toml is not valid TOML" in refused("run", str(tmp_path / "bad.toml"))


@pytest.mark.parametrize(
    ("member", "words"),
    [(tarfile.TarInfo("../evil.py"), "../evil.py"), (linked(), "weights.bin")],
)
def test_a_hostile_archive_is_refused(
    refused: Callable[..., str], tmp_path: Path, member: tarfile.TarInfo, words: str
) -> None:
    """A path that leaves the folder, or a link, is named; nothing is written outside."""
    path = archive_with(tmp_path / "model.tar.gz", member)
    assert words in refused("run", "sustained", "--model", str(path))
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_archive_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    """Something else under that name is told apart."""
    (tmp_path / "model.tar.gz").write_bytes(b"not an archive")
    assert "model.tar.gz" in refused("run", "sustained", "--model", str(tmp_path / "model.tar.gz"))


def test_a_full_disk_is_refused_before_anything_starts(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has what is free, what is needed, and the way out."""
    monkeypatch.setattr(bench.measure, "FREE_BYTES_NEEDED", 10**18)
    assert re.search(r"Only [\d.]+ MB are free .* --out", refused("run", "sustained"))


def test_help_is_there_for_every_command() -> None:
    """Each command says in a sentence what it does; so does the whole."""
    runner = CliRunner()
    whole = runner.invoke(cli, ["--help"]).output
    for name, command in cli.commands.items():
        assert name in whole
        assert command.help, name
        assert runner.invoke(cli, [name, "--help"]).exit_code == PASSED


def test_settings_and_doctor_and_completion_print() -> None:
    """The three commands that only tell end well."""
    runner = CliRunner()
    assert "serverless.memory_mb" in runner.invoke(cli, ["settings"]).output
    assert "keep_alive_s" in runner.invoke(cli, ["profile", "show", "serverless"]).output
    assert "cores" in runner.invoke(cli, ["doctor"]).output
    assert "_WEIGHBRIDGE_COMPLETE" in runner.invoke(cli, ["completion", "bash"]).output


@pytest.mark.slow
def test_a_run_ends_with_the_answer_and_the_page(tmp_path: Path, digits_archive: Path) -> None:
    """Both options measured, the recommendation printed, the report written, nothing left over."""
    del digits_archive  # trained already
    done = weighbridge("run", "intermittent", *QUICK, folder=tmp_path)
    assert done.returncode == PASSED, done.stdout + done.stderr
    assert "serverless" in done.stdout
    printed = re.search(r"Report: (.*report\.html)", done.stdout)
    assert printed is not None
    page = tmp_path / printed[1]
    assert page.read_text().startswith("<!doctype html>")
    folder = page.parent
    assert (tmp_path / "runs" / "latest").resolve() == folder.resolve()
    answer = json.loads((folder / "recommendation.json").read_text())
    assert [option["mode"] for option in answer["options"]] == ["realtime", "serverless", "async"]
    for mode in ("realtime", "serverless"):
        assert (folder / mode / "requests.parquet").exists()
        assert json.loads((folder / mode / "summary.json").read_text())["valid"]
    page.unlink()
    again = weighbridge("report", str(folder), folder=tmp_path)
    assert again.returncode == PASSED
    assert page.exists()


@pytest.mark.slow
def test_an_impossible_objective_fails(tmp_path: Path, make_model: Callable[[str], Path]) -> None:
    """Exit code 1 when no option meets the objective."""
    model = make_model(ECHO)
    (tmp_path / "body.json").write_text("1")
    change = ["--set", "objective.latency_s=0.000001", "--set", "duration_s=2"]
    options = ["--model", str(model), "--payload", str(tmp_path / "body.json"), *change]
    done = weighbridge("run", "sustained", "--modes", "realtime", *options, folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.slow
def test_a_load_that_could_not_be_sent_is_invalid(
    tmp_path: Path, make_model: Callable[[str], Path]
) -> None:
    """Dropped requests make the run invalid, exit code 4, and the terminal says so."""
    model = make_model(ECHO)
    (tmp_path / "body.json").write_text('{"sleep_s": 0.3}')
    change = ["--set", "duration_s=3", "--set", "max_in_flight=1", "--modes", "realtime"]
    options = ["--model", str(model), "--payload", str(tmp_path / "body.json"), *change]
    done = weighbridge("run", "sustained", *options, folder=tmp_path)
    assert done.returncode == INVALID, done.stdout + done.stderr
    assert "invalid" in done.stdout.lower()


@pytest.mark.slow
@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_measured(
    tmp_path: Path, make_model: Callable[[str], Path], name: signal.Signals
) -> None:
    """Ctrl-C: exit code 130, records and report kept, every process gone, and it says so."""
    (tmp_path / "body.json").write_text("1")
    options = ["--model", str(make_model(ECHO)), "--payload", str(tmp_path / "body.json")]
    with start("run", "sustained", "--modes", "realtime", *options, folder=tmp_path) as command:
        records = tmp_path / "runs" / "latest" / "realtime" / "requests.bin"
        eventually(lambda: records.exists() and records.stat().st_size > 0, "records", 60)
        family = psutil.Process(command.pid).children(recursive=True)
        assert len(family) >= 3  # front end, instance, Locust
        command.send_signal(name)
        assert command.stdout is not None
        said = command.stdout.read()
    assert command.returncode == INTERRUPTED, said
    assert "Interrupted. Every process is stopped; what was measured is in" in " ".join(
        said.split()
    )
    assert not any(process.is_running() for process in family)
    folder = tmp_path / "runs" / "latest"
    assert (folder / "realtime" / "requests.parquet").exists()
    assert (folder / "report.html").exists()
    assert (
        json.loads((folder / "realtime" / "manifest.json").read_text())["status"] == "interrupted"
    )


@pytest.mark.slow
def test_up_serves_boto3_until_interrupted(tmp_path: Path, digits_archive: Path) -> None:
    """The endpoints answer on the printed address; Ctrl-C stops them all, exit code 0."""
    with start("up", "--port", "0", folder=tmp_path) as command:
        assert command.stdout is not None
        lines = iter(command.stdout.readline, "")
        address = next(m[1] for line in lines if (m := re.search(r"on (http://\S+),", line)))
        runtime = aws("sagemaker-runtime", address)
        for endpoint in ("digits-realtime", "digits-serverless"):
            answer = runtime.invoke_endpoint(
                EndpointName=endpoint,
                ContentType="application/json",
                Body=samples(digits_archive)[0],
            )
            assert "predictions" in json.load(answer["Body"])
        family = psutil.Process(command.pid).children(recursive=True)
        command.send_signal(signal.SIGINT)
        said = command.stdout.read()
    assert command.returncode == PASSED, said
    assert "All are stopped." in said
    assert not any(process.is_running() for process in family)


@pytest.mark.slow
def test_up_names_a_port_in_use(tmp_path: Path, digits_archive: Path) -> None:
    """Exit code 2 with the remedy, and nothing left running."""
    del digits_archive
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = weighbridge("up", "--port", str(other.getsockname()[1]), folder=tmp_path)
    assert done.returncode == USAGE
    assert "Choose another port with --port" in done.stderr
