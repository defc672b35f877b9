"""What happened during a run, one JSON object a line: skips, cold starts, instances, phases."""

import json
import os
from pathlib import Path
from typing import Any


class EventLog:
    """Appends events to a file that several processes may share.

    Each line is one ``write`` on a descriptor opened for appending, so lines never mix.
    """

    def __init__(self, path: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = None if path is None else os.open(path, flags, 0o644)

    def write(self, kind: str, at_s: float, **fields: Any) -> None:
        """Note that ``kind`` happened at ``at_s`` on the run's clock."""
        if self._descriptor is not None:
            line = json.dumps({"at_s": round(at_s, 6), "kind": kind, **fields})
            os.write(self._descriptor, line.encode() + b"\n")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The events in a file so far, a half-written last line left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]
