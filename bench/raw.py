"""What a measurement writes while it runs, and its final form in the run folder.

While it runs there are ``requests.bin`` (packed records) and ``events.jsonl``, on the clock's time.
In the end there is ``requests.parquet``, and every time counts from the start of the load.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.events import read_lines
from bench.metrics import finish_metrics
from bench.record import RECORD, Records, read_records
from bench.run import SAMPLE_COLUMNS, requests_frame

CHUNK = 65_536
"""Records held in memory at once: a long run must not need more of it than a short one."""
TIMEOUTS = (b"Timeout", b"ConnectTimeout")

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
    return read_lines(folder / "events.jsonl")


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
    frame = pd.DataFrame(samples, columns=list(SAMPLE_COLUMNS), dtype=float)
    frame["at_s"] -= start_s
    frame.to_parquet(folder / "samples.parquet", index=False, compression="zstd")
    finish_metrics(folder, start_s)
    shifted = [_shifted(event, start_s) for event in events]
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in shifted), encoding="utf-8"
    )
    counts = _write_requests(folder)
    (folder / "requests.bin").unlink(missing_ok=True)
    return _account(counts, frame, shifted, planned_s)


@dataclass
class _Counts:
    """What the records say together."""

    sent: int = 0
    dropped: int = 0
    ok: int = 0
    timeouts: int = 0
    last_done_s: float = 0.0
    first_sent: tuple[float, float] = (math.inf, math.inf)  # due, sent
    last_sent: tuple[float, float] = (-math.inf, -math.inf)

    def add(self, records: Records) -> None:
        """Count ``records``, which are in the order of the schedule."""
        sent = records[~np.isnan(records["sent_s"])]
        self.sent += len(sent)
        self.dropped += len(records) - len(sent)
        self.ok += int((sent["error"] == b"").sum())
        self.timeouts += int(np.isin(sent["error"], TIMEOUTS).sum())
        self.last_done_s = max(self.last_done_s, float(records["done_s"].max()))
        if len(sent):
            first, last = sent[0], sent[-1]
            found = (float(first["due_s"]), float(first["sent_s"]))
            self.first_sent = min(self.first_sent, found)
            self.last_sent = max(self.last_sent, (float(last["due_s"]), float(last["sent_s"])))

    def rate_share(self) -> float | None:
        """Achieved over offered rate, first request to last; None when all were due at once."""
        due_s, sent_s = np.subtract(self.last_sent, self.first_sent).tolist()
        return due_s / sent_s if self.sent > 1 and due_s > 0 and sent_s > 0 else None


def _write_requests(folder: Path) -> _Counts:
    """Write requests.parquet piece by piece, in the order of the schedule."""
    counts, writer = _Counts(), None
    for records in _sorted_records(folder / "requests.bin"):
        counts.add(records)
        table = pa.Table.from_pandas(requests_frame(records), preserve_index=False)
        if writer is None:
            path = folder / "requests.parquet"
            writer = pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return counts


def _sorted_records(path: Path) -> Iterator[Records]:
    """All records in the order of the schedule, some at a time."""
    count = path.stat().st_size // RECORD.itemsize if path.exists() else 0
    places = np.empty(count, RECORD["seq"])
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb")) if count else None
        for first in range(0, count, CHUNK):
            assert file is not None
            part = read_records(file.read(min(CHUNK, count - first) * RECORD.itemsize))
            places[first : first + len(part)] = part["seq"]
    order = np.argsort(places, kind="stable")
    for first in range(0, count, CHUNK):
        # Opened anew each time: what has been read of a mapped file counts as this process's.
        mapped = np.memmap(path, RECORD, "r", shape=(count,))
        yield np.array(mapped[order[first : first + CHUNK]])
        del mapped


def _account(
    counts: _Counts, samples: pd.DataFrame, events: Events, planned_s: float
) -> dict[str, Any]:
    ended = any(_is_phase(event, "end") for event in events)
    last_s = max([event["at_s"] for event in events] + [0.0])
    duration_s = planned_s if ended else min(planned_s, max(last_s, counts.last_done_s))
    # A skip may begin just before the load does, and the servers' timers turn the clock after it.
    skips = [
        (max(0.0, event["at_s"]), min(event["to_s"], duration_s))
        for event in events
        if event["kind"] == "skip" and event["to_s"] > 0 and event["at_s"] < duration_s
    ]
    skipped_s = sum(to_s - at_s for at_s, to_s in skips)
    checks = [event for event in events if event["kind"] == "selfcheck"]
    check = checks[-1] if checks else None
    if check is not None:
        cpu_share = check["cpu_s"] / max(check["real_s"], 1e-6)
    else:
        cpu_share = float(samples["generator_cpu_share"].mean()) if len(samples) else math.nan
    return {
        **_balance(counts, check),
        "duration_s": duration_s,
        "real_s": round(max(0.0, duration_s - skipped_s), 3),
        "skipped_s": round(skipped_s, 3),
        "skips": len(skips),
        "generator_cpu_share": None if math.isnan(cpu_share) else round(cpu_share, 4),
        "rate_share": counts.rate_share(),
        "selfcheck": None if check is None else _without(check, "at_s", "kind"),
    }


def _balance(counts: _Counts, check: dict[str, Any] | None) -> dict[str, Any]:
    """What became of each request, from the records; checked against the generator's own count.

    Without that count, after the generator was killed, what was on its way is not known.
    """
    errors = counts.sent - counts.ok - counts.timeouts
    found = {"ok": counts.ok, "errors": errors, "timeouts": counts.timeouts}
    if check is None:
        unknown = {"unsent": None, "in_flight": None, "balanced": None}
        return {"sent": counts.sent, "dropped": counts.dropped, **found, **unknown}
    balanced = (
        check["dropped"] == counts.dropped
        and check["sent"] == counts.sent + check["in_flight"]
        and check["sent"] + check["dropped"] + check["unsent"] == check["scheduled"]
    )
    return {
        "sent": check["sent"],
        "dropped": check["dropped"],
        "unsent": check["unsent"],
        **found,
        "in_flight": check["in_flight"],
        "balanced": balanced,
    }


def _without(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in names}


def _shifted(event: dict[str, Any], start_s: float) -> dict[str, Any]:
    times = {key: round(event[key] - start_s, 6) for key in ("at_s", "to_s") if key in event}
    return event | times


def _is_phase(event: dict[str, Any], name: str) -> bool:
    return bool(event["kind"] == "phase" and event["name"] == name)


def latencies_s(records: Records) -> npt.NDArray[np.float64]:
    """Seconds from due time to answer of the requests that were answered as they should be."""
    good = records[records["error"] == b""]
    return np.asarray(good["done_s"] - good["due_s"])
