"""Recommendations for runs whose right answer is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.record import Records
from bench.workload import Objective, Workload
from reports.costs import cost_of, read_prices
from reports.decision import walk
from reports.option import Option, judge, more_requests
from reports.recommendation import Recommendation, recommend
from reports.summary import summarise, wilson
from tests.make_runs import DAY_S, make_cold, make_failed, make_run, records, workload


def option(folder: Path, mode: str, rows: Records, given: Workload, **changes: Any) -> Option:
    run = make_run(folder / mode, mode, rows, workload=given, **changes)
    summary = summarise(run)
    return Option(run, summary, cost_of(run, summary, read_prices()))


def pair(
    folder: Path, given: Workload, cold: Any = slice(0, 0), n: int = 216, **changes: Any
) -> list[Option]:
    """A day of ``n`` requests of 0.1 s; on serverless, the ``cold`` ones take 3 s longer."""
    gap = DAY_S / n
    return [
        option(folder, "realtime", records(n, gap), given, **changes),
        option(folder, "serverless", make_cold(records(n, gap), cold), given, **changes),
    ]


def advice(
    folder: Path, given: Workload, cold: Any = slice(0, 0), **changes: Any
) -> Recommendation:
    return recommend(given, pair(folder, given, cold, **changes))


def test_cold_starts_that_are_fast_enough_make_serverless_the_answer(tmp_path: Path) -> None:
    """Every request cold at 3.1 s meets 4 s, so the cheap option wins and the chart agrees."""
    found = advice(tmp_path, workload(4.0), slice(None))
    assert (found.outcome, found.mode, found.runner_up) == ("use", "serverless", "realtime")
    assert found.headline.startswith("Use **serverless**: it answered 100 % of requests within 4 s")
    assert "real-time would cost $2.76 a day" in found.headline
    assert (found.agrees, found.confidence) == (True, "high")


def test_cold_starts_that_are_too_slow_make_realtime_the_answer(tmp_path: Path) -> None:
    """Every request cold at 3.1 s misses 1 s: the dearer option wins."""
    found = advice(tmp_path, workload(1.0), slice(None))
    assert (found.mode, found.runner_up, found.agrees) == ("realtime", "serverless", True)
    assert "managed only 0 %" in found.headline
    latency = next(change for change in found.changes if change.name == "latency objective")
    assert "From an objective of 3.1 s on, serverless would meet it too" in latency.text


def test_heavy_traffic_is_cheaper_on_realtime(tmp_path: Path) -> None:
    """A busy second in each second costs more by the second than by the hour."""
    given = workload(1.0, duration_s=600.0)
    load = {"duration_s": 600.0}
    found = recommend(given, pair_of_seconds(tmp_path, given, load))
    assert (found.outcome, found.mode, found.runner_up) == ("use", "realtime", "serverless")
    assert found.chart.mode == "realtime"
    volume = next(change for change in found.changes if change.name == "request volume")
    assert volume.flips
    assert volume.text.startswith("Below 2.21 million requests a month (84 % of this traffic)")


def pair_of_seconds(folder: Path, given: Workload, load: dict[str, float]) -> list[Option]:
    rows = records(600, 1.0, model_s=0.95)
    return [option(folder, mode, rows, given, load=load) for mode in ("realtime", "serverless")]


def test_an_interval_that_straddles_is_undecided_and_says_what_would_decide(
    tmp_path: Path,
) -> None:
    """6 of 216 over the objective, 97.2 %: the interval reaches below 95 %."""
    found = advice(tmp_path, workload(1.0), slice(0, 6))
    standing = found.standings[1]
    assert (found.outcome, found.mode) == ("undecided", None)
    assert (standing.verdict, found.standings[0].verdict) == ("undecided", "meets")
    assert standing.more_requests is not None
    n = 216 + standing.more_requests
    assert wilson(round(n * 210 / 216), n)[0] >= 0.95
    assert "Until then real-time is the safe choice" in found.headline


def test_a_share_on_the_objective_cannot_be_settled_by_more_requests() -> None:
    """Exactly 95 % measured where 95 % is needed stays open."""
    assert more_requests(0.95, 100, 0.95) is None


def test_when_no_option_meets_the_objective_the_headline_says_so(tmp_path: Path) -> None:
    """100 ms of model time cannot meet 50 ms anywhere."""
    found = advice(tmp_path, workload(0.05))
    assert (found.outcome, found.mode) == ("none meets the objective", None)
    assert "**No measured option meets the objective**" in found.headline


def test_too_many_errors_miss_the_objective(tmp_path: Path) -> None:
    """3 of 216 failed is more than the 1 % allowed, though 98.6 % were in time."""
    given = workload(1.0)
    rows = make_failed(records(216, 400.0), slice(0, 3), b"ModelError", 424)
    standing = judge(option(tmp_path, "serverless", rows, given), given)
    assert standing.verdict == "misses"
    assert "1.4 % failed; 1 % may" in standing.because


def test_invalid_runs_recommend_nothing(tmp_path: Path) -> None:
    """Numbers of an overloaded generator are not judged."""
    found = advice(tmp_path, workload(4.0), load={"dropped": 5})
    assert (found.outcome, found.mode, found.confidence) == ("invalid", None, "none")
    assert "invalid, not slow" in found.headline


def test_an_invalid_rival_lowers_the_confidence(tmp_path: Path) -> None:
    """The valid option is named, with low confidence."""
    given = workload(1.0)
    good, _ = pair(tmp_path / "good", given)
    _, bad = pair(tmp_path / "bad", given, load={"dropped": 5})
    found = recommend(given, [good, bad])
    assert (found.mode, found.confidence) == ("realtime", "low")


def test_work_that_needs_no_answer_leads_to_batch(tmp_path: Path) -> None:
    """The first question ends the chart; the measured options are still named."""
    found = advice(tmp_path, workload(4.0, needs_answer=False))
    assert (found.outcome, found.mode, found.agrees) == ("not measured", "batch", None)
    assert len(found.chart.steps) == 1
    assert found.headline.startswith("Use **batch transform**: nobody waits")
    assert "It was not measured; of what was measured, use serverless" in found.headline
    assert found.confidence == "low"


@pytest.mark.parametrize("accepts", [True, False])
def test_large_payloads_lead_to_a_queue_only_where_it_is_accepted(
    tmp_path: Path, accepts: bool
) -> None:
    """30 MB is more than real-time takes; a caller that cannot queue has no option left.

    The question is answered with what was measured, whatever the callers accept."""
    given = workload(4.0, accepts_queueing=accepts)
    options = pair(tmp_path, given, payload={"largest_bytes": 30_000_000})
    chart = walk(given, options)
    assert chart.steps[1].answer == "yes"
    assert (chart.mode == "async") is accepts
    assert all(judge(each, given).verdict == "excluded" for each in options)


def test_a_limit_excludes_an_option_with_its_reason(tmp_path: Path) -> None:
    """5 MB goes to real-time and not to serverless."""
    given = workload(4.0)
    found = advice(tmp_path, given, payload={"largest_bytes": 5_000_000})
    assert found.mode == "realtime"
    assert found.standings[1].because == "The largest payload is 5 MB; serverless takes 4 MiB."


def test_the_chart_and_the_measurement_may_disagree_openly(tmp_path: Path) -> None:
    """Sustained but light traffic: the chart says real-time, the bill says serverless."""
    given = workload(4.0)
    found = advice(tmp_path, given, slice(0, 1), n=1000)
    assert (found.chart.mode, found.mode, found.agrees) == ("realtime", "serverless", False)
    assert "The measurement decides" in found.agreement


def test_every_step_has_evidence_a_threshold_and_a_source(tmp_path: Path) -> None:
    """Each answer can be checked and says when it turns."""
    for step in advice(tmp_path, workload(4.0), slice(None)).chart.steps:
        measure = step.measure
        assert all((step.because, step.evidence, measure.threshold, measure.source))
        assert all((measure.value, measure.margin, measure.basis, step.flips_when))


def test_the_keep_alive_is_said_not_to_matter_when_cold_starts_are_fast_enough(
    tmp_path: Path,
) -> None:
    """And to matter when they are not, with the number at which it turns."""
    fast = {
        change.name: change for change in advice(tmp_path / "a", workload(4.0), slice(None)).changes
    }
    slow = {
        change.name: change for change in advice(tmp_path / "b", workload(1.0), slice(None)).changes
    }
    assert not fast["keep-alive"].flips
    assert slow["keep-alive"].flips
    assert "6 min 37 s" in slow["keep-alive"].text


def test_one_option_alone_gives_low_confidence(tmp_path: Path) -> None:
    """Nothing was compared; the other option is listed with the reason."""
    given = workload(4.0)
    found = recommend(given, pair(tmp_path, given)[:1])
    assert (found.mode, found.confidence) == ("realtime", "low")
    assert ("serverless", "The chart leads here, but no run of it was given.") in found.unmeasured


def test_a_stricter_objective_is_never_easier() -> None:
    """Asking for more of the same share needs no fewer requests."""
    needs = [more_requests(0.98, 100, q) for q in (0.9, 0.95, 0.97)]
    assert [need for need in needs if need is not None] == sorted(np.array(needs, float))


def test_the_objective_quantile_is_the_workloads_own(tmp_path: Path) -> None:
    """A caller content with half the requests in time accepts every second cold start."""
    given = workload(1.0, objective=Objective(latency_s=1.0, quantile=0.3))
    found = advice(tmp_path, given, slice(0, None, 2))
    assert found.mode == "serverless"
