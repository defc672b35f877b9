"""Traces: when each request came, and how large it was, read from a table or an access log."""

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
from bench.payload import MAX_BODY_BYTES, Sizes
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
    sizes: Sizes | None = None
    """Bytes of each request, if the trace was read with a column of them."""
    classes: tuple[str, ...] | None = None
    """The class of each request, if the trace was read with a column of them."""

    @property
    def rows(self) -> int:
        """Rows with content, the malformed ones included."""
        return len(self.times_s) + self.malformed


class Columns(NamedTuple):
    """The names of the columns to read."""

    time: str
    size: str | None = None
    group: str | None = None

    def places(self, path: Path, names: Sequence[str]) -> list[int | None]:
        """Where each stands among ``names``; ConfigError when one is missing."""
        return [None if each is None else _position(path, names, each) for each in self]


class Batch(NamedTuple):
    """Some rows in their order in the file."""

    stamps: "Sequence[Any] | pd.Series[Any]"  # None where a row has none
    text: Callable[[int], str]  # what to show of each, should it be malformed
    edges: Sequence[int]  # the number of each row in the file, and of the first one after them
    sizes: "Sequence[Any] | pd.Series[Any] | None" = None
    classes: "Sequence[Any] | pd.Series[Any] | None" = None


def read_trace(path: Path, form: str, columns: str | Columns) -> Trace:
    """The trace in the file; ConfigError when it is no file, has no such column, or is no trace.

    Malformed rows are counted, however many. A file that did not change is read once.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"There is no trace file {path}. Check arrivals.path, or --trace.")
        found = path.stat()
        wanted = Columns(columns) if isinstance(columns, str) else columns
        return _read(path.absolute(), path, form, wanted, (found.st_mtime_ns, found.st_size))
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"The trace {path} cannot be read: {error}.") from error


@lru_cache(maxsize=2)
def _read(absolute: Path, path: Path, form: str, columns: Columns, _: tuple[int, int]) -> Trace:
    with absolute.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    form = _detected(path) if form == "auto" else form
    if form in ("alb", "nginx") and columns[1:] != (None, None):
        raise ConfigError(
            f"The trace {path} is an access log ({form}), which has no columns of sizes or "
            "classes. Leave out arrivals.size_column and arrivals.class_column."
        )
    reading = _Reading()
    for batch in READERS[form](path, columns):
        reading.add(batch)
    if not reading.rows:
        raise ConfigError(f"The trace {path} has no rows (read as {form}). Name another file.")
    if not reading.kind:
        raise ConfigError(
            f"The trace {path}, read as {form}: none of its {reading.rows:,} rows has a readable "
            f"timestamp. {examples_text(reading.examples)} Timestamps are ISO 8601, time since "
            "1970, or seconds. arrivals.format and arrivals.timestamp_column say how to read it."
        )
    times_s = np.concatenate(reading.times_s)
    order = np.argsort(times_s, kind="stable")
    times_s = times_s[order]
    times_s.flags.writeable = False
    kind, examples = KINDS[reading.kind], tuple(reading.examples)
    sizes = np.concatenate(reading.sizes)[order] if columns.size else None
    classes = tuple(reading.classes[place] for place in order) if columns.group else None
    return Trace(path, sha256, form, times_s, kind, reading.malformed, examples, sizes, classes)


def examples_text(examples: Sequence[str]) -> str:
    """The malformed rows to show, as a sentence."""
    return f"The first malformed: {'; '.join(examples)}."


class _Reading:
    """What was read so far; the first good row decides which kind of timestamp is right."""

    def __init__(self) -> None:
        self.times_s: list[DueTimes] = []
        self.sizes: list[Sizes] = []
        self.classes: list[str] = []
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
        if batch.sizes is not None:
            sizes = pd.to_numeric(pd.Series(batch.sizes), errors="coerce").to_numpy(np.float64)
            good &= (sizes >= 1) & (sizes <= MAX_BODY_BYTES) & (sizes == np.floor(sizes))
            self.sizes.append(sizes[good].astype(np.int64))
        if batch.classes is not None:
            classes = pd.Series(batch.classes)
            good &= classes.notna().to_numpy()
            self.classes += classes[good].map(str).tolist()
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
            wrong = kind not in (0, self.kind)
            other = (
                f" ({KINDS[kind]}; row {self.kind_from} has {KINDS[self.kind]})" if wrong else ""
            )
            self.examples.append(f"row {number}: {shown}{other}")


def _csv(path: Path, columns: Columns) -> Iterator[Batch]:
    with _opened(path, newline="") as file:
        rows = csv.reader(file)
        try:
            header = next(rows, [])
            places, width = columns.places(path, header), len(header)
            edges, part = [rows.line_num + 1], []
            for row in rows:
                part.append(row)
                edges.append(rows.line_num + 1)  # a row may go over several lines
                if len(part) == BATCH_ROWS:
                    yield _cells(part, edges, places, width)
                    edges, part = edges[-1:], []
        except csv.Error as error:
            raise ConfigError(
                f"The trace {path} cannot be read beyond row {rows.line_num}: {error}. "
                "Look for a quote that is not closed."
            ) from error
        if part:
            yield _cells(part, edges, places, width)


def _cells(rows: list[list[str]], edges: list[int], places: list[int | None], width: int) -> Batch:
    def cells(place: int | None) -> list[str | None] | None:
        if place is None:
            return None
        return [row[place] if len(row) == width else None for row in rows]

    stamps, sizes, classes = map(cells, places)
    assert stamps is not None, "the time has a column"
    return Batch(stamps, lambda index: ",".join(rows[index]), edges, sizes, classes)


def _position(path: Path, names: Sequence[str], column: str) -> int:
    """Where the column stands among ``names``."""
    if column not in names:
        known = ", ".join(repr(name[:40]) for name in names[:10]) or "none"
        raise ConfigError(
            f"The trace {path} has no column {column!r}; its columns, separated by commas, are "
            f"{known}. Name the one with the time with arrivals.timestamp_column (size_column, "
            "class_column), or the format with arrivals.format."
        )
    return list(names).index(column)


def _parquet(path: Path, columns: Columns) -> Iterator[Batch]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns.places(path, file.schema_arrow.names)
            first = 1
            wanted = [each for each in columns if each is not None]
            for part in file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(wanted))):
                yield _cell(part.to_pandas(), columns, first)
                first += len(part)
    except pyarrow.ArrowException as error:
        raise ConfigError(f"The trace {path} is not valid Parquet: {error}.") from error


def _cell(part: pd.DataFrame, columns: Columns, first: int) -> Batch:
    stamps, sizes, classes = (None if each is None else part[each] for each in columns)
    assert stamps is not None, "the time has a column"
    edges = range(first, first + len(stamps) + 1)

    def text(index: int) -> str:
        return ", ".join(f"{name}: {part[name].iloc[index]}" for name in part.columns)

    return Batch(stamps, text, edges, sizes, classes)


def _jsonl(path: Path, columns: Columns) -> Iterator[Batch]:
    names = [each for each in columns if each is not None]

    def values(line: str) -> list[str | None]:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = None
        row = value if isinstance(value, dict) else {}
        found = (row.get(name) for name in names)
        return [str(each) if isinstance(each, (str, int, float)) else None for each in found]

    for batch in _lines(path, values):
        cells = dict(zip(names, zip(*batch.stamps, strict=True), strict=True))
        sizes, classes = (cells.get(each) if each else None for each in columns[1:])
        yield batch._replace(stamps=cells[columns.time], sizes=sizes, classes=classes)


def _alb(path: Path, _: Columns) -> Iterator[Batch]:
    return _lines(path, alb_stamp)


def _nginx(path: Path, _: Columns) -> Iterator[Batch]:
    return _lines(path, nginx_stamp)


def _lines(path: Path, stamp: Callable[[str], Any]) -> Iterator[Batch]:
    with _opened(path) as file:
        first = 1
        while part := list(islice(file, BATCH_ROWS)):
            edges = range(first, first + len(part) + 1)
            yield Batch([stamp(line) for line in part], part.__getitem__, edges)
            first += len(part)


Reader = Callable[[Path, Columns], Iterator[Batch]]
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
