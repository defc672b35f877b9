"""Run folders of asynchronous endpoints and batch jobs with a known truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import Records
from bench.run import Run
from tests.make_runs import make_run, realistic, records


def note(run: Run, *events: dict[str, Any]) -> Run:
    """``run`` with these events in its log."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (run.folder / "events.jsonl").write_text(lines, encoding="utf-8")
    return run


def stay(name: str, from_s: float, to_s: float | None = None) -> list[dict[str, Any]]:
    """The events of one instance; without an end it is there until the run ends."""
    found = [{"at_s": from_s, "kind": "instance_started", "instance": name, "setup_s": 2.0}]
    if to_s is not None:
        gone = {"at_s": to_s, "kind": "instance_stopped", "instance": name, "reason": "idle"}
        found.append(gone)
    return found


def queued(rows: Records, backlog_s: Any = 40.0) -> Records:
    """``rows`` as an asynchronous endpoint answers them: uploaded, queued, fetched, stored."""
    rows["upload_s"], rows["download_s"], rows["store_s"] = 0.02, 0.01, 0.01
    rows["backlog_s"] = backlog_s
    rows["done_s"] += rows["upload_s"] + rows["backlog_s"] + 0.02
    rows["first_byte_s"] = rows["done_s"]
    return rows


def async_run(folder: Path, rows: Records | None = None, **changes: Any) -> Run:
    """A day on an asynchronous endpoint that scales to zero: two stays of an hour each."""
    rows = queued(realistic("realtime")) if rows is None else rows
    run = make_run(folder, "async", rows, **changes)
    return note(run, *stay("i-1", 3600, 7200), *stay("i-2", 43200, 46800))


def batch_run(folder: Path, n: int = 1000, took_s: float = 600.0, **changes: Any) -> Run:
    """``n`` records, all due at the start, done one after the other in a job of ``took_s``."""
    rows = records(n, 0.0, model_s=took_s / n)
    rows["placement_s"], rows["setup_s"] = 180.0, 5.0
    rows["done_s"] = 185.0 + np.linspace(took_s / n, took_s, n)
    rows["backlog_s"] = rows["done_s"] - 185.0 - took_s / n
    job = {"job": "j-1", "status": "Completed", "records": n, "bytes": n * 500}
    run = make_run(folder, "batch", rows, **changes)
    return note(
        run,
        {"at_s": 0.0, "kind": "job_started", "job": "j-1"},
        *stay("j-1", 185.0, 185.0 + took_s),
        {"at_s": 185.0 + took_s, "kind": "job_ended", **job},
    )
