"""Cold starts against idle time: the groups, their intervals and the configured keep-alive."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.record import Records
from reports.drawn import Drawn, Missing
from reports.gapfigures import gaps
from reports.gaps import FEWEST_GAPS, Gaps, KeepAlive, gaps_of
from reports.option import Option
from reports.report import Report, make_report
from tests.make_runs import PROFILE, make_cold, make_run, records, workload

SIGMA = {**PROFILE["serverless"][0], "name": "keep_alive_sigma", "value": 0.15, "unit": "log s"}
LIMITS = [*PROFILE["serverless"], SIGMA]


def drawn_from(keep: KeepAlive, n: int = 600, seed: int = 7) -> Records:
    """Requests after idle times around ``keep``, each cold as one environment would have it."""
    random = np.random.default_rng(seed)
    idle = random.uniform(20, 900, n)
    gone = idle > keep.median_s * random.lognormal(0, keep.sigma, n)
    rows = records(n, 1.0)
    rows["due_s"] = np.cumsum(idle + 4.0)
    for name in ("sent_s", "first_byte_s", "done_s"):
        rows[name] = rows["due_s"] + (0.0 if name == "sent_s" else 0.1)
    return make_cold(rows, np.flatnonzero(gone))


def report(folder: Path, rows: Records, **changes: Any) -> Report:
    given = workload(4.0, duration_s=600_000.0)
    changes = {"profile": LIMITS, "workload": given, **changes}
    return make_report([make_run(folder, "serverless", rows, **changes)])


def option(folder: Path, rows: Records, **changes: Any) -> Option:
    return report(folder, rows, **changes).options[0]


def test_the_configured_keep_alive_is_log_normal() -> None:
    """Half are gone at the median, 95 % between 224 s and 403 s; without spread all at once."""
    keep = KeepAlive(300.0, 0.15)
    assert keep.expired(300.0) == pytest.approx(0.5)
    assert keep.expired(403.0) - keep.expired(224.0) == pytest.approx(0.95, abs=0.005)
    assert keep.expired(0.0) == 0.0
    assert [KeepAlive(300.0, 0.0).expired(at) for at in (299.0, 300.0)] == [0.0, 1.0]


def test_requests_that_follow_the_configured_keep_alive_are_explained_by_it(
    tmp_path: Path,
) -> None:
    """600 requests of a known truth; at most one group of eight misses by chance."""
    found = gaps_of(option(tmp_path, drawn_from(KeepAlive(300.0, 0.15))))
    assert isinstance(found, Gaps)
    assert sum(one.agrees for one in found.bins) >= len(found.bins) - 1
    assert sum(one.requests for one in found.bins) == 599  # before the first is no silence
    assert all(one.low <= one.share <= one.high for one in found.bins)
    assert all(one.from_s <= one.idle_s <= one.to_s for one in found.bins)


def test_another_keep_alive_than_the_configured_is_seen(tmp_path: Path) -> None:
    """Environments were kept twice as long: groups between the two are not explained."""
    found = gaps_of(option(tmp_path, drawn_from(KeepAlive(600.0, 0.15))))
    assert isinstance(found, Gaps)
    between = [one for one in found.bins if 350 < one.idle_s < 500]
    assert between
    assert not any(one.agrees for one in between)


@pytest.mark.slow
def test_the_figure_says_what_was_found_and_the_table_holds_it(tmp_path: Path) -> None:
    """The sums of the sentence are those of the table."""
    figure = gaps(report(tmp_path, drawn_from(KeepAlive(300.0, 0.15))))
    assert isinstance(figure, Drawn)
    assert figure.table is not None
    after = [row for row in figure.table.rows if row[5] == "100 %"]
    assert after
    assert "of silence started cold; the configured keep-alive explains" in figure.shows
    assert sum(int(row[3]) for row in figure.table.rows) == 599


@pytest.mark.parametrize(
    ("rows", "changes", "why"),
    [
        (records(FEWEST_GAPS, 400.0), {}, "only 19 requests found it idle"),
        (records(1000, 1.0), {}, "the longest silence was 900 ms"),
        (
            records(100, 400.0),
            {"target": {"mode": "serverless", "memory_mb": 2048, "provisioned_concurrency": 1}},
            "always kept ready",
        ),
    ],
)
def test_what_cannot_be_told_is_not_drawn_and_the_reason_is_given(
    tmp_path: Path, rows: Records, changes: dict[str, Any], why: str
) -> None:
    """Too few requests after silence, none long enough, or environments that never go."""
    found = gaps(report(tmp_path, rows, **changes))
    assert isinstance(found, Missing)
    assert why in found.why


def test_an_endpoint_of_instances_has_no_such_figure(tmp_path: Path) -> None:
    """Nothing goes to zero there, so nothing is missing either."""
    assert gaps(make_report([make_run(tmp_path, "realtime", records(50, 400.0))])) is None
