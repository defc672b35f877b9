"""Bodies of a wanted size, and bodies from records: what is sent, byte for byte."""

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from bench.arrivals import Constant
from bench.bodies import make_stock
from bench.errors import ConfigError
from bench.payload import (
    ChoiceSize,
    ConstantSize,
    LognormalSize,
    Payload,
    Size,
    UniformSize,
)
from bench.replay import Replay
from bench.stock import Stock, read_stock
from bench.workload import Objective, Workload
from scenarios.bodies import Bodies, BodyReader

ROW = list(range(16)) * 4
NPY, CSV = "application/x-npy", "text/csv"


def workload(payload: Payload, **changes: Any) -> Workload:
    return Workload(
        name="w",
        title="t",
        scenario="sustained",
        duration_s=changes.pop("duration_s", 10.0),
        arrivals=changes.pop("arrivals", Constant(10.0)),
        objective=Objective(1.0),
        payload=payload,
        **changes,
    )


def sample(folder: Path, content: bytes, name: str = "sample.json") -> list[Path]:
    (folder / name).write_bytes(content)
    return [folder / name]


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()


def bodies(stock: Stock) -> list[bytes]:
    reader = Bodies(stock)
    return [reader.content(number) for number in range(len(stock))]


@pytest.mark.parametrize(
    ("size", "low", "high", "mean"),
    [
        (ConstantSize(500), 500, 500, 500),
        (UniformSize(100, 300), 100, 300, 200),
        (LognormalSize(1000, sigma=0.5), 100, 10_000, 1000 * np.exp(0.125)),
        (LognormalSize(1000, sigma=3, max_bytes=2000), 1, 2000, None),
        (ChoiceSize((100, 900), (3, 1)), 100, 900, 300),
    ],
)
def test_sizes_follow_their_distribution(
    tmp_path: Path, size: Size, low: int, high: int, mean: float | None
) -> None:
    """Within its limits, with its mean, and no two neighbours alike by rule."""
    given = workload(Payload(size=size, fill="octets"), duration_s=2000.0)
    sent = make_stock(given, [], tmp_path).sent_sizes(20_000)
    assert len(sent) == 20_000
    assert low <= sent.min()
    assert sent.max() <= high
    if mean is not None:
        assert sent.mean() == pytest.approx(mean, rel=0.03)
    if sent.std():
        assert abs(np.corrcoef(sent[:-1], sent[1:])[0, 1]) < 0.03


def test_the_seed_decides_the_sizes(tmp_path: Path) -> None:
    """The same seed gives the same order, another one another."""
    payload = Payload(size=UniformSize(1, 10_000), fill="octets")
    orders = [make_stock(workload(payload, seed=n), [], tmp_path).order for n in (1, 1, 2)]
    assert (orders[0] == orders[1]).all()
    assert (orders[0] != orders[2]).any()


@pytest.mark.parametrize("size", [1000, 12_345, 3_000_001])
@pytest.mark.parametrize("value", [ROW, [ROW, ROW], {"instances": [ROW]}])
def test_json_of_a_size_is_one_batch(tmp_path: Path, value: Any, size: int) -> None:
    """Exactly as large, and a list of the sample's rows, or the object that had them."""
    files = sample(tmp_path, json.dumps(value).encode())
    given = workload(Payload(size=ConstantSize(size)))
    (body,) = bodies(make_stock(given, files, tmp_path))
    assert len(body) == size
    rows = orjson.loads(body)
    rows = rows["instances"] if isinstance(value, dict) else rows
    assert set(map(tuple, rows)) == {tuple(ROW)}
    assert len(rows) > 0.9 * size / len(orjson.dumps(ROW)) - 2


def test_spaces_make_up_the_size_of_any_json(tmp_path: Path) -> None:
    """One sample and nothing but spaces: little work for the model, as much for the network."""
    files = sample(tmp_path, b'{"a": 1, "b": 2}')
    given = workload(Payload(size=ConstantSize(200_000), fill="spaces"))
    (body,) = bodies(make_stock(given, files, tmp_path))
    assert len(body) == 200_000
    assert json.loads(body) == {"a": 1, "b": 2}


@pytest.mark.parametrize("size", [2000, 5_000_003])
def test_npy_of_a_size_is_one_array(tmp_path: Path, size: int) -> None:
    """Exactly as large, readable by NumPy, and made of the samples' rows."""
    files = sample(tmp_path, npy(np.array(ROW, np.float32)), "a.npy")
    files += sample(tmp_path, npy(np.array(ROW[::-1], np.float32)), "b.npy")
    given = workload(Payload(size=ConstantSize(size), content_type=NPY))
    (body,) = bodies(make_stock(given, files, tmp_path))
    assert len(body) == size
    array = np.load(io.BytesIO(body), allow_pickle=False)
    assert array.dtype == np.float32
    assert (array[0] == ROW).all()
    assert (array[1] == ROW[::-1]).all()
    assert array.shape[1:] == (64,)


def test_csv_of_a_size_has_whole_rows(tmp_path: Path) -> None:
    """As many as fit."""
    files = sample(tmp_path, b"1,2,3\n4,5,6\n")
    given = workload(Payload(size=ConstantSize(100_001), content_type=CSV))
    (body,) = bodies(make_stock(given, files, tmp_path))
    assert 100_001 - 6 < len(body) <= 100_001
    assert set(body.splitlines()) == {b"1,2,3", b"4,5,6"}


@pytest.mark.parametrize(
    ("payload", "content", "reason"),
    [
        (Payload(size=ConstantSize(9)), b'"text"', "no list"),
        (Payload(size=ConstantSize(9)), b"{", "unexpected end"),
        (Payload(size=ConstantSize(9), content_type="image/png"), b"x", "payload.fill"),
        (Payload(size=ConstantSize(9), content_type=NPY), b"x", "no larger body"),
    ],
)
def test_samples_that_cannot_grow_are_refused(
    tmp_path: Path, payload: Payload, content: bytes, reason: str
) -> None:
    """With the file and what to do instead."""
    with pytest.raises(ConfigError, match=reason):
        make_stock(workload(payload), sample(tmp_path, content), tmp_path)


RECORDS = [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("name", "payload", "expected"),
    [
        ("d.csv", {"content_type": CSV}, [b"1,2", b"3,4", b'"5\n",6']),
        ("d.csv", {"content_type": CSV, "header": True}, [b"3,4", b'"5\n",6']),
        ("d.jsonl", {}, [b'{"x": [1, 2]}', b'{"x": [3, 4]}', b'{"x": [5, 6]}']),
        ("d.jsonl", {"column": "x"}, [b"[1, 2]", b"[3, 4]", b"[5, 6]"]),
        ("d.parquet", {"column": "x"}, [b"[1, 2]", b"[3, 4]", b"[5, 6]"]),
        ("d.parquet", {}, [b'{"x": [1, 2]}', b'{"x": [3, 4]}', b'{"x": [5, 6]}']),
        ("d.npy", {"content_type": NPY}, [npy(row) for row in RECORDS]),
        ("d.npy", {"content_type": CSV}, [b"1,2\n", b"3,4\n", b"5,6\n"]),
    ],
)
def test_each_record_of_a_dataset_is_a_body(
    tmp_path: Path, name: str, payload: dict[str, Any], expected: list[bytes]
) -> None:
    """In the file's order, one request each, in the content type that is sent."""
    (tmp_path / "d.csv").write_bytes(b'1,2\r\n3,4\n"5\n",6\n')
    lines = (json.dumps({"x": row}) + "\n" for row in RECORDS)
    (tmp_path / "d.jsonl").write_text("".join(lines))
    pd.DataFrame({"x": RECORDS}).to_parquet(tmp_path / "d.parquet")
    np.save(tmp_path / "d.npy", np.array(RECORDS))
    given = workload(Payload(records=str(tmp_path / name), **payload))
    stock = make_stock(given, [], tmp_path)
    assert bodies(stock) == expected
    assert [stock.body_of(seq) for seq in range(4)] == [n % len(expected) for n in range(4)]


@pytest.mark.parametrize(
    ("name", "content", "payload", "reason"),
    [
        ("none.csv", None, {}, "no dataset"),
        ("d.txt", b"1", {}, "ends in"),
        ("d.csv", b"", {}, "no record"),
        ("d.jsonl", b"{}\n", {"column": "x"}, "row 1 has no column"),
        ("d.parquet", b"1", {}, "not valid Parquet"),
        ("d.npy", b"1", {}, "no NPY array"),
    ],
)
def test_a_bad_dataset_is_refused(
    tmp_path: Path, name: str, content: bytes | None, payload: dict[str, Any], reason: str
) -> None:
    """With its name and what to do."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        make_stock(workload(Payload(records=str(tmp_path / name), **payload)), [], tmp_path)


TRACE = "timestamp,bytes,what\n0,100,a\n2,300,b\n1,200,a\nx,1,a\n3,0,b\n4,400,c\n"


def trace_of(folder: Path, **columns: Any) -> Replay:
    (folder / "trace.csv").write_text(TRACE)
    return Replay(str(folder / "trace.csv"), max_malformed=10, **columns)


def test_a_trace_says_how_large_each_request_is(tmp_path: Path) -> None:
    """In the order of time; a row whose size is none is malformed."""
    arrivals = trace_of(tmp_path, size_column="bytes")
    given = workload(Payload(fill="octets"), arrivals=arrivals, duration_s=100.0)
    stock = make_stock(given, [], tmp_path)
    sizes = stock.sizes()
    assert [sizes[stock.body_of(seq)] for seq in range(4)] == [100, 200, 300, 400]
    assert arrivals.describe()["malformed"] == 2


def test_a_trace_says_which_file_each_request_has(tmp_path: Path) -> None:
    """By its class, the file's name without its suffix; a class without a file is refused."""
    arrivals = trace_of(tmp_path, class_column="what")
    files = [*sample(tmp_path, b"A", "a.json"), *sample(tmp_path, b"B", "b.json")]
    given = workload(Payload(), arrivals=arrivals, duration_s=3.5)
    stock = make_stock(given, files, tmp_path)
    assert [bodies(stock)[stock.body_of(seq)] for seq in range(4)] == [b"A", b"A", b"B", b"B"]
    late = workload(Payload(), arrivals=arrivals, duration_s=100.0)
    with pytest.raises(ConfigError, match="class 'c'"):
        make_stock(late, files, tmp_path)


def test_two_sources_of_size_are_refused(tmp_path: Path) -> None:
    """The trace and the payload cannot both say it."""
    arrivals = trace_of(tmp_path, size_column="bytes")
    given = workload(Payload(size=ConstantSize(5)), arrivals=arrivals)
    with pytest.raises(ConfigError, match="Give one of them"):
        make_stock(given, [], tmp_path)


def test_a_gigabyte_takes_no_room(tmp_path: Path) -> None:
    """Neither on the disk nor in memory: what is repeated lies there once."""
    files = sample(tmp_path, json.dumps(ROW).encode())
    payload = Payload(size=ChoiceSize((10**9, 10**9 + 1)))
    stock = make_stock(workload(payload), files, tmp_path)
    assert stock.sizes().tolist() == [10**9, 10**9 + 1]
    assert sum(file.stat().st_size for file in stock.files) < 3 * 2**20
    assert len(stock.pieces) < 20


def test_a_stock_comes_back_from_its_folder(tmp_path: Path) -> None:
    """The load generator's process reads what the command has made."""
    files = sample(tmp_path, json.dumps(ROW).encode())
    payload = Payload(size=UniformSize(1000, 9000))
    stock = make_stock(workload(payload), files, tmp_path)
    stock.write(tmp_path)
    again = read_stock(tmp_path)
    assert bodies(again) == bodies(stock)
    assert [again.body_of(seq) for seq in range(50)] == [stock.body_of(seq) for seq in range(50)]


def test_a_body_is_read_as_a_file(tmp_path: Path) -> None:
    """From any place, in any pieces, as SDKs do that hash a body before they send it."""
    files = sample(tmp_path, json.dumps(ROW).encode())
    given = workload(Payload(size=ConstantSize(200_000)))
    held = Bodies(make_stock(given, files, tmp_path))
    whole, reader = held.content(0), held.body(0)
    assert isinstance(reader, BodyReader)
    assert len(reader) == 200_000
    assert reader.read() == whole
    cuts = [0, 1, 5000, 70_000, 199_999, 200_000]
    for start, end in pairwise(cuts):
        reader.seek(start)
        assert reader.read(end - start) == whole[start:end]
    assert reader.seek(0, 2) == 200_000
    assert reader.read(1) == b""
