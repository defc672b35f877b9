"""The numbers of a run against truths built by hand."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.record import Records
from reports.summary import Summary, needed_for, spread, summarise, wilson, write_summary
from tests.make_runs import DAY_S, make_cold, make_failed, make_pair, make_run, records, workload


def summary_of(folder: Path, rows: Records, mode: str = "realtime", **changes: Any) -> Summary:
    return summarise(make_run(folder, mode, rows, **changes))


def reasons(summary: Summary, invalid: bool) -> str:
    return " ".join(doubt.text for doubt in summary.doubts if doubt.invalid is invalid)


@pytest.mark.parametrize(("q", "n"), [(0.5, 7), (0.9, 44), (0.95, 90), (0.99, 459), (0.999, 4603)])
def test_a_quantile_needs_as_many_requests_as_mlperf_says(q: float, n: int) -> None:
    """The numbers are MLPerf's for 99 % confidence and no request over the latency."""
    assert needed_for(q) == n
    assert not spread(np.ones(n - 1)).supports(q)
    assert spread(np.ones(n)).supports(q)


def test_a_quantile_is_a_time_that_happened() -> None:
    """Of 1 to 100 seconds, p95 is 95 and the largest is 100."""
    found = spread(np.arange(1.0, 101.0))
    assert (found.at(0.5), found.at(0.95), found.at(0.99), found.max_s) == (50, 95, 99, 100)


def test_the_wilson_interval_is_the_textbooks() -> None:
    """10 of 10 gives 72.2 % to 100 %; 50 of 100 gives 40.4 % to 59.6 %."""
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_latency_counts_from_the_due_time_and_service_from_the_send(tmp_path: Path) -> None:
    """A request that left 2 s late and took 0.1 s has latency 2.1 s, service time 0.1 s."""
    rows = records(10, 10.0)
    for name in ("sent_s", "first_byte_s", "done_s"):
        rows[name] += 2.0
    found = summary_of(tmp_path, rows)
    assert found.latency_s.at(0.5) == pytest.approx(2.1)
    assert found.service_s.at(0.5) == pytest.approx(0.1)
    assert found.lateness_s.at(0.99) == pytest.approx(2.0)


def test_a_failed_request_misses_the_objective_and_is_no_latency(tmp_path: Path) -> None:
    """4 fast failures in 100 leave 96 % in time and no trace in the quantiles."""
    rows = records(100, 10.0)
    rows["done_s"][:4] = rows["due_s"][:4] + 0.001
    make_failed(rows, slice(0, 3), b"ThrottlingException", 400)
    make_failed(rows, slice(3, 4), b"ModelError", 424)
    found = summary_of(tmp_path, rows)
    assert (found.within.count, found.within.of) == (96, 100)
    assert (found.answered, found.failed, found.throttled) == (96, 4, 3)
    assert found.errors == (("ThrottlingException", 3), ("ModelError", 1))
    assert found.latency_s.n == 96
    assert found.error_rate == pytest.approx(0.04)


def test_the_objective_just_met_counts_failures_as_never(tmp_path: Path) -> None:
    """With more failures than may be slow, no latency objective would be met."""
    rows = records(100, 10.0)
    assert summary_of(tmp_path / "a", rows).within.quantile_s == pytest.approx(0.1)
    make_failed(rows, slice(0, 6), b"ModelError", 424)
    assert summary_of(tmp_path / "b", rows).within.quantile_s is None


def test_the_wait_for_this_machine_is_kept_apart_and_doubted(tmp_path: Path) -> None:
    """A wait for a core is in the latency, not in the cold start as SageMaker would have it."""
    rows = make_cold(records(40, 600.0), slice(0, None, 4))
    rows["wait_s"][0], rows["done_s"][0] = 5.0, rows["done_s"][0] + 5.0
    found = summary_of(tmp_path, rows, "serverless")
    assert found.cold.latency_s.max_s == pytest.approx(8.1)
    assert found.cold.unhindered_s.max_s == pytest.approx(3.1)
    assert (found.cold.waited, found.cold.longest_wait_s) == (1, 5.0)
    assert "1 of 10 cold starts waited, up to 5 s, for a core" in reasons(found, invalid=False)


@pytest.mark.parametrize(
    ("cold_every", "latency_s", "bearable"),
    [
        (4, 10.0, 7.9),  # 1 s of placement may become 7.9 s beside 2.1 s of the rest
        (4, 2.5, 0.4),  # missed now: met if placement took 0.4 s
        (4, 2.0, None),  # missed however short it is
        (40, 2.0, None),  # one cold start in forty does not decide 95 %
    ],
)
def test_the_placement_that_would_just_do_is_found(
    tmp_path: Path, cold_every: int, latency_s: float, bearable: float | None
) -> None:
    """The factor on the modelled placement at which the latency objective is just met."""
    rows = make_cold(records(40, 600.0), slice(0, None, cold_every))
    plan = workload(objective={"latency_s": latency_s, "quantile": 0.95, "error_rate": 0.01})
    found = summary_of(tmp_path, rows, "serverless", workload=plan)
    assert found.cold.bearable_placement == pytest.approx(bearable)


def test_cold_starts_are_told_from_warm_requests_with_their_parts(tmp_path: Path) -> None:
    """A quarter cold: 1 s placement, 2 s set-up, 0.1 s model; the warm ones stay at 0.1 s."""
    rows = make_cold(records(40, 600.0), slice(0, None, 4))
    found = summary_of(tmp_path, rows, "serverless")
    assert (found.cold.count, found.cold.share) == (10, 0.25)
    assert found.cold.latency_s.at(0.5) == pytest.approx(3.1)
    parts = (found.cold.placement_s, found.cold.setup_s, found.cold.model_s)
    assert parts == pytest.approx((1.0, 2.0, 0.1))
    assert found.warm_s.max_s == pytest.approx(0.1)


def test_the_traffic_knows_its_silences(tmp_path: Path) -> None:
    """Requests of 0.1 s each 400 s: busy 1/4000 of the time, each silence 399.9 s, over 300 s."""
    found = summary_of(tmp_path, records(216, 400.0), "serverless").traffic
    assert found.busy_share == pytest.approx(0.1 / 400)
    assert found.silence_s.at(0.5) == pytest.approx(399.9)
    assert (found.keep_alive_s, found.after_keep_alive) == (300.0, 1.0)
    assert found.bearable_keep_alive_s == pytest.approx(399.9)


def test_each_request_is_billed_to_the_next_millisecond(tmp_path: Path) -> None:
    """100 requests of 100.2 ms are billed 10.1 s; of exactly 100 ms, 10.0 s."""
    exact = summary_of(tmp_path / "a", records(100, 1.0, model_s=0.1))
    above = summary_of(tmp_path / "b", records(100, 1.0, model_s=0.1002))
    assert exact.billable.model_s == pytest.approx(10.0)
    assert above.billable.model_s == pytest.approx(10.1)


@pytest.mark.parametrize(
    ("late_s", "latency_s", "valid"),
    [(0.0015, 0.0, True), (0.0025, 0.0, False), (0.0045, 0.1, True), (0.0075, 0.1, False)],
)
def test_a_late_generator_makes_a_run_invalid(
    tmp_path: Path, late_s: float, latency_s: float, valid: bool
) -> None:
    """At p50, 2 ms are allowed, or a twentieth of the latency where that is more."""
    rows = records(500, 100.0, model_s=latency_s)
    rows["sent_s"] += late_s
    rows["done_s"] += late_s
    found = summary_of(tmp_path, rows)
    assert found.valid is valid
    assert ("load generator was late" in reasons(found, invalid=True)) is not valid


def test_a_late_tail_makes_a_run_invalid(tmp_path: Path) -> None:
    """Two in a hundred 20 ms late break the 5 ms allowed at p99."""
    rows = records(500, 100.0, model_s=0.001)
    rows["sent_s"][::50] += 0.02
    assert "p99 20 ms" in reasons(summary_of(tmp_path, rows), invalid=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"load": {"dropped": 3}}, "3 requests were dropped"),
        ({"load": {"scheduled": 120}}, "Only 100 of 120"),
        ({"load": {"generator_cpu_share": 0.8}}, "80 % of a core"),
        ({"status": "failed"}, "failed before its end"),
    ],
)
def test_what_makes_a_run_invalid(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    """Drops, unsent requests, a busy generator and a failure invalidate."""
    found = summary_of(tmp_path, records(100, 100.0), **changes)
    assert not found.valid
    assert reason in reasons(found, invalid=True)


def test_an_interrupted_run_is_doubted_but_valid(tmp_path: Path) -> None:
    """Sending fewer than scheduled is no fault of a run that was stopped."""
    load = {"scheduled": 1000, "duration_s": 3600.0}
    found = summary_of(tmp_path, records(100, 30.0), status="interrupted", load=load)
    assert found.valid
    assert "interrupted after 60 min" in reasons(found, invalid=False)


def test_plain_doubts_do_not_invalidate(tmp_path: Path) -> None:
    """Few samples, few cold starts and limits not enforced call for care only."""
    found = summary_of(tmp_path, make_cold(records(100, 100.0), slice(0, 3)), "serverless")
    assert found.valid
    text = reasons(found, invalid=False)
    assert "p99 (459 needed)" in text
    assert "Cold starts are few (3)" in text
    assert "CPU limit of the option was not enforced" in text


def test_what_was_done_to_a_trace_calls_for_care(tmp_path: Path) -> None:
    """Rows left out, and moments drawn because the trace does not say them."""
    trace = {"path": "last-week.log", "rows": 2000, "malformed": 3, "spread_s": 1.0}
    text = reasons(summary_of(tmp_path, records(100, 100.0), trace=trace), invalid=False)
    assert "3 of 2,000 rows of the trace last-week.log are malformed" in text
    assert "at a random moment of the 1 s after its timestamp" in text


def test_a_run_without_requests_has_a_summary(tmp_path: Path) -> None:
    """Nothing sent is invalid, and does not crash."""
    found = summary_of(tmp_path, records(0, 1.0))
    assert not found.valid
    assert found.latency_s.at(0.5) is None


def test_a_dropped_request_misses_the_objective(tmp_path: Path) -> None:
    """A row that was never sent has no times and counts as failed."""
    rows = make_failed(records(100, 100.0), slice(0, 2), b"Dropped", 0)
    for name in ("sent_s", "done_s", "first_byte_s"):
        rows[name][:2] = np.nan
    found = summary_of(tmp_path, rows, load={"sent": 98, "dropped": 2})
    assert (found.within.count, found.failed, found.dropped) == (98, 2, 2)
    assert not found.valid


def test_the_summary_is_written_as_plain_json(tmp_path: Path) -> None:
    """``summary.json`` holds no NaN and can be read anywhere."""
    run = make_pair(tmp_path, workload())[1]
    write_summary(summarise(run), run.folder / "summary.json")
    read = json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))
    assert read["valid"] is True
    assert read["simulated_s"] == DAY_S
    assert read["latency_s"]["n"] == read["answered"]


@pytest.mark.slow
def test_a_million_requests_are_summarised_in_seconds(tmp_path: Path) -> None:
    """Nothing loops over requests."""
    run = make_run(tmp_path, "realtime", records(1_000_000, 0.08, model_s=0.01))
    began = time.perf_counter()
    found = summarise(run)
    assert found.latency_s.at(0.999) == pytest.approx(0.01)
    assert time.perf_counter() - began < 10


def test_lambdas_word_for_throttled_counts_too(tmp_path: Path) -> None:
    """TooManyRequestsException is what its callers see."""
    rows = records(100, 10.0)
    make_failed(rows, slice(0, 2), b"TooManyRequestsException", 429)
    make_failed(rows, slice(2, 3), b"ThrottlingException", 400)
    assert summary_of(tmp_path, rows).throttled == 3
