"""``weighbridge transform``: files of this machine through a model."""

from pathlib import Path

import pytest

from bench.commands.transform import progress_line
from tests.test_cli import weighbridge
from tests.transforming import write_model


@pytest.mark.slow
def test_a_folder_is_transformed(tmp_path: Path) -> None:
    """Each file gets an output; one that fails says why, and fails the command."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("1\n2\n")
    (tmp_path / "in" / "b").write_text("refuse\n")
    model = write_model(tmp_path / "model")
    options = ["--out", "out", "--model", str(model), "--name", "mine"]
    done = weighbridge("transform", "in", *options, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "mine: Failed" in done.stdout
    assert (tmp_path / "out" / "a.out").read_text() == "[1]\n[2]\n"
    assert not (tmp_path / "out" / "b.out").exists()
    log = tmp_path / "runs" / "transform" / "jobs" / "mine" / "job.log"
    assert "the model refuses it" in log.read_text()
    one = weighbridge("transform", "in/a", *options[:-1], "other", folder=tmp_path)
    assert (one.returncode, "other: Completed" in one.stdout) == (0, True), one.stderr


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
