"""Traces: when each request came, read from a table or an access log, a batch of rows at a time."""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

import numpy as np
import orjson
import pandas as pd

from bench.accesslogs import alb_stamp, nginx_stamp
from bench.errors import ConfigError
from bench.timestamps import KINDS, seconds_of
from bench.units import DueTimes

BATCH_ROWS = 50_000
EXAMPLES = 5
"""How many malformed rows are shown."""


@dataclass(frozen=True, eq=False)
class Trace:
    """When the requests of a file came."""

    path: Path
    sha256: str
    format: str
    times_s: DueTimes
    """Ascending: since 1970 in UTC, or since some start if `kind` is ``seconds``."""
    kind: str
    malformed: int
    examples: tuple[str, ...]
    """The first malformed rows: number, text, and what is wrong where the text does not say it."""

    @property
    def rows(self) -> int:
        """Rows with content, the malformed ones included."""
        return len(self.times_s) + self.malformed


class Batch(NamedTuple):
    """Some rows in their order in the file."""

    stamps: "Sequence[Any] | pd.Series[Any]"  # None where a row has none
    text: Callable[[int], str]  # what to show of each, should it be malformed
    edges: Sequence[int]  # the number of each row in the file, and of the first one after them


def read_trace(path: Path, form: str, column: str) -> Trace:
    """The trace in the file; ConfigError when it is no file, has no such column, or is no trace.

    Malformed rows are counted, however many. A file that did not change is read once.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"There is no trace file {path}. Check arrivals.path, or --trace.")
        found = path.stat()
        return _read(path.absolute(), path, form, column, (found.st_mtime_ns, found.st_size))
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"The trace {path} cannot be read: {error}.") from error


@lru_cache(maxsize=2)
def _read(absolute: Path, path: Path, form: str, column: str, _: tuple[int, int]) -> Trace:
    with absolute.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    form = _detected(path) if form == "auto" else form
    reading = _Reading()
    for batch in READERS[form](path, column):
        reading.add(batch)
    if not reading.rows:
        raise ConfigError(f"The trace {path} has no rows (read as {form}). Name another file.")
    if not reading.kind:
        raise ConfigError(
            f"The trace {path}, read as {form}: none of its {reading.rows:,} rows has a readable "
            f"timestamp. {examples_text(reading.examples)} Timestamps are ISO 8601, time since "
            "1970, or seconds. arrivals.format and arrivals.timestamp_column say how to read it."
        )
    times_s = np.sort(np.concatenate(reading.times_s))
    times_s.flags.writeable = False
    kind = KINDS[reading.kind]
    return Trace(path, sha256, form, times_s, kind, reading.malformed, tuple(reading.examples))


def examples_text(examples: Sequence[str]) -> str:
    """The malformed rows to show, as a sentence."""
    return f"The first malformed: {'; '.join(examples)}."


class _Reading:
    """What was read so far; the first good row decides which kind of timestamp is right."""

    def __init__(self) -> None:
        self.times_s: list[DueTimes] = []
        self.kind = 0
        self.kind_from = 0
        self.rows = 0
        self.malformed = 0
        self.examples: list[str] = []

    def add(self, batch: Batch) -> None:
        times_s, kinds = seconds_of(pd.Series(batch.stamps))
        if not self.kind and len(readable := np.flatnonzero(kinds)):
            self.kind = int(kinds[readable[0]])
            self.kind_from = batch.edges[readable[0]]
        good = (kinds == self.kind) & (kinds > 0)
        self.times_s.append(times_s[good])
        for index in np.flatnonzero(~good):
            self._refuse(batch, int(index), int(kinds[index]))
        self.rows = self.malformed + sum(map(len, self.times_s))

    def _refuse(self, batch: Batch, index: int, kind: int) -> None:
        text = batch.text(index)
        if not text.strip():
            return  # an empty line is no row
        number = batch.edges[index]
        self.malformed += batch.edges[index + 1] - number
        if len(self.examples) < EXAMPLES:
            shown = repr(text.rstrip("\r\n")[:80]) + ("…" if len(text) > 80 else "")
            other = f" ({KINDS[kind]}; row {self.kind_from} has {KINDS[self.kind]})" if kind else ""
            self.examples.append(f"row {number}: {shown}{other}")


def _csv(path: Path, column: str) -> Iterator[Batch]:
    with _opened(path, newline="") as file:
        rows = csv.reader(file)
        try:
            header = next(rows, [])
            position, width = _position(path, header, column), len(header)
            edges, part = [rows.line_num + 1], []
            for row in rows:
                part.append(row)
                edges.append(rows.line_num + 1)  # a row may go over several lines
                if len(part) == BATCH_ROWS:
                    yield _cells(part, edges, position, width)
                    edges, part = edges[-1:], []
        except csv.Error as error:
            raise ConfigError(
                f"The trace {path} cannot be read beyond row {rows.line_num}: {error}. "
                "Look for a quote that is not closed."
            ) from error
        if part:
            yield _cells(part, edges, position, width)


def _cells(rows: list[list[str]], edges: list[int], position: int, width: int) -> Batch:
    stamps = [row[position] if len(row) == width else None for row in rows]
    return Batch(stamps, lambda index: ",".join(rows[index]), edges)


def _position(path: Path, names: Sequence[str], column: str) -> int:
    """Where the column stands among ``names``."""
    if column not in names:
        known = ", ".join(repr(name[:40]) for name in names[:10]) or "none"
        raise ConfigError(
            f"The trace {path} has no column {column!r}; its columns, separated by commas, are "
            f"{known}. Name the one with the time with arrivals.timestamp_column, or the format "
            "with arrivals.format."
        )
    return list(names).index(column)


def _parquet(path: Path, column: str) -> Iterator[Batch]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _position(path, file.schema_arrow.names, column)
            first = 1
            for part in file.iter_batches(BATCH_ROWS, columns=[column]):
                yield _cell(part.column(0).to_pandas(), column, first)
                first += len(part)
    except pyarrow.ArrowException as error:
        raise ConfigError(f"The trace {path} is not valid Parquet: {error}.") from error


def _cell(stamps: "pd.Series[Any]", column: str, first: int) -> Batch:
    edges = range(first, first + len(stamps) + 1)
    return Batch(stamps, lambda index: f"{column}: {stamps.iloc[index]}", edges)


def _jsonl(path: Path, column: str) -> Iterator[Batch]:
    def stamp(line: str) -> Any:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        found = value.get(column) if isinstance(value, dict) else None
        return str(found) if isinstance(found, (str, int, float)) else None

    return _lines(path, stamp)


def _alb(path: Path, _: str) -> Iterator[Batch]:
    return _lines(path, alb_stamp)


def _nginx(path: Path, _: str) -> Iterator[Batch]:
    return _lines(path, nginx_stamp)


def _lines(path: Path, stamp: Callable[[str], Any]) -> Iterator[Batch]:
    with _opened(path) as file:
        first = 1
        while part := list(islice(file, BATCH_ROWS)):
            edges = range(first, first + len(part) + 1)
            yield Batch([stamp(line) for line in part], part.__getitem__, edges)
            first += len(part)


Reader = Callable[[Path, str], Iterator[Batch]]
READERS: dict[str, Reader] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "alb": _alb,
    "nginx": _nginx,
}


def _opened(path: Path, newline: str | None = None) -> TextIO:
    """The text of a file, unpacked if its name ends in .gz; what is no text is escaped."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    file = opener(path, "rt", encoding="utf-8-sig", errors="backslashreplace", newline=newline)
    return cast(TextIO, file)


_SUFFIXES = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def _detected(path: Path) -> str:
    """The format that the name tells, else the one that the first lines have."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    with path.open("rb") as packed:
        if packed.read(4) == b"PAR1":
            return "parquet"
    with _opened(path) as file:
        for line in islice(file, 20):
            if alb_stamp(line):
                return "alb"
            if nginx_stamp(line):
                return "nginx"
            if line.startswith("{"):
                return "jsonl"
    return "csv"
