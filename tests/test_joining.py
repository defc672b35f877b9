"""Filters and join around a model."""

import uuid
from dataclasses import replace

import orjson
import pytest

from servers.joining import Kind, Processing, Stamp, kind_of
from servers.jsonpath import compiled
from servers.splitting import BadObject, MiniBatch


def processing(
    kind: Kind, before: str = "$", join: bool = False, after: str = "$", by_line: bool = True
) -> Processing:
    return Processing(kind, by_line, compiled(before), join, compiled(after))


def test_a_csv_row_is_joined_to_its_answer() -> None:
    """The answer's fields come after the record's: AWS's own example."""
    batch = MiniBatch(b"1,2,3\n4,5,6\n", 2, 0)
    assert processing("csv", join=True).written(batch, b"1\n0\n") == b"1,2,3,1\n4,5,6,0"


def test_csv_columns_are_chosen_before_and_after() -> None:
    """The model sees its columns; the output has the id and the answer."""
    batch = MiniBatch(b'7,"a,b",1.50\n8,"c""d",2\n', 2, 0)
    chosen = processing("csv", "$[1:]", True, "$[0,-1]")
    assert chosen.sent(batch) == b'"a,b",1.50\n"c""d",2'
    assert chosen.written(batch, b"0.9\n0.8\n") == b"7,0.9\n8,0.8"


def test_one_csv_column_is_a_row() -> None:
    """A filter that leaves one column does not make it anything else."""
    assert processing("csv", "$[0]").sent(MiniBatch(b"a,b\r\nc,d\r\n", 2, 0)) == b"a\nc"


def test_empty_csv_fields_stay() -> None:
    """Also at the end of a row, and beside quoted ones."""
    batch = MiniBatch(b',"",\n', 1, 0)
    assert processing("csv", join=True).written(batch, b"1") == b',"",,1'


def test_a_json_object_gets_the_answer_as_a_member() -> None:
    """Under the reserved name, and the output filter sees both."""
    batch = MiniBatch(b'{"id": 1, "x": [1]}\n{"id": 2, "x": [2]}', 2, 0)
    chosen = processing("jsonlines", "$.x", True, "$['id','SageMakerOutput']")
    assert chosen.sent(batch) == b"[1]\n[2]"
    expected = b'{"id":1,"SageMakerOutput":{"y":9}}\n{"id":2,"SageMakerOutput":[8]}'
    assert chosen.written(batch, b'{"y": 9}\n[8]\n') == expected


def test_what_is_no_object_is_joined_under_two_names() -> None:
    """An array cannot get a member."""
    written = processing("jsonlines", join=True).written(MiniBatch(b"[1,2]", 1, 0), b"5")
    assert written == b'{"SageMakerInput":[1,2],"SageMakerOutput":5}'


def test_a_whole_json_document_is_one_record() -> None:
    """It may have several lines when objects are not split."""
    batch = MiniBatch(b'{\n "x": 1\n}\n', 1, 0)
    whole = processing("json", join=True, by_line=False)
    assert whole.written(batch, b"[\n1]") == b'{"x":1,"SageMakerOutput":[1]}'


STAMP = Stamp("1f1d57b1-2e6f-488c-8c30-db4e6d757861", "2022-08-30T00:49:15Z")


def test_a_csv_row_ends_with_its_id_and_the_time() -> None:
    """Two columns more, after the filter, each row with an id of its own."""
    stamped = replace(processing("csv", join=True, after="$[-1]"), stamp=STAMP)
    rows = stamped.written(MiniBatch(b"a\nb\n", 2, 5), b"0\n1").decode().splitlines(keepends=True)
    fields = [row.split(",") for row in rows]
    assert [each[0] for each in fields] == ["0", "1"]
    assert all(each[2] == "2022-08-30T00:49:15Z\n" for each in fields)
    assert len({uuid.UUID(each[1]) for each in fields}) == 2
    assert stamped.written(MiniBatch(b"b\n", 1, 6), b"1").decode() == rows[1], "made again, equal"


def test_a_json_record_gets_its_id_as_a_member() -> None:
    """Under AWS's reserved names; what is no object becomes one."""
    stamped = replace(processing("jsonlines"), stamp=STAMP)
    written = stamped.written(MiniBatch(b"1\n2\n", 2, 0), b'{"output":0}\n7\n')
    first, second = map(orjson.loads, written.splitlines())
    assert list(first) == ["output", "SageMakerInferenceId", "SageMakerInferenceTime"]
    assert list(second) == ["SageMakerOutput", "SageMakerInferenceId", "SageMakerInferenceTime"]


def test_an_output_filter_works_without_a_join() -> None:
    """It then sees the answer alone."""
    batch = MiniBatch(b"{}\n{}", 2, 0)
    assert processing("jsonlines", after="$.y").written(batch, b'{"y":1}\n{"y":2}\n') == b"1\n2"


def test_nothing_is_parsed_where_nothing_is_asked() -> None:
    """What goes through untouched may be malformed: the model decides."""
    batch = MiniBatch(b"{nonsense\n", 1, 0)
    assert processing("jsonlines", after="$.y").sent(batch) == batch.body
    assert processing("jsonlines", "$.x").written(batch, b"{also\n") == b"{also\n"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"x":1}\n{"x":\n', "record 12 is malformed"),
        (b'{"x":1}\n{"y":2}\n', r"record 12: the JSONPath \$\.x names nothing"),
    ],
)
def test_a_bad_record_is_named_by_its_number_in_the_object(body: bytes, why: str) -> None:
    """Counted from one, over all mini-batches."""
    with pytest.raises(BadObject, match=why):
        processing("jsonlines", "$.x").sent(MiniBatch(body, 2, 10))


def test_a_quote_that_is_not_closed_is_malformed() -> None:
    """CSV records of a batch job have no newlines in them."""
    with pytest.raises(BadObject, match="record 1 is malformed: a quote"):
        processing("csv", "$[0]").sent(MiniBatch(b'a,"b\nc",d\n', 2, 0))


def test_a_model_that_answers_too_few_records_is_found_out() -> None:
    """Joining its answers to the wrong records would be silent harm."""
    with pytest.raises(BadObject, match="answered 1 records for the 2 from record 5 on"):
        processing("csv", join=True).written(MiniBatch(b"1\n2\n", 2, 4), b"1\n")


def test_only_three_formats_can_be_filtered() -> None:
    """Parameters of the type do not matter."""
    assert kind_of("text/csv; charset=utf-8") == "csv"
    assert kind_of("application/jsonlines") == "jsonlines"
    assert [kind_of("application/x-image"), kind_of(None)] == [None, None]
