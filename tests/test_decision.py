"""The five questions, each with its value, interval, threshold and margin; and the limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scenarios
from bench.arrivals import due_times
from bench.config import read_experiment
from bench.workload import Objective, Workload
from reports.bounds import MODES, Demand, bounds, excluded, known_limits
from reports.costs import cost_of, read_prices
from reports.decision import Chart, walk
from reports.option import MEETS, Option, judge
from reports.ranks import rank_interval
from reports.recommendation import Recommendation, recommend
from reports.summary import summarise
from tests.make_queued import async_run, batch_run
from tests.make_runs import make_cold, make_failed, make_run, records, workload


def option(folder: Path, mode: str, rows: Any, given: Workload, **changes: Any) -> Option:
    run = make_run(folder, mode, rows, workload=given, **changes)
    summary = summarise(run)
    return Option(run, summary, cost_of(run, summary, read_prices()))


def chart(folder: Path, given: Workload, rows: Any = None, **changes: Any) -> Chart:
    rows = make_cold(records(216, 400.0), slice(None)) if rows is None else rows
    return walk(given, [option(folder, "serverless", rows, given, **changes)])


SCENARIOS = Path(scenarios.__file__).parent
SLOW = make_cold(records(216, 400.0), slice(None))


@pytest.mark.parametrize(
    ("given", "changes", "slug", "leads_to"),
    [
        (workload(4.0, needs_answer=False), {}, "waits", "batch"),
        (
            workload(4.0, accepts_queueing=True),
            {"payload": {"largest_bytes": 30_000_000}},
            "large",
            "async",
        ),
        (workload(1.0), {}, "consistent", "realtime"),
        (workload(4.0), {}, "consistent", "serverless"),
    ],
)
def test_each_way_through_the_chart_ends_where_it_should(
    tmp_path: Path, given: Workload, changes: dict[str, Any], slug: str, leads_to: str
) -> None:
    """Cold starts take 3.1 s, requests come 400 s apart."""
    found = chart(tmp_path, given, **changes)
    assert (found.steps[-1].slug, found.mode) == (slug, leads_to)


def test_long_processing_leads_to_a_queue(tmp_path: Path) -> None:
    """90 s in the model is more than the 60 s of a waiting call."""
    found = chart(tmp_path, workload(300.0, accepts_queueing=True), records(216, 400.0, 90.0))
    assert (found.steps[-1].slug, found.mode) == ("long", "async")
    assert found.steps[-1].measure.margin == "1.5 times above the threshold"


def test_steady_requests_are_sustained(tmp_path: Path) -> None:
    """86 s apart, under a keep-alive of 300 s."""
    found = chart(tmp_path, workload(4.0), records(1000, 86.4))
    assert (found.steps[-1].slug, found.mode) == ("sustained", "realtime")


@pytest.mark.parametrize(
    ("scenario", "sustained"),
    [("sustained", True), ("intermittent", False), ("replay", False), ("nightly", False)],
)
def test_the_scenarios_that_are_shipped_are_what_their_names_say(
    tmp_path: Path, scenario: str, sustained: bool
) -> None:
    """Also nightly bursts, of whose many requests hardly any comes after a silence."""
    given = read_experiment(SCENARIOS / f"{scenario}.toml", [], SCENARIOS).workload
    due = np.array(due_times(given.arrivals, given.duration_s, given.seed))
    rows = records(len(due), 1.0, model_s=0.01)
    for name in ("due_s", "sent_s", "first_byte_s", "done_s"):
        rows[name] = due + (0.0 if name in ("due_s", "sent_s") else 0.01)
    found = chart(tmp_path, given, rows, load={"duration_s": given.duration_s})
    step = next(step for step in found.steps if step.slug == "sustained")
    assert (step.answer == "yes") is sustained
    assert ("time in silences" in step.measure.what) is (scenario == "nightly")


@pytest.mark.parametrize(("busy_h", "answer"), [(13, "yes"), (11, "no")])
def test_traffic_that_is_silent_for_most_of_the_time_is_not_sustained(
    tmp_path: Path, busy_h: int, answer: str
) -> None:
    """A request every 10 s for so many hours of a day, then nothing; half is the threshold."""
    found = chart(tmp_path, workload(4.0), records(busy_h * 360, 10.0))
    step = next(step for step in found.steps if step.slug == "sustained")
    assert step.answer == answer
    assert "of the time" in step.flips_when


def test_an_answer_whose_interval_reaches_over_the_threshold_is_called_unsure(
    tmp_path: Path,
) -> None:
    """2 of 30 gaps are long where 5 % may be: the interval holds 5 %."""
    rows = records(31, 100.0)
    rows["due_s"][10:] += 1000
    rows["due_s"][20:] += 1000
    for name in ("sent_s", "first_byte_s", "done_s"):
        rows[name] = rows["due_s"] + (0.1 if name != "sent_s" else 0.0)
    step = next(s for s in chart(tmp_path, workload(4.0), rows).steps if s.slug == "sustained")
    assert step.measure.close
    assert step.measure.interval


def test_the_interval_of_a_quantile_covers_it() -> None:
    """In about 95 of 100 samples of 400 of a known distribution; here of 300 samples."""
    random = np.random.default_rng(4)
    for q in (0.5, 0.95):
        samples = [rank_interval(random.uniform(0, 1, 400), q) for _ in range(300)]
        covered = np.mean([low <= q <= high for low, high in samples])
        assert 0.92 <= covered <= 0.99
    assert rank_interval(np.zeros(0), 0.5) == (0.0, 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_every_limit_excludes_just_above_it_and_not_at_it(mode: str) -> None:
    """Payload, processing and memory, with the reason naming both values."""
    for name, limit in known_limits()[mode].items():
        for asked, out in ((limit.value, False), (limit.value * 1.01, True)):
            demand = {
                "payload_max_bytes": 0.0,
                "invocation_timeout_s": 0.0,
                "memory_max_bytes": 0.0,
            }
            found = bounds(mode, Demand(*{**demand, name: asked}.values()))
            reason = excluded(found)
            assert (reason is not None) is out
            assert (
                not out
                or "takes" in str(reason)
                or "allows" in str(reason)
                or "gives" in str(reason)
            )
        assert limit.source
        assert limit.confidence in ("documented", "uncertain")


def test_the_profile_of_a_run_goes_before_the_table() -> None:
    """A limit that the run held to is the one that counts."""
    profile = [{"name": "payload_max_bytes", "value": 10, "source": "mine"}]
    found = bounds("serverless", Demand(11.0, None, None), profile)
    assert excluded(found) == "The largest payload is 11 bytes; serverless takes 10 bytes."


def four(folder: Path, given: Workload, **changes: Any) -> list[Option]:
    prices = read_prices()
    runs = [
        make_run(folder / "r", "realtime", records(216, 400.0), workload=given, **changes),
        make_run(folder / "s", "serverless", SLOW, workload=given, **changes),
        async_run(folder / "a", workload=given, **changes),
        batch_run(folder / "b", workload=given, **changes),
    ]
    return [
        Option(run, summary, cost_of(run, summary, prices))
        for run in runs
        for summary in [summarise(run)]
    ]


@pytest.mark.parametrize("latency_s", [0.05, 0.5, 2.0, 3.5, 30.0, 60.0, 300.0, 900.0])
@pytest.mark.parametrize("payload", [400, 5_000_000, 30_000_000, 2_000_000_000])
def test_the_answer_is_the_cheapest_that_serves_as_well_and_no_limit_is_overruled(
    tmp_path: Path, latency_s: float, payload: int
) -> None:
    """For many objectives and payloads: nothing that meets the objective is cheaper."""
    given = workload(latency_s)
    options = four(tmp_path, given, payload={"largest_bytes": payload})
    found: Recommendation = recommend(given, options)
    verdicts = {each.mode: judge(each, given).verdict for each in options}
    meeting = [each for each in options if verdicts[each.mode] == MEETS]
    for each in options:
        limit = known_limits()[each.mode]["payload_max_bytes"].value
        if each.mode == "serverless":
            limit = 4_194_304
        assert (verdicts[each.mode] == "excluded") is (payload > limit)
    if found.outcome == "use":
        assert found.mode in {each.mode for each in meeting}
        cheapest = min(meeting, key=lambda each: each.cost.month_usd)
        assert found.mode == cheapest.mode
    elif meeting:
        assert any(v == "undecided" for v in verdicts.values()) or found.outcome == "not measured"
    assert {bound.mode for bound in found.limits} == set(MODES)


def test_a_dearer_option_never_becomes_the_answer_by_growing_dearer(tmp_path: Path) -> None:
    """At equal service the price decides, for any pair of prices."""
    given = workload(4.0)
    random = np.random.default_rng(3)
    base = four(tmp_path, given)[:2]
    for _ in range(50):
        prices = 10 ** random.uniform(-3, 3, 2)
        priced = [
            Option(
                each.run,
                each.summary,
                type(each.cost)(
                    **{
                        **vars(each.cost),
                        "fixed_month_usd": price,
                        "per_request_usd": 0.0,
                        "fleet": None,
                    }
                ),
            )
            for each, price in zip(base, prices, strict=True)
        ]
        assert recommend(given, priced).mode == priced[int(np.argmin(prices))].mode


def test_more_errors_than_allowed_never_meet_the_objective(tmp_path: Path) -> None:
    """However cheap the option is."""
    given = workload(4.0)
    rows = make_failed(records(216, 400.0), slice(0, 4), b"ModelError", 424)
    assert judge(option(tmp_path, "serverless", rows, given), given).verdict == "misses"


@pytest.mark.parametrize(("completion_s", "verdict"), [(700.0, "misses"), (900.0, "meets")])
def test_a_completion_time_is_an_objective_of_its_own(
    tmp_path: Path, completion_s: float, verdict: str
) -> None:
    """The job is done 785 s after it was handed in."""
    objective = Objective(latency_s=1e6, completion_s=completion_s)
    given = workload(objective=objective, needs_answer=False)
    run = batch_run(tmp_path, workload=given)
    summary = summarise(run)
    judged = judge(Option(run, summary, cost_of(run, summary, read_prices())), given)
    assert judged.verdict == verdict


def test_a_measured_batch_job_is_ranked_like_any_other(tmp_path: Path) -> None:
    """Nobody waits, a quarter of an hour may pass: the chart and the bill both say batch."""
    given = workload(900.0, needs_answer=False)
    prices = read_prices()
    runs = [
        make_run(tmp_path / "r", "realtime", records(1000, 80.0), workload=given),
        batch_run(tmp_path / "b", workload=given),
    ]
    options = [Option(r, s, cost_of(r, s, prices)) for r in runs for s in [summarise(r)]]
    found = recommend(given, options)
    assert (found.outcome, found.mode, found.agrees) == ("use", "batch", True)


def test_an_option_that_was_not_measured_is_ruled_out_by_its_limits(tmp_path: Path) -> None:
    """A payload of 2 GB is too much even for those without a run."""
    given = workload(4.0)
    rows, payload = records(216, 400.0), {"largest_bytes": 2_000_000_000}
    found = recommend(given, [option(tmp_path, "realtime", rows, given, payload=payload)])
    reasons = dict(found.unmeasured)
    assert set(reasons) == {"serverless", "async", "batch"}
    assert all(
        reason.startswith("Ruled out: The largest payload is 2 GB") for reason in reasons.values()
    )
