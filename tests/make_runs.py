"""Run folders with a known truth, for the tests of everything that reads them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.arrivals import Bursts
from bench.record import RECORD, Records
from bench.run import Run, read_run, requests_frame
from bench.workload import Objective, Workload

DAY_S = 86_400.0

PROFILE = {
    "serverless": [
        {
            "name": "keep_alive_s",
            "value": 300.0,
            "unit": "s",
            "basis": "assumed",
            "source": "AWS guide, page 2.3",
            "meaning": "Idle seconds after which an environment is removed.",
        },
        {
            "name": "payload_max_bytes",
            "value": 4_194_304,
            "unit": "bytes",
            "basis": "documented",
            "source": "AWS guide, page 2.1",
            "meaning": "Largest request and response.",
        },
    ],
    "realtime": [
        {
            "name": "invocation_timeout_s",
            "value": 60.0,
            "unit": "s",
            "basis": "documented",
            "source": "AWS guide, page 1.3",
            "meaning": "Seconds after which an invocation fails.",
        },
    ],
}


def workload(latency_s: float = 4.0, **changes: Any) -> Workload:
    """A day of intermittent traffic, with ``changes``."""
    values: dict[str, Any] = {
        "name": "intermittent",
        "title": "A few callers now and then, all day",
        "scenario": "intermittent",
        "duration_s": DAY_S,
        "arrivals": Bursts(mean_gap_s=1800.0, mean_size=3.0, mean_spacing_s=5.0),
        "objective": Objective(latency_s=latency_s),
        "fast_forward": True,
    }
    return Workload(**{**values, **changes})


def records(n: int, every_s: float, model_s: float = 0.1) -> Records:
    """``n`` answered requests, one each ``every_s``, all exactly alike: sent in time, warm."""
    rows = np.zeros(n, RECORD)
    rows["seq"] = np.arange(n)
    rows["due_s"] = np.arange(n) * every_s
    rows["sent_s"] = rows["due_s"]
    rows["first_byte_s"] = rows["due_s"] + model_s
    rows["done_s"] = rows["due_s"] + model_s
    rows["status"] = 200
    rows["instance"] = b"i-1"
    rows["model_s"] = model_s
    for name in ("wait_s", "setup_s", "placement_s"):
        rows[name] = np.nan
    rows["request_bytes"] = 400
    rows["response_bytes"] = 100
    return rows


def make_cold(rows: Records, which: Any, setup_s: Any = 2.0, placement_s: Any = 1.0) -> Records:
    """``rows`` of which some started an environment first."""
    rows["cold"][which] = True
    rows["wait_s"][which] = 0.0
    rows["setup_s"][which] = setup_s
    rows["placement_s"][which] = placement_s
    rows["done_s"][which] += setup_s + placement_s
    rows["first_byte_s"][which] = rows["done_s"][which]
    return rows


def make_failed(rows: Records, which: Any, code: bytes, status: int) -> Records:
    """``rows`` of which some failed."""
    rows["error"][which] = code
    rows["status"][which] = status
    rows["model_s"][which] = np.nan
    return rows


def realistic(mode: str, seed: int = 3) -> Records:
    """A day as it might have been measured; every burst starts cold on serverless."""
    random = np.random.default_rng(seed)
    sizes = random.geometric(1 / 3, 48)
    starts = np.repeat(np.arange(48) * 1800.0 + 40, sizes)
    within = np.concatenate([np.arange(size) * 7.0 for size in sizes])
    model = 0.030 * random.lognormal(0, 0.3, len(starts))
    rows = records(len(starts), 1.0)
    rows["due_s"] = starts + within + random.uniform(0, 3, len(starts))
    rows["sent_s"] = rows["due_s"] + random.exponential(0.0004, len(starts))
    rows["model_s"] = model
    rows["overhead_s"] = 0.002
    rows["done_s"] = rows["sent_s"] + model + 0.003
    rows["first_byte_s"] = rows["done_s"]
    if mode == "serverless":
        first = np.flatnonzero(within == 0)
        setup = 2.1 * random.lognormal(0, 0.15, len(first))
        placement = 0.8 * random.lognormal(0, 0.4, len(first))
        make_cold(rows, first, setup, placement)
    return rows


def make_run(folder: Path, mode: str, rows: Records, **changes: Any) -> Run:
    """A run folder holding ``rows``; ``changes`` replace parts of its manifest.

    ``load`` and ``model`` are merged, the rest is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {**_manifest(mode, len(rows)), **{k: v for k, v in changes.items() if v is not None}}
    for part in ("load", "model", "payload", "machine"):
        manifest[part] = {**_manifest(mode, len(rows))[part], **(changes.get(part) or {})}
    if isinstance(manifest["workload"], Workload):
        manifest["workload"] = msgspec.to_builtins(manifest["workload"])
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    requests_frame(rows).to_parquet(folder / "requests.parquet")
    return read_run(folder)


def make_pair(folder: Path, given: Workload | None = None, **changes: Any) -> list[Run]:
    """A day on real-time and on serverless, as it might have been measured."""
    given = given or workload()
    return [
        make_run(folder / mode, mode, realistic(mode), workload=given, **changes)
        for mode in ("realtime", "serverless")
    ]


def _manifest(mode: str, n: int) -> dict[str, Any]:
    target = {
        "realtime": {"mode": "realtime", "instance_type": "ml.m5.large", "profile": {}},
        "serverless": {
            "mode": "serverless",
            "memory_mb": 2048,
            "max_concurrency": 20,
            "profile": {},
        },
    }
    return {
        "schema_version": 1,
        "tool": {"version": "0.1.0", "git_sha": "0123abc", "git_dirty": False},
        "status": "finished",
        "mode": mode,
        "started_at": "2026-11-22T15:40:00Z",
        "ended_at": "2026-11-22T15:44:00Z",
        "command": "weighbridge run intermittent",
        "workload": workload(),
        "target": target.get(mode, {"mode": mode, "instance_type": "ml.m5.large"}),
        "profile": PROFILE.get(mode, []),
        "enforced": {
            "memory": "private memory capped at 2048 MB (RLIMIT_DATA)",
            "cpu": "2 model threads; CPU time is not capped",
        },
        "model": {"name": "digits", "sha256": "9f" * 32, "path": "models/digits"},
        "payload": {
            "count": 64,
            "mean_bytes": 400.0,
            "largest_bytes": 420,
            "content_type": "application/json",
        },
        "machine": {
            "cpu_model": "Example CPU @ 2.5 GHz",
            "cpu_count": 2,
            "memory_bytes": 8 * 2**30,
            "kernel": "6.1.0",
            "python": "3.11.7",
            "torch": "2.13.0+cpu",
            "fingerprint": "abcd",
        },
        "load": {
            "scheduled": n,
            "sent": n,
            "dropped": 0,
            "duration_s": DAY_S,
            "real_s": 123.4,
            "skipped_s": DAY_S - 123.4,
            "skips": 48,
            "generator_cpu_share": 0.05,
        },
    }
