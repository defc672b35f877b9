"""Plain Locust as a child process, for tests: importing it would patch this interpreter."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.record import Records, read_records

SCENARIOS = Path(__file__).parent.parent / "scenarios"


def load(address: str, folder: Path, bodies: Sequence[object], *options: str) -> Records:
    """Plain Locust on ``sustained`` with these bodies; the records that it wrote.

    What it printed is in ``folder / "out"``.
    """
    (folder / "bodies").mkdir()
    for number, body in enumerate(bodies):
        (folder / "bodies" / f"{number:04}.json").write_text(json.dumps(body))
    records = folder / "records"
    command = [sys.executable, "-m", "locust", "-f", str(SCENARIOS / "sustained.py")]
    command += ["--headless", "--host", address, "--records", str(records)]
    command += ["--payload", str(folder / "bodies"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    (folder / "out").write_text(done.stdout + done.stderr)
    return np.sort(read_records(records.read_bytes()), order="seq")


def sets(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]
