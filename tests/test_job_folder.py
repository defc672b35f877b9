"""What is known of a job, on disk."""

from pathlib import Path

from servers.job_folder import JobFolder


def test_a_job_starts_once(tmp_path: Path) -> None:
    """One that goes on after a kill has the start that it had: ids and the bill hang on it."""
    assert JobFolder(tmp_path).start(5.0) == 5.0
    assert JobFolder(tmp_path).start(9.0) == 5.0
