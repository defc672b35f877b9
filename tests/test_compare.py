"""Runs side by side."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from reports.compare import compare, sheet
from reports.costs import read_prices
from reports.sheet import html
from tests.make_runs import make_pair, make_run, records, workload

PRICES = read_prices()


def test_each_run_has_a_column_in_the_order_given(tmp_path: Path) -> None:
    """Also two of one option, which a report refuses."""
    runs = [make_run(tmp_path / name, "realtime", records(500, 100.0)) for name in "ab"]
    found = compare(runs, PRICES)
    assert [column.name for column in found.columns] == [
        f"1. {tmp_path.name}/a",
        f"2. {tmp_path.name}/b",
    ]


def test_every_estimate_lies_in_its_interval(tmp_path: Path) -> None:
    """For each quantile of each run."""
    for column in compare(make_pair(tmp_path), PRICES).columns:
        for each in column.latency:
            assert each.value_s is not None
            assert each.low_s <= each.value_s <= each.high_s
        share, low, high = column.share_in_time
        assert low <= share <= high


def test_a_run_twice_as_slow_shows_as_such(tmp_path: Path) -> None:
    """The ratio to the first run stands beside the value."""
    slow = records(500, 100.0, model_s=0.2)
    runs = [
        make_run(tmp_path / "a", "realtime", records(500, 100.0)),
        make_run(tmp_path / "b", "realtime", slow),
    ]
    cells = sheet(compare(runs, PRICES)).parts[0].rows[1]
    assert cells[4].text == "200 ms"
    assert cells[4].note.endswith("2.00")


def test_what_does_not_compare_is_doubted(tmp_path: Path) -> None:
    """Other machines, other workloads, and noise between runs, always."""
    other = workload(1.0, name="other")
    runs = [
        make_run(tmp_path / "a", "realtime", records(9, 9.0)),
        make_run(tmp_path / "b", "realtime", records(9, 9.0), workload=other),
        make_run(tmp_path / "c", "realtime", records(9, 9.0), machine={"fingerprint": "x"}),
    ]
    text = " ".join(compare(runs, PRICES).doubts)
    for words in ("different machines", "different workloads", "proves nothing"):
        assert words in text


def test_a_run_without_answers_is_shown_and_not_drawn(tmp_path: Path) -> None:
    """Nothing crashes, and its cells are empty."""
    runs = [make_run(tmp_path / n, "realtime", records(k, 9.0)) for n, k in (("a", 0), ("b", 40))]
    page = sheet(compare(runs, PRICES))
    assert page.parts[0].rows[0][4].text == "–"  # noqa: RUF001 - an en dash is an empty cell


def test_hostile_names_are_inert_and_short(tmp_path: Path) -> None:
    """A model's name of 10,000 characters with markup in it."""
    name = "<script>alert(1)</script>" + "x" * 10_000
    runs = make_pair(tmp_path, workload(), model={"name": name})
    text = html(sheet(compare(runs, PRICES)))
    assert "<script" not in text
    assert "x" * 300 not in text


@pytest.mark.slow
def test_the_drawing_is_well_formed(tmp_path: Path) -> None:
    """And has a row for each run."""
    random = np.random.default_rng(2)
    runs = []
    for name in "abcdef":
        rows = records(300, 100.0)
        rows["done_s"] += random.lognormal(-3, 0.5, 300)
        runs.append(make_run(tmp_path / name, "serverless", rows))
    (drawn,) = sheet(compare(runs, PRICES)).parts[1].figures
    texts = ["".join(e.itertext()) for e in ET.fromstring(f"<d>{drawn.svg}</d>").iter("text")]
    assert sum(text.endswith(f"/{name}") for name in "abcdef" for text in texts) == 6
