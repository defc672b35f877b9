"""Outcomes as packed records."""

import math
from pathlib import Path

import numpy as np
import pytest

from bench.record import Records, read_records
from scenarios.outcome import Outcome, durations_s, instance
from scenarios.recorder import BATCH, Recorder

TIMING = 'model;dur=5.25, overhead;dur=0.5, setup;dur=100, instance;desc="instance-1"'
GOOD = Outcome(12.5, 12.0, 12.25, 200, "", TIMING, 7)


def test_a_record_holds_what_the_outcome_says(tmp_path: Path) -> None:
    """Times count from the start of the schedule; what the server did not tell is NaN."""
    seen: list[Records] = []
    recorder = Recorder(str(tmp_path / "records"), seen.append)
    recorder.add(3, 1.5, 10.0, 99, GOOD)
    recorder.flush()
    (record,) = read_records((tmp_path / "records").read_bytes())
    names = ("seq", "due_s", "sent_s", "first_byte_s", "done_s", "status", "error", "cold")
    assert [record[name] for name in names] == [3, 1.5, 2.0, 2.25, 2.5, 200, b"", True]
    assert (record["instance"], record["request_bytes"], record["response_bytes"]) == (
        b"instance-1",
        99,
        7,
    )
    assert record["model_s"] == pytest.approx(0.00525)
    assert math.isnan(record["placement_s"])
    assert seen[0].tobytes() == record.tobytes()


def test_what_was_never_sent_has_no_size() -> None:
    """A dropped request has neither a time of sending nor bytes; its error's name is cut to fit."""
    seen: list[Records] = []
    recorder = Recorder(None, seen.append)
    recorder.add(0, 0.0, 0.0, 99, Outcome(1.0, error="D" * 50))
    recorder.flush()
    (record,) = seen[0]
    assert np.isnan(record["sent_s"])
    assert (record["request_bytes"], record["error"]) == (0, b"D" * 40)


def test_text_from_a_server_is_cut_between_characters() -> None:
    """What is not ASCII is replaced, so that every record can be read as text."""
    seen: list[Records] = []
    recorder = Recorder(None, seen.append)
    recorder.add(0, 0.0, 0.0, 0, Outcome(1.0, error="\xe9" * 50))
    recorder.flush()
    assert seen[0]["error"][0] == b"?" * 40


def test_a_full_batch_passes_on_by_itself(tmp_path: Path) -> None:
    """Nothing is lost, nothing comes twice, and no more than a batch is held."""
    seen: list[Records] = []
    recorder = Recorder(str(tmp_path / "records"), seen.append)
    for seq in range(BATCH + 1):
        recorder.add(seq, 0.0, 0.0, 0, GOOD)
    assert [len(batch) for batch in seen] == [BATCH]
    recorder.flush()
    recorder.flush()
    found = read_records((tmp_path / "records").read_bytes())
    assert found["seq"].tolist() == list(range(BATCH + 1))


def test_server_timing_is_read() -> None:
    """Durations in seconds, by name; descriptions are no durations."""
    assert durations_s(TIMING) == {"model": 0.00525, "overhead": 0.0005, "setup": 0.1}
    assert instance(TIMING) == "instance-1"
    assert (durations_s(""), instance("")) == ({}, "")


@pytest.mark.parametrize("value", ["1.2.3", "x", "", "9" * 60])
def test_a_duration_that_is_no_number_is_left_out(value: str) -> None:
    """A server's nonsense never ends the measurement."""
    assert durations_s(f"model;dur={value}") == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model;dur=5", {"model": 0.005}),
        ("model;dur=5.;desc=x,wait;dur=2.5", {"model": 0.005, "wait": 0.0025}),
        ('cached, cold-start;dur=1.5, instance;desc="a, b"', {"cold-start": 0.0015}),
        ("model;dur=nan, wait;dur=-1.5", {}),
    ],
)
def test_server_timing_in_an_unusual_form_is_read(text: str, found: dict[str, float]) -> None:
    """Other servers write it otherwise than ours: whole numbers, no spaces, other names."""
    assert durations_s(text) == found
