import json
import math
from pathlib import Path

import numpy as np
import pytest

from bench.documents import write_json
from bench.errors import ConfigError
from bench.raw import CHUNK, Tail, finish, load_start_s, read_events
from bench.record import RECORD
from bench.run import SAMPLE_COLUMNS, SCHEMA_VERSION, read_run


def record(seq: int, due_s: float, sent_s: float, done_s: float) -> bytes:
    row = np.zeros(1, dtype=RECORD)
    row["seq"], row["due_s"], row["sent_s"], row["done_s"] = seq, due_s, sent_s, done_s
    row["instance"] = b"instance-1"
    return row.tobytes()


def write_events(folder: Path, *events: dict[str, object]) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "events.jsonl").write_text(lines)


LOAD = {"at_s": 10.0, "kind": "phase", "name": "load"}
END = {"at_s": 3610.0, "kind": "phase", "name": "end"}


def selfcheck(**counts: int) -> dict[str, object]:
    """What the generator tells of itself when it closes."""
    known = {"scheduled": 2, "sent": 1, "dropped": 1, "unsent": 0, "in_flight": 0, **counts}
    return {"at_s": 3610.0, "kind": "selfcheck", "cpu_s": 2.0, "real_s": 100.0, **known}


def test_the_tail_gives_each_record_once(tmp_path: Path) -> None:
    """A record that is half written comes whole with the next read."""
    tail, path = Tail(tmp_path), tmp_path / "requests.bin"
    assert len(tail.read()) == 0
    whole = record(0, 1.0, 1.0, 2.0) + record(1, 2.0, 2.0, 3.0)
    path.write_bytes(whole[:-5])
    assert list(tail.read()["seq"]) == [0]
    path.write_bytes(whole)
    assert list(tail.read()["seq"]) == [1]
    assert len(tail.read()) == 0


def test_a_half_written_event_is_left_out(tmp_path: Path) -> None:
    """The last line counts once it has its end."""
    (tmp_path / "events.jsonl").write_text('{"at_s": 1, "kind": "skip"}\n{"at_s": 2, "ki')
    assert [event["at_s"] for event in read_events(tmp_path)] == [1]


def test_before_the_load_there_is_no_start(tmp_path: Path) -> None:
    """NaN says that the load has not begun."""
    assert math.isnan(load_start_s(read_events(tmp_path)))


def test_times_count_from_the_start_of_the_load(tmp_path: Path) -> None:
    """Events and samples move by the moment at which the load began."""
    write_events(tmp_path, {"at_s": 4.0, "kind": "instance_started"}, LOAD, END)
    (tmp_path / "requests.bin").write_bytes(record(1, 2, 2, 3) + record(0, 1, 1, 2))
    finish(tmp_path, [(15.0,) + (0.0,) * (len(SAMPLE_COLUMNS) - 1)], 3600.0)
    write_json(tmp_path / "manifest.json", {"schema_version": SCHEMA_VERSION, "mode": "realtime"})
    run = read_run(tmp_path)
    assert [event["at_s"] for event in run.events()] == [-6.0, 0.0, 3600.0]
    assert list(run.samples()["at_s"]) == [5.0]
    assert list(run.requests()["seq"]) == [0, 1]
    assert list(run.requests()["instance"]) == ["instance-1"] * 2
    assert not (tmp_path / "requests.bin").exists()


def test_the_account_tells_real_from_skipped_seconds(tmp_path: Path) -> None:
    """A skip that begins before the load counts from the load on, and none after its end."""
    skips = [
        {"at_s": 9.5, "kind": "skip", "to_s": 1010.0},
        {"at_s": 1020.0, "kind": "skip", "to_s": 3520.0},
        {"at_s": 3612.0, "kind": "skip", "to_s": 3900.0},
    ]
    write_events(tmp_path, LOAD, *skips, END, selfcheck())
    (tmp_path / "requests.bin").write_bytes(record(0, 1, 1, 2) + record(1, 2, math.nan, 3))
    account = finish(tmp_path, [], 3600.0)
    assert account["skipped_s"] == pytest.approx(3500.0)
    assert account["real_s"] == pytest.approx(100.0)
    assert (account["sent"], account["dropped"], account["skips"]) == (1, 1, 2)
    assert account["duration_s"] == 3600.0
    assert account["generator_cpu_share"] == 0.02


def test_an_interrupted_load_covers_what_it_covered(tmp_path: Path) -> None:
    """Without its end the duration is that of the last thing known."""
    write_events(tmp_path, LOAD)
    (tmp_path / "requests.bin").write_bytes(record(0, 1, 1, 2) + record(1, 30, 30, 42))
    assert finish(tmp_path, [], 3600.0)["duration_s"] == 42.0


@pytest.mark.parametrize(
    ("counts", "balanced"),
    [
        ({}, True),
        ({"scheduled": 9, "sent": 4, "unsent": 4, "in_flight": 3}, True),  # interrupted
        ({"scheduled": 3}, False),
        ({"in_flight": 1}, False),
        ({"dropped": 0, "unsent": 1}, False),
    ],
)
def test_the_counts_of_generator_and_records_must_agree(
    tmp_path: Path, counts: dict[str, int], balanced: bool
) -> None:
    """scheduled = sent + dropped + unsent, and sent = ok + errors + timeouts + in flight."""
    write_events(tmp_path, LOAD, END, selfcheck(**counts))
    (tmp_path / "requests.bin").write_bytes(record(0, 1, 1, 2) + record(1, 2, math.nan, 3))
    account = finish(tmp_path, [], 3600.0)
    assert account["balanced"] is balanced
    if balanced:
        ended = account["ok"] + account["errors"] + account["timeouts"]
        assert account["sent"] == ended + account["in_flight"]


def test_what_was_under_way_is_unknown_of_a_killed_generator(tmp_path: Path) -> None:
    """Without its own count nothing is claimed; errors and timeouts are told apart."""
    write_events(tmp_path, LOAD)
    rows = np.frombuffer(b"".join(record(n, n, n, n + 1) for n in range(4)), RECORD).copy()
    rows["error"][1:] = [b"Timeout", b"ConnectTimeout", b"HTTP 503"]
    (tmp_path / "requests.bin").write_bytes(rows.tobytes())
    account = finish(tmp_path, [], 3600.0)
    assert (account["ok"], account["errors"], account["timeouts"]) == (1, 1, 2)
    assert (account["unsent"], account["in_flight"], account["balanced"]) == (None, None, None)


def test_many_records_are_written_in_order_with_little_memory(tmp_path: Path) -> None:
    """More than one chunk of them, in the order of completion, and the rate that they had."""
    count = CHUNK + 1000
    rows = np.zeros(count, RECORD)
    rows["seq"] = np.random.default_rng(1).permutation(count)
    rows["due_s"] = rows["seq"] / 1000
    rows["sent_s"] = rows["due_s"] * 1.002
    (tmp_path / "requests.bin").write_bytes(rows.tobytes())
    account = finish(tmp_path, [], 3600.0)
    assert account["rate_share"] == pytest.approx(1 / 1.002)
    write_json(tmp_path / "manifest.json", {"schema_version": SCHEMA_VERSION, "mode": "realtime"})
    found = read_run(tmp_path).requests(["seq", "error"])
    assert list(found.columns) == ["seq", "error"]
    assert (found["seq"] == np.arange(count)).all()
    assert set(found["error"]) == {""}


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    """No manifest, another version, no records: each has its own sentence."""
    with pytest.raises(ConfigError, match="is not a run: it holds no manifest"):
        read_run(tmp_path)
    write_json(tmp_path / "manifest.json", {"schema_version": 99})
    with pytest.raises(ConfigError, match="schema version 99"):
        read_run(tmp_path)
    write_json(tmp_path / "manifest.json", {"schema_version": SCHEMA_VERSION, "status": "failed"})
    with pytest.raises(ConfigError, match=r"ended \(failed\) before any request"):
        read_run(tmp_path)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """A value that cannot be written leaves the old file as it was."""
    path = tmp_path / "manifest.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text()) == {"a": 1}
