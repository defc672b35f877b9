"""A run's metrics on disk, and how a variant's book keeps them."""

import json
from pathlib import Path

import pytest

from bench.events import EventLog
from bench.metrics import DRAFT, METRIC_COLUMNS, finish_metrics, read_metrics
from servers.metrics import Book, Outcome
from servers.pages import BUCKETS_S


def book(folder: Path) -> Book:
    return Book("e", "v", EventLog(folder / DRAFT))


def test_the_book_of_a_minute_becomes_rows_of_the_run(tmp_path: Path) -> None:
    """Sum, count, smallest and largest by the minute, from the start of the load."""
    kept = book(tmp_path)
    for at_s, model_s in ((130.0, 0.25), (150.0, 0.75)):
        kept.begin(at_s, active=2)
        kept.end(at_s + 1.0, Outcome(at_s, model_s))
    kept.begin(181.0, active=2)
    kept.end(181.5, Outcome(181.0, None))
    kept.close()
    finish_metrics(tmp_path, 10.0)
    metrics = read_metrics(tmp_path)
    assert list(metrics.columns) == list(METRIC_COLUMNS)
    latency = metrics[metrics["metric"] == "ModelLatency"].to_dict("records")
    assert latency == [
        {
            "at_s": 110.0,
            "period_s": 60.0,
            "endpoint": "e",
            "variant": "v",
            "metric": "ModelLatency",
            "unit": "Microseconds",
            "sum": 1e6,
            "count": 2.0,
            "min": 250_000.0,
            "max": 750_000.0,
        }
    ]
    invocations = metrics[metrics["metric"] == "Invocations"]
    assert invocations["sum"].tolist() == [2.0, 1.0]
    per_instance = metrics[metrics["metric"] == "InvocationsPerInstance"]
    assert per_instance["sum"].tolist() == [1.0, 0.5]
    overhead = metrics[metrics["metric"] == "OverheadLatency"]
    assert overhead["max"].tolist() == pytest.approx([750_000.0])
    assert not (tmp_path / DRAFT).exists()


def test_concurrency_has_a_row_each_ten_seconds(tmp_path: Path) -> None:
    """Its most and its least; what is still open goes on into the next period."""
    kept = book(tmp_path)
    kept.begin(1.0, 1)
    kept.begin(2.0, 1)
    kept.end(12.0, Outcome(1.0, 0.1))
    kept.end(13.0, Outcome(2.0, 0.1))
    kept.close()
    lines = [json.loads(line) for line in (tmp_path / DRAFT).read_text().splitlines()]
    fast = [line for line in lines if line["kind"] == "ConcurrentRequestsPerModel"]
    assert [(line["at_s"], line["max"], line["min"]) for line in fast] == [(0, 2, 1), (10, 2, 0)]


def test_errors_count_by_their_class(tmp_path: Path) -> None:
    """4XX, 5XX and no answer at all are model errors; what never reached the model is none."""
    kept = book(tmp_path)
    for status in (200, 404, 500, 0):
        kept.begin(1.0, 1)
        kept.end(1.0, Outcome(1.0, 0.1, status))
    kept.begin(1.0, 1)
    kept.end(1.0, Outcome(1.0))
    kept.begin(1.0, 1)
    kept.end(1.0, Outcome(1.0, 0.1, broke_off=True))
    assert kept.whole("Invocations").total == 6
    assert kept.whole("Invocation4XXErrors").total == 1
    assert kept.whole("Invocation5XXErrors").total == 1
    assert kept.whole("InvocationModelErrors").total == 3
    assert kept.whole("MidStreamErrors").total == 1
    assert sum(kept.histogram("ModelLatency").counts) == 5
    assert kept.histogram("ModelLatency").counts[BUCKETS_S.index(0.1)] == 5


def test_a_run_of_before_has_no_metrics(tmp_path: Path) -> None:
    """No rows, but the columns."""
    assert list(read_metrics(tmp_path).columns) == list(METRIC_COLUMNS)
    assert len(read_metrics(tmp_path)) == 0
