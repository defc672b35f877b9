"""Records of a dataset as bodies: each row of a CSV, JSONL, Parquet or .npy file is one request."""

import json
import tempfile
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import ConfigError
from bench.payload import Payload, Sizes
from bench.stock import Stock, stock_of_ranges
from bench.units import MAX_REQUESTS

MAX_RECORD_BYTES = 100 * 2**20
_BATCH_ROWS = 1000


def dataset_stock(payload: Payload, most: int, path: Path) -> Stock:
    """The first ``most`` records; rows of text stay where they are, others are written to ``path``.

    ConfigError when the file is no dataset, or has no record.
    """
    assert payload.records is not None, "the caller looks first"
    source = Path(payload.records)
    if not source.is_file():
        raise ConfigError(f"There is no dataset {source}. Check payload.records.")
    suffix = source.suffix.lower()
    in_text = suffix == ".csv" or (suffix in (".jsonl", ".ndjson") and payload.column is None)
    if in_text:
        offsets, lengths = _lines(source, payload.header and suffix == ".csv", most)
        found = stock_of_ranges(source, offsets, lengths)
    elif suffix in _READERS:
        found = _written(islice(_READERS[suffix](source, payload), most), path)
    else:
        known = ", ".join(sorted({".csv", *_READERS}))
        raise ConfigError(f"payload.records = {str(source)!r}: name a file that ends in {known}.")
    if not len(found):
        raise ConfigError(f"The dataset {source} has no record to send.")
    return found


def count_records(payload: Payload) -> int:
    """How many records the dataset has; ConfigError as above, or when no run can hold them."""
    assert payload.records is not None, "the caller looks first"
    source = Path(payload.records)
    suffix = source.suffix.lower()
    if suffix in (".csv", ".jsonl", ".ndjson") and source.is_file():
        found = len(_lines(source, payload.header and suffix == ".csv", MAX_REQUESTS + 1)[0])
    else:
        with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
            found = len(dataset_stock(payload, MAX_REQUESTS + 1, Path(folder) / "records"))
    if not found:
        raise ConfigError(f"The dataset {source} has no record to send.")
    if found > MAX_REQUESTS:
        raise ConfigError(
            f"The dataset {source} has more than the {MAX_REQUESTS:,} records that a run may hold. "
            "Set arrivals.records to take the first ones, or transform it without measuring: "
            "`weighbridge transform` takes any number."
        )
    return found


def _lines(source: Path, header: bool, most: int) -> tuple[Sizes, Sizes]:
    """Where each line begins and how long it is; a CSV row may go over several lines."""
    csv = source.suffix.lower() == ".csv"
    offsets, lengths = array("q"), array("q")  # 8 bytes each: there may be millions
    at = start = 0
    open_quote = False
    with source.open("rb") as file:
        while len(offsets) < most + header:
            line = file.readline(MAX_RECORD_BYTES)
            at += len(line)
            open_quote ^= csv and line.count(b'"') % 2 == 1
            if at - start >= MAX_RECORD_BYTES:
                raise ConfigError(
                    f"A record of {source}, from byte {start} on, is longer than "
                    f"{MAX_RECORD_BYTES // 2**20} MiB. Look for a quote that is not closed."
                )
            if line and open_quote:
                continue
            length = at - start - (len(line) - len(line.rstrip(b"\r\n")))
            if length:
                offsets.append(start)
                lengths.append(length)
            start = at
            if not line:
                break
    return np.array(offsets[header:], np.int64), np.array(lengths[header:], np.int64)


def _written(bodies: Iterator[bytes], path: Path) -> Stock:
    lengths = []
    with path.open("wb") as file:
        for body in bodies:
            file.write(body)
            lengths.append(len(body))
    ends = np.cumsum(lengths, dtype=np.int64)
    return stock_of_ranges(path, ends - lengths, np.array(lengths, np.int64))


def _jsonl(source: Path, payload: Payload) -> Iterator[bytes]:
    with source.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{source}, row {number} is no JSON: {error}.") from None
            if not isinstance(value, dict) or payload.column not in value:
                raise ConfigError(
                    f"{source}, row {number} has no column {payload.column!r}. "
                    "Check payload.column."
                )
            yield _encoded(value[payload.column], payload.content_type)


def _parquet(source: Path, payload: Payload) -> Iterator[bytes]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            names = file.schema_arrow.names
            if payload.column is not None and payload.column not in names:
                raise ConfigError(
                    f"{source} has no column {payload.column!r}; its columns are "
                    f"{', '.join(names[:10])}. Check payload.column."
                )
            wanted = None if payload.column is None else [payload.column]
            for part in file.iter_batches(_BATCH_ROWS, columns=wanted):
                for row in part.to_pylist():
                    value = row if payload.column is None else row[payload.column]
                    yield _encoded(value, payload.content_type)
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{source} is not valid Parquet: {error}.") from error


def _npy(source: Path, payload: Payload) -> Iterator[bytes]:
    try:
        array = np.load(source, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ConfigError(f"{source} is no NPY array: {error}.") from error
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise ConfigError(f"{source} has no rows to send. Give it an array of rows.")
    for row in array:
        yield _encoded(np.asarray(row), payload.content_type)


def _encoded(value: Any, content_type: str) -> bytes:
    """A value as the body of this content type."""
    import io

    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-npy":
        stream = io.BytesIO()
        np.save(stream, _numbers(value), allow_pickle=False)
        return stream.getvalue()
    if kind == "text/csv":
        values = value.values() if isinstance(value, dict) else np.ravel(value).tolist()
        return (",".join(map(str, values)) + "\n").encode()
    if isinstance(value, bytes):
        return value
    if kind == "application/json":
        plain = value.tolist() if isinstance(value, np.ndarray) else value
        return json.dumps(plain, default=str).encode()
    return str(value).encode()


def _numbers(value: Any) -> Any:
    array = np.asarray(list(value.values()) if isinstance(value, dict) else value)
    if array.dtype.kind not in "biuf":
        raise ConfigError(
            f"A record with {array.dtype} cannot be sent as application/x-npy. "
            "Set payload.content_type."
        )
    return array


_READERS = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".npy": _npy,
}
