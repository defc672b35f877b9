"""Packs outcomes into records, and passes them on in batches."""

import math
import struct
from collections.abc import Callable

from bench.record import RECORD, Records, read_records
from scenarios.outcome import Outcome, durations_s, instance

PARTS = ("model", "overhead", "wait", "setup", "placement", "backlog", "download", "store")
"""The metrics of Server-Timing that a record keeps, in the order of its fields."""
BATCH = 512
"""While a batch is passed on nothing is sent; with so many that takes 0.2 to 0.3 ms."""

_UNKNOWN = (math.nan,) * len(PARTS)
_NOTHING: dict[str, float] = {}

_LAYOUT = struct.Struct("<I4dh40s?24s10f2I")
assert _LAYOUT.size == RECORD.itemsize, "this is RECORD, for records one at a time"


class Recorder:
    """Appends packed records to a file, if one is given, and shows each batch to ``seen``."""

    def __init__(self, path: str | None, seen: Callable[[Records], None]) -> None:
        self._path = path
        self._seen = seen
        self._buffer = bytearray(BATCH * _LAYOUT.size)
        self._used = 0

    def add(
        self, seq: int, due_s: float, start_s: float, request_bytes: int, outcome: Outcome
    ) -> None:
        """Note one request; ``start_s`` is the schedule's zero on the outcome's clock."""
        timing, sent_s = outcome.server_timing, outcome.sent_s
        known = durations_s(timing) if timing else _NOTHING
        _LAYOUT.pack_into(
            self._buffer,
            self._used,
            seq,
            due_s,
            sent_s - start_s,
            outcome.first_byte_s - start_s,
            outcome.done_s - start_s,
            outcome.status,
            _text(outcome.error) if outcome.error else b"",
            "setup" in known,
            _text(instance(timing)) if "instance" in timing else b"",
            *(map(known.get, PARTS, _UNKNOWN) if known else _UNKNOWN),
            outcome.connect_s,
            outcome.upload_s,
            request_bytes if sent_s == sent_s else 0,  # NaN: never sent
            outcome.response_bytes,
        )
        self._used += _LAYOUT.size
        if self._used == len(self._buffer):
            self.flush()

    def flush(self) -> None:
        """Pass on what is noted."""
        if not self._used:
            return
        packed, self._used = bytes(self._buffer[: self._used]), 0
        if self._path is not None:
            with open(self._path, "ab") as file:
                file.write(packed)
        self._seen(read_records(packed))


def _text(text: str) -> bytes:
    # It may be cut to the field's length, so a character must be a byte.
    return text.encode("ascii", "replace")
