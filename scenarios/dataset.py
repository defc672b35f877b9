"""The bodies of requests as the input objects of a batch job, and its outputs as answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import orjson

from bench.payload import Payload
from bench.target import Batch

LINES = {"application/json": "application/jsonlines", "text/csv": "text/csv"}
"""Bodies of these types can stand in one object, a record a line."""
PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Format:
    """How requests of one Content-Type become a job."""

    payload: Payload
    target: Batch

    @property
    def by_line(self) -> bool:
        """Records in lines; else an object a request."""
        return self.payload.content_type in LINES

    def lined(self, body: bytes) -> tuple[bytes, int]:
        """A body as lines, the last one's end included, and how many they are: its records."""
        if self.payload.content_type == "application/json":
            return orjson.dumps(orjson.loads(body)) + b"\n", 1
        lines = [line for line in body.splitlines() if line.strip()]
        if not lines:
            raise ValueError("it has no row")
        return b"\n".join(lines) + b"\n", len(lines)

    def objects(self, count: int) -> list[range]:
        """The requests of each input object: as many objects as instances, or as requests."""
        size = -(-count // min(self.target.instance_count, count)) if self.by_line else 1
        return [range(first, min(first + size, count)) for first in range(0, count, size)]

    def answers(self, output: IO[bytes], lines: Sequence[int]) -> list[int]:
        """Bytes of the answer to each request of an object, which has so many ``lines`` each.

        ValueError when the output has more lines or fewer.
        """
        if not self.by_line:
            return [sum(len(piece) for piece in iter(lambda: output.read(PIECE_BYTES), b""))]
        sizes = [len(line.rstrip(b"\r\n")) for line in output]
        if len(sizes) != sum(lines):
            raise ValueError(f"{len(sizes)} answers to {sum(lines)} records")
        firsts = np.cumsum([0, *lines[:-1]])
        found: list[int] = np.add.reduceat(sizes, firsts).tolist()
        return found

    def request(self) -> dict[str, Any]:
        """The members of CreateTransformJob that follow from the format and the settings."""
        target, kind = self.target, self.payload.content_type
        single = target.strategy == "SingleRecord"
        # Alone, a record is what the request was; together they are lines.
        content_type = kind if single or not self.by_line else LINES[kind]
        accept = content_type if content_type == LINES.get(kind) else self.payload.accept
        split = "Line" if self.by_line else "None"
        wanted: dict[str, Any] = {
            "TransformInput": {"ContentType": content_type, "SplitType": split},
            "TransformOutput": {"Accept": accept, "AssembleWith": split},
            "TransformResources": {
                "InstanceType": target.instance_type,
                "InstanceCount": target.instance_count,
            },
            "MaxPayloadInMB": target.max_payload_mb,
        }
        if target.max_concurrent_transforms:
            wanted["MaxConcurrentTransforms"] = target.max_concurrent_transforms
        if self.by_line:
            wanted["BatchStrategy"] = target.strategy
        return wanted
