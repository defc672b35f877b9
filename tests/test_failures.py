"""The report says why environments failed."""

from pathlib import Path
from typing import Any

import pytest

from reports.failures import failures
from reports.summary import summarise
from tests.make_runs import make_failed, make_run, records


def failed(reason: str) -> dict[str, Any]:
    return {"kind": "instance_failed", "at_s": 1.0, "reason": reason}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            failed("it needs more than its memory size of 1024 MB"),
            "One environment could not be started: it needs more than its memory size of "
            "1024 MB. It would die on AWS as well: choose a larger memory size",
        ),
        (failed("it did not pass /ping within 180 s"), "AWS gives up there as well: make its"),
        (
            {
                "kind": "instance_stopped",
                "at_s": 1.0,
                "reason": "gave no answer",
                "detail": "it needs more than its memory size of 1024 MB",
            },
            "One environment ended at work: it needs more",
        ),
        (failed("model_fn failed: OSError: no weights."), "no weights."),
    ],
)
def test_each_reason_is_a_sentence_with_a_remedy(event: dict[str, Any], words: str) -> None:
    """What happened, how often, and what to do."""
    [sentence] = failures([event])
    assert words in sentence


def test_reasons_are_counted_and_few() -> None:
    """The most frequent first; of the rest only how many."""
    events = [failed(f"reason {n}") for n in range(6)] + [failed("reason 5")] * 3
    found = failures(events)
    assert found[0].startswith("4 environments could not be started: reason 5")
    assert found[-1] == "3 environments failed for other reasons: see events.jsonl."
    assert failures([{"kind": "instance_stopped", "at_s": 1.0, "reason": "idle"}]) == []


def test_a_run_of_a_model_that_does_not_fit_says_so(tmp_path: Path) -> None:
    """It is among the doubts that every report shows."""
    rows = make_failed(records(20, 60.0), slice(None), b"ModelError", 424)
    run = make_run(tmp_path, "serverless", rows)
    event = (
        '{"at_s": 1.0, "kind": "instance_failed", "reason": "it needs more than its memory size"}'
    )
    (tmp_path / "events.jsonl").write_text((event + "\n") * 20)
    texts = [doubt.text for doubt in summarise(run).doubts]
    assert any(text.startswith("20 environments could not be started") for text in texts)
