"""What a measurement writes while it runs, and its final form in the run folder.

While it runs there are ``requests.bin`` (packed records) and ``events.jsonl``, on the clock's time.
In the end there is ``requests.parquet``, and every time counts from the start of the load.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.record import Records, read_records
from bench.run import SAMPLE_COLUMNS, requests_frame

Events = list[dict[str, Any]]


class Tail:
    """Reads records as they are written, each once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "requests.bin"
        self._offset = 0

    def read(self) -> Records:
        """The records that have come since the last call."""
        if not self._path.exists():
            return read_records(b"")
        with self._path.open("rb") as file:
            file.seek(self._offset)
            records = read_records(file.read())
        self._offset += records.nbytes
        return records


def read_events(folder: Path) -> Events:
    """The events so far, a half-written last line left out."""
    path = folder / "events.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def load_start_s(events: Events) -> float:
    """When the load began, on the clock; NaN before it has."""
    starts = [event["at_s"] for event in events if _is_phase(event, "load")]
    return starts[0] if starts else math.nan


def finish(folder: Path, samples: list[tuple[float, ...]], planned_s: float) -> dict[str, Any]:
    """Bring the folder into its final form; the manifest's account of the load.

    ``planned_s`` is how long the load had to last. If it ended early, ``duration_s`` in the
    account is how much of it there was.
    """
    events = read_events(folder)
    start_s = load_start_s(events)
    start_s = 0.0 if math.isnan(start_s) else start_s
    records = Tail(folder).read()
    frame = pd.DataFrame(samples, columns=list(SAMPLE_COLUMNS), dtype=float)
    frame["at_s"] -= start_s
    frame.to_parquet(folder / "samples.parquet", index=False, compression="zstd")
    shifted = [_shifted(event, start_s) for event in events]
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in shifted), encoding="utf-8"
    )
    if len(records):
        requests = requests_frame(records)
        requests.to_parquet(folder / "requests.parquet", index=False, compression="zstd")
    (folder / "requests.bin").unlink(missing_ok=True)
    return _account(records, frame, shifted, planned_s)


def _account(
    records: Records, samples: pd.DataFrame, events: Events, planned_s: float
) -> dict[str, Any]:
    ends = [event for event in events if _is_phase(event, "end")]
    last_s = max([event["at_s"] for event in events] + [0.0])
    duration_s = planned_s if ends else min(planned_s, max(last_s, _last_done_s(records)))
    skips = [event for event in events if event["kind"] == "skip" and event["to_s"] > 0]
    # A skip may begin just before the load does.
    skipped_s = sum(event["to_s"] - max(0.0, event["at_s"]) for event in skips)
    if ends:
        cpu_share = ends[0]["generator_cpu_s"] / max(ends[0]["real_s"], 1e-6)
    else:
        cpu_share = float(samples["generator_cpu_share"].mean()) if len(samples) else math.nan
    dropped = int(np.isnan(records["sent_s"]).sum())
    return {
        "sent": len(records) - dropped,
        "dropped": dropped,
        "duration_s": duration_s,
        "real_s": round(max(0.0, duration_s - skipped_s), 3),
        "skipped_s": round(skipped_s, 3),
        "skips": len(skips),
        "generator_cpu_share": None if math.isnan(cpu_share) else round(cpu_share, 4),
    }


def _last_done_s(records: Records) -> float:
    return float(records["done_s"].max()) if len(records) else 0.0


def _shifted(event: dict[str, Any], start_s: float) -> dict[str, Any]:
    times = {key: round(event[key] - start_s, 6) for key in ("at_s", "to_s") if key in event}
    return event | times


def _is_phase(event: dict[str, Any], name: str) -> bool:
    return bool(event["kind"] == "phase" and event["name"] == name)


def latencies_s(records: Records) -> npt.NDArray[np.float64]:
    """Seconds from due time to answer of the requests that were answered as they should be."""
    good = records[records["error"] == b""]
    return np.asarray(good["done_s"] - good["due_s"])
