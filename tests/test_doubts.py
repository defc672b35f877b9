"""What makes a run invalid and what calls for care, from what the generator saw of itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.run import note_verdict, read_run
from reports.doubts import Doubt
from reports.summary import summarise
from reports.verdict import sentence, verdict
from tests.make_runs import make_cold, make_run, records, workload

QUIET = {
    "floor_p50_s": 0.00005,
    "floor_p99_s": 0.0002,
    "real_s": 60.0,
    "cpu_s": 3.0,
    "steal_share": 0.0,
    "waited_for_core_s": 0.01,
    "collections": 0,
    "longest_collection_s": 0.0,
    "stalls": 0,
    "longest_stall_s": 0.002,
}


def doubts(folder: Path, late_s: Any = 0.0, **load: Any) -> list[Doubt]:
    """Of 5000 requests of 4 ms, sent so late, where the generator saw ``selfcheck``."""
    rows = records(5000, 0.1, model_s=0.004)
    rows["sent_s"] += late_s
    rows["done_s"] += late_s
    load = {"balanced": True, "rate_share": 1.0, **load}
    load["selfcheck"] = {**QUIET, **load.pop("selfcheck", {})}
    run = make_run(folder / "run", "realtime", rows, load=load, enforced={})
    return list(summarise(run).doubts)


def late_tail(late_s: float) -> Any:
    """Two requests in a hundred are so late."""
    return np.where(np.arange(5000) % 50 == 0, late_s, 0.0)


def test_a_quiet_run_has_no_doubts(tmp_path: Path) -> None:
    """A punctual generator on an idle machine, with samples enough, is not spoken of."""
    assert doubts(tmp_path, 0.0001) == []


@pytest.mark.parametrize(
    ("load", "text", "invalid"),
    [
        ({"balanced": False}, "do not add up", True),
        ({"rate_share": 0.985}, "sent at 98.50% of the rate", True),
        ({"rate_share": 0.997}, "sent at 99.70% of the rate", False),
        ({"selfcheck": {"steal_share": 0.2}}, "gave 20 % of its time to others", True),
        ({"selfcheck": {"steal_share": 0.03}}, "gave 3 % of its time to others", False),
        ({"selfcheck": {"longest_collection_s": 0.05}}, "collected garbage for up to 50 ms", False),
        ({"selfcheck": {"longest_stall_s": 0.4}}, "stood still for up to 400 ms", False),
    ],
)
def test_each_thing_that_the_generator_saw_is_said(
    tmp_path: Path, load: dict[str, Any], text: str, invalid: bool
) -> None:
    """In one sentence, with its figure; only what falsifies the run makes it invalid."""
    (found,) = doubts(tmp_path, **load)
    assert text in found.text
    assert found.invalid is invalid


@pytest.mark.parametrize(
    ("late_s", "floor_s", "invalid"),
    [(0.001, 0.0002, None), (0.003, 0.0002, False), (0.008, 0.0002, True), (0.008, 0.0015, False)],
)
def test_lateness_is_judged_by_the_machines_own_timer(
    tmp_path: Path, late_s: float, floor_s: float, invalid: bool | None
) -> None:
    """A late tail is no doubt, care or invalid; what the timer does itself is allowed for."""
    found = doubts(tmp_path, late_tail(late_s), selfcheck={"floor_p99_s": floor_s})
    assert [doubt.invalid for doubt in found] == ([] if invalid is None else [invalid])


@pytest.mark.parametrize(("objective_s", "invalid"), [(1.0, True), (600.0, False)])
def test_a_late_tail_is_measured_by_what_callers_wait_for(
    tmp_path: Path, objective_s: float, invalid: bool
) -> None:
    """350 ms falsify an objective of a second, and are a word of care for one of ten minutes."""
    rows = records(5000, 0.1, model_s=0.004)
    for name in ("sent_s", "done_s"):
        rows[name] += late_tail(0.35)
    given, load = workload(latency_s=objective_s), {"selfcheck": QUIET}
    run = make_run(tmp_path / "run", "realtime", rows, workload=given, load=load)
    (found,) = [doubt for doubt in summarise(run).doubts if "was late" in doubt.text]
    assert found.invalid is invalid
    assert "350 ms" in found.text


def test_one_late_request_of_few_is_no_reason(tmp_path: Path) -> None:
    """Of 100 requests p99 would be the latest; p95 is what they support."""
    rows = records(100, 1.0, model_s=0.004)
    for count, invalid in ((1, False), (8, True)):
        rows["sent_s"][:count] = rows["due_s"][:count] + 0.05
        run = make_run(tmp_path / f"run-{count}", "realtime", rows)
        assert any(doubt.invalid for doubt in summarise(run).doubts) is invalid


def test_the_cause_of_lateness_is_named(tmp_path: Path) -> None:
    """A generator that was ready to run and had no core says so."""
    (found,) = doubts(tmp_path, 0.003, selfcheck={"waited_for_core_s": 2.5})
    assert found.invalid
    assert "waited for a core for 2.5 s" in found.text


def test_a_rate_of_few_requests_is_not_judged(tmp_path: Path) -> None:
    """Ten requests have no rate to the percent."""
    rows = make_cold(records(10, 1.0), slice(0, 0))
    run = make_run(tmp_path / "run", "realtime", rows, load={"rate_share": 0.95})
    assert not any("rate" in doubt.text for doubt in summarise(run).doubts)


def test_the_verdict_has_its_reasons_and_is_noted_once(tmp_path: Path) -> None:
    """The manifest keeps the first; a sentence says what it rests on."""
    rows = records(5000, 0.1, model_s=0.004)
    load = {"balanced": False, "selfcheck": QUIET, "generator_cpu_share": 0.05}
    run = make_run(tmp_path / "run", "realtime", rows, load=load, enforced={})
    summary = summarise(run)
    found = verdict(summary)
    assert found["verdict"] == "INVALID"
    assert found["reasons"] == [doubt.text for doubt in summary.doubts if doubt.invalid]
    note_verdict(run, found)
    note_verdict(read_run(run.folder), {"verdict": "VALID", "reasons": []})
    kept = read_run(run.folder).manifest
    assert (kept["verdict"], kept["reasons"]) == ("INVALID", found["reasons"])
    assert sentence(run, summary) == (
        "Invalid measurement: requests left 0 ms late at p99 (the machine's own timer: 0.2 ms), "
        "the load generator used 5 % of a core."
    )
