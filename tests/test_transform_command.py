"""``weighbridge transform``: files of this machine through a model."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.commands.transform import progress_line
from bench.errors import FAILED, PASSED
from tests.transforming import write_model


@pytest.mark.slow
def test_a_folder_is_transformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file gets an output; one that fails says why, and fails the command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("1\n2\n")
    (tmp_path / "in" / "b").write_text("refuse\n")
    model = write_model(tmp_path / "model")
    options = ["--out", "out", "--model", str(model), "--name", "mine"]
    done = CliRunner().invoke(cli, ["transform", "in", *options])
    assert (done.exit_code, "mine: Failed" in done.output) == (FAILED, True), done.output
    assert (tmp_path / "out" / "a.out").read_text() == "[1]\n[2]\n"
    assert not (tmp_path / "out" / "b.out").exists()
    log = tmp_path / "runs" / "transform" / "jobs" / "mine" / "job.log"
    assert "the model refuses it" in log.read_text()
    one = CliRunner().invoke(cli, ["transform", "in/a", *options[:-1], "other"])
    assert (one.exit_code, "other: Completed" in one.output) == (PASSED, True), one.output


def test_progress_is_one_line() -> None:
    """Records, bytes, rates and the time that is left."""
    counts = {
        "Records": 1500,
        "DoneBytes": 1_500_000,
        "TotalBytes": 3_000_000,
        "RateRps": 500.0,
        "RateBytesPerS": 500_000.0,
        "EtaS": 3.0,
    }
    assert (
        progress_line(counts) == "1,500 records, 1.5 of 3.0 MB, 500 records/s, 0.5 MB/s, 3 s left"
    )
    assert progress_line(None) == "starting the model"
