"""The bodies of the requests: where they come from, and how large they are."""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

MAX_BODY_BYTES = 2_000_000_000
"""Largest body that may be asked for: above the largest that any option takes."""
POOL = 1000
"""So many sizes stand for a continuous distribution, each for a thousandth of it."""

Bytes = Annotated[int, Meta(ge=1, le=MAX_BODY_BYTES, description="bytes")]
Sizes = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


class ConstantSize(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="constant"
):
    """Every body is as large."""

    bytes: Bytes

    def pool(self) -> tuple[Sizes, Shares]:
        """The sizes that occur, and the share of each."""
        return np.array([self.bytes]), np.ones(1)


class UniformSize(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="uniform"):
    """Any size from ``low_bytes`` to ``high_bytes`` is as likely."""

    low_bytes: Bytes
    high_bytes: Bytes

    def __post_init__(self) -> None:
        if self.low_bytes > self.high_bytes:
            raise ValueError("low_bytes is more than high_bytes")

    def pool(self) -> tuple[Sizes, Shares]:
        """The sizes that occur, and the share of each."""
        return _even(self.low_bytes + _middles() * (self.high_bytes - self.low_bytes))


class LognormalSize(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="lognormal"
):
    """Most bodies are small and a few are large: the logarithm of the size is normal."""

    median_bytes: Bytes
    sigma: Annotated[
        float, Meta(gt=0, le=5, description="spread of the logarithm; 1: p95 is 5 times the median")
    ] = 1.0
    max_bytes: Annotated[Bytes, Meta(description="no body is larger")] = 100 * 2**20

    def pool(self) -> tuple[Sizes, Shares]:
        """The sizes that occur, and the share of each."""
        from statistics import NormalDist

        normal = np.array([NormalDist().inv_cdf(middle) for middle in _middles()])
        return _even(np.minimum(self.median_bytes * np.exp(self.sigma * normal), self.max_bytes))


class ChoiceSize(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="choice"):
    """Some sizes, each with its weight."""

    sizes_bytes: Annotated[
        tuple[Bytes, ...], Meta(min_length=1, max_length=POOL, description="list of bytes")
    ]
    weights: Annotated[
        tuple[Annotated[float, Meta(gt=0)], ...],
        Meta(description="how often each occurs, in any unit; default: all as often"),
    ] = ()

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.sizes_bytes):
            raise ValueError("weights must be as many as sizes_bytes")

    def pool(self) -> tuple[Sizes, Shares]:
        """The sizes that occur, and the share of each."""
        weights = np.array(self.weights or [1.0] * len(self.sizes_bytes))
        return np.array(self.sizes_bytes), weights / weights.sum()


Size = ConstantSize | UniformSize | LognormalSize | ChoiceSize


class Payload(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of each request."""

    path: Annotated[
        str | None,
        Meta(description="file or folder of files to send in turn; default: the model's samples"),
    ] = None
    records: Annotated[
        str | None,
        Meta(
            description="a dataset to send instead, one record a request, in turn: CSV, JSONL, "
            "Parquet or .npy",
        ),
    ] = None
    column: Annotated[
        str | None, Meta(description="of JSONL or Parquet: the column that is the body")
    ] = None
    header: Annotated[bool, Meta(description="a CSV dataset's first row is not a record")] = False
    size: Size | None = None
    fill: Annotated[
        Literal["rows", "spaces", "octets"],
        Meta(
            description="how a body of a size is made. rows: the samples repeated as one batch; "
            "spaces: one JSON sample and spaces; octets: random bytes that no model reads",
        ),
    ] = "rows"
    content_type: Annotated[
        str, Meta(min_length=1, max_length=1024, description="Content-Type of the request")
    ] = "application/json"
    accept: Annotated[str, Meta(max_length=1024, description="Accept of the request")] = (
        "application/json"
    )


CONTENT_TYPES = {
    ".csv": "text/csv",
    ".jsonl": "application/json",
    ".ndjson": "application/json",
    ".parquet": "application/json",
    ".pq": "application/json",
    ".npy": "application/x-npy",
}
"""What a dataset's records are sent as unless the scenario says otherwise, by its name's end."""


def _middles() -> Shares:
    return np.asarray((np.arange(POOL) + 0.5) / POOL)


def _even(sizes: Shares) -> tuple[Sizes, Shares]:
    whole = np.maximum(1, sizes.round()).astype(np.int64)
    return whole, np.full(len(whole), 1 / len(whole))
