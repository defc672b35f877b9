"""One measurement: a folder on disk, the only interface between measuring and judging.

    manifest.json      what was run, on what, when, how it ended, and the first verdict on it
    requests.parquet   one row a request, the columns of `bench.record.RECORD`
    samples.parquet    one row a second of real time: CPU, memory, in flight, instances
    metrics.parquet    the servers' metrics as CloudWatch would keep them (`bench.metrics`)
    events.jsonl       cold starts, skips of the clock, instances, phases
    summary.json       the numbers made from these, remade at will

All times are seconds on the run's clock; zero is the start of the load.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.documents import write_json
from bench.errors import ConfigError
from bench.metrics import read_metrics
from bench.record import RECORD, Records

SCHEMA_VERSION = 1

SAMPLE_COLUMNS = (
    "at_s",  # clock time
    "server_cpu_share",  # CPU-seconds a second of the front end and its instances
    "generator_cpu_share",  # the same of the load generator
    "machine_cpu_share",  # busy share of all cores, 0 to 1
    "server_rss_bytes",
    "in_flight",  # requests accepted and not answered
    "instances",  # running, in any state
    "backlog",  # requests waiting for an instance
    "gpu_share",  # as nvidia-smi tells them, of all GPUs; NaN: there is none
    "gpu_memory_bytes",
    "gpu_power_w",
    "lateness_s",  # largest lateness of the generator in that second; NaN: nothing sent
)


@dataclass(frozen=True)
class Run:
    """A finished or interrupted measurement, as it lies on disk."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def mode(self) -> str:
        """``realtime`` or ``serverless``."""
        return str(self.manifest["mode"])

    @property
    def duration_s(self) -> float:
        """Seconds of the clock that the load covered, what was skipped included."""
        return float(self.manifest["load"]["duration_s"])

    @property
    def rate_rps(self) -> float:
        """Requests a second of the clock, on average over the load."""
        return float(self.manifest["load"]["sent"]) / max(self.duration_s, 1e-9)

    def requests(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row a request, in the order of the schedule; ``columns`` of `RECORD`, or all."""
        path = self.folder / "requests.parquet"
        return pd.read_parquet(path, columns=None if columns is None else list(columns))

    def due_s(self) -> npt.NDArray[np.float64]:
        """When each request was due, ascending."""
        return self.requests(["due_s"])["due_s"].to_numpy(np.float64)

    def samples(self) -> pd.DataFrame:
        """One row a second of real time; columns `SAMPLE_COLUMNS`."""
        return pd.read_parquet(self.folder / "samples.parquet")

    def metrics(self) -> pd.DataFrame:
        """One row a metric, variant and minute (or 10 s); columns `METRIC_COLUMNS`."""
        return read_metrics(self.folder)

    def events(self) -> list[dict[str, Any]]:
        """What happened, oldest first; each has ``at_s`` and ``kind``."""
        path = self.folder / "events.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


def read_run(folder: Path) -> Run:
    """The run in ``folder``; ConfigError when there is none or another version wrote it."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} is not a run: it holds no manifest.json. Name a folder under runs/."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Measure again.") from error
    found = manifest.get("schema_version")
    if found != SCHEMA_VERSION:
        raise ConfigError(
            f"{path} has schema version {found!r}; this Weighbridge reads {SCHEMA_VERSION}. "
            "Use the version that wrote it, or measure again."
        )
    if not (folder / "requests.parquet").exists():
        raise ConfigError(
            f"{folder} holds no requests.parquet: that measurement ended "
            f"({manifest.get('status')}) before any request was recorded. Measure again."
        )
    return Run(folder, manifest)


def note_verdict(run: Run, verdict: dict[str, Any]) -> None:
    """Add the first judgement of ``run`` to its manifest; later ones leave it as it is."""
    if "verdict" not in run.manifest:
        run.manifest.update(verdict)
        write_json(run.folder / "manifest.json", run.manifest)


def requests_frame(records: Records) -> pd.DataFrame:
    """Packed records as a table in the order of the schedule, texts as texts."""
    columns: dict[str, Any] = {}
    for name in RECORD.names or ():
        column = records[name]
        columns[name] = np.char.decode(column, "utf-8") if column.dtype.kind == "S" else column
    return pd.DataFrame(columns).sort_values("seq", ignore_index=True)
