"""A dataset: all records are there at once, and nobody waits for a single one."""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from bench.units import MAX_REQUESTS, DueTimes


class Together(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="dataset"):
    """So many records, all due when the load begins."""

    records: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_REQUESTS,
            description="records of the dataset; default: all of payload.records, each once",
        ),
    ] = 20_000

    def expected_count(self, _: float) -> float:
        return float(self.records)

    def due_times(self, _: float, __: np.random.Generator) -> DueTimes:
        return np.zeros(self.records)
