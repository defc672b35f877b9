"""Input filter, join and output filter of batch transform, for CSV, JSON and JSON Lines.

input record ──▶ InputFilter ──▶ model ──▶ join with the input record ──▶ OutputFilter ──▶ stamp
"""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from msgspec import Struct

from servers.jsonpath import JsonPath, NoSuchPath
from servers.splitting import BadObject, MiniBatch

Kind = Literal["csv", "json", "jsonlines"]

INPUT, OUTPUT = "SageMakerInput", "SageMakerOutput"
INFERENCE_ID, INFERENCE_TIME = "SageMakerInferenceId", "SageMakerInferenceTime"

_KINDS: dict[str, Kind] = {
    "text/csv": "csv",
    "application/json": "json",
    "application/jsonlines": "jsonlines",
    "application/x-jsonlines": "jsonlines",
}
_FIELD = re.compile(rb'"(?:[^"]|"")*"[^,]*|[^,]*')


def kind_of(content_type: str | None) -> Kind | None:
    """Which of the three formats this is; None: another, which cannot be filtered or joined."""
    return _KINDS.get((content_type or "").partition(";")[0].strip().lower())


class Stamp(Struct, frozen=True):
    """What GenerateInferenceId appends to each record of an object's output.

    As AWS's developer guide has it (model-monitor-data-capture-batch). There the id is random; here
    it follows from the job, the object and the record, so that a resumed job writes the same again.
    """

    namespace: str
    """A UUID that no other object of any job has."""
    started: str
    """When the job started: 2022-08-30T00:49:15Z."""

    def on(self, value: Any, number: int) -> Any:
        """``value``, the record of that number, with its id and the time."""
        inference_id = str(uuid.uuid5(uuid.UUID(self.namespace), str(number)))
        if isinstance(value, _Row):
            return _Row([*value, inference_id.encode(), self.started.encode()])
        # What is no object gets a name, as in a join: the guide shows objects only.
        record = value if isinstance(value, dict) else {OUTPUT: value}
        return {**record, INFERENCE_ID: inference_id, INFERENCE_TIME: self.started}


@dataclass(frozen=True)
class Processing:
    """What is done around the model."""

    kind: Kind
    by_line: bool
    """A record a line, else one JSON document."""
    before: JsonPath
    join: bool
    after: JsonPath
    stamp: Stamp | None = None

    def sent(self, batch: MiniBatch) -> bytes:
        """What the model gets of a mini-batch."""
        if self.before.everything:
            return batch.body
        records = self._records(batch.body)
        read, write = _FORMATS[self.kind]
        chosen = [
            write(self._select(self.before, self._read(read, record, number), number))
            for number, record in enumerate(records, start=batch.first + 1)
        ]
        return b"\n".join(chosen)

    def written(self, batch: MiniBatch, answer: bytes) -> bytes:
        """What goes to the output for a mini-batch and the model's answer."""
        if not self.join and self.after.everything and self.stamp is None:
            return answer
        answers, inputs = self._records(answer), self._records(batch.body)
        if len(answers) != len(inputs):
            raise BadObject(
                f"the model answered {len(answers)} records for the {len(inputs)} from record "
                f"{batch.first + 1} on: it must answer each, or nothing can be joined, filtered or "
                "given an inference id"
            )
        rows = [
            self._row(*pair, number)
            for number, pair in enumerate(zip(inputs, answers, strict=True), batch.first + 1)
        ]
        # Rows of the next mini-batch may follow, whatever puts them together.
        return b"\n".join(rows) + (b"\n" if self.stamp and self.by_line else b"")

    def _row(self, record: bytes, answer: bytes, number: int) -> bytes:
        read, write = _FORMATS[self.kind]
        value = self._read(read, answer, number, "the model's answer to record")
        if self.join:
            value = _joined(self._read(read, record, number), value)
        value = self._select(self.after, value, number)
        return write(value if self.stamp is None else self.stamp.on(value, number))

    def _records(self, body: bytes) -> Sequence[bytes]:
        return body.rstrip(b"\r\n").split(b"\n") if self.by_line else [body]

    @staticmethod
    def _read(
        read: Callable[[bytes], Any], record: bytes, number: int, what: str = "record"
    ) -> Any:
        try:
            return read(record)
        except ValueError as error:
            raise BadObject(f"{what} {number} is malformed: {error}") from None

    def _select(self, path: JsonPath, value: Any, number: int) -> Any:
        try:
            chosen = path.select(value)
        except NoSuchPath as error:
            raise BadObject(f"record {number}: the JSONPath {error}") from None
        # A row stays a row: one column of a CSV row is a row of one.
        if self.kind != "csv":
            return chosen
        return _Row(chosen if isinstance(chosen, list) else [chosen])


def _joined(record: Any, answer: Any) -> Any:
    if isinstance(record, _Row):
        return _Row([*record, *answer])
    if isinstance(record, dict):
        return {**record, OUTPUT: answer}
    return {INPUT: record, OUTPUT: answer}


class _Row(list[bytes]):
    """The fields of a CSV row as they stand in it, quotes included."""


def _read_row(line: bytes) -> _Row:
    line = line.rstrip(b"\r")
    if b'"' not in line:
        return _Row(line.split(b","))
    fields, at = _Row(), 0
    while at <= len(line):
        found = _FIELD.match(line, at)
        assert found is not None, "an empty field matches"
        if found[0].count(b'"') % 2:
            raise ValueError("a quote is not closed (a CSV record is one line)")
        fields.append(found[0])
        at = found.end() + 1
    return fields


_FORMATS: dict[Kind, tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    "csv": (_read_row, b",".join),
    "json": (orjson.loads, orjson.dumps),
    "jsonlines": (orjson.loads, orjson.dumps),
}
