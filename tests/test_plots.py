"""The plots as SVG: accessible, repeatable, small, and free of CSS."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from reports.drawn import Drawn
from reports.figures import figures
from reports.option import Option
from reports.report import make_report
from reports.series import MOST_POINTS, curve, series_of
from tests.make_runs import make_cold, make_pair, make_run, records, workload


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drawn]:
    """The figures of a day on both options."""
    report = make_report(make_pair(tmp_path_factory.mktemp("runs"), workload()))
    return {each.slug: each for each in figures(report) if isinstance(each, Drawn)}


def elements(svg: str) -> list[ET.Element]:
    root = ET.fromstring(f"<div>{svg}</div>")
    return list(root.iter())


def test_each_figure_says_how_to_read_it_and_what_it_shows(drawn: dict[str, Drawn]) -> None:
    """All that a day gives data for are there, each with its basis."""
    expected = ["percentiles", "timeline", "flow", "cold", "gaps", "cost", "volume"]
    expected += ["map", "tornado"]
    assert list(drawn) == expected
    for each in drawn.values():
        assert each.how_to_read.endswith(".")
        assert each.shows.endswith(".")
        assert each.basis


def test_every_figure_is_drawn_wide_and_narrow_with_a_name(drawn: dict[str, Drawn]) -> None:
    """Each size has a role, a title and a description that its label points to."""
    for each in drawn.values():
        roots = [one for one in elements(each.svg) if one.tag == "svg"]
        assert [one.get("class") for one in roots] == ["wide", "narrow"]
        for root in roots:
            assert root.get("role") == "img"
            named = {one.get("id"): one.text for one in root.iter() if one.get("id")}
            assert all(named[label] for label in str(root.get("aria-labelledby")).split())


def test_ids_are_unique_in_the_page(drawn: dict[str, Drawn]) -> None:
    """So clip paths and patterns of one figure never reach into another."""
    ids = [one.get("id") for each in drawn.values() for one in elements(each.svg) if one.get("id")]
    assert len(ids) == len(set(ids))


def test_references_stay_inside_the_figure(drawn: dict[str, Drawn]) -> None:
    """Every ``#name`` is defined."""
    for each in drawn.values():
        ids = {one.get("id") for one in elements(each.svg)}
        used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", each.svg))
        assert used <= ids


def test_no_style_attribute_and_no_black_is_left(drawn: dict[str, Drawn]) -> None:
    """A strict content policy blocks styles; fixed black would vanish in the dark."""
    for each in drawn.values():
        assert not re.search(r"style=|<style|#000000|#262626", each.svg)
        assert "currentColor" in each.svg


@pytest.mark.slow
def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    """No date, no random id."""
    runs = make_pair(tmp_path, workload())
    first, second = (figures(make_report(runs)) for _ in range(2))
    assert first == second


def test_a_dollar_sign_is_no_formula(drawn: dict[str, Drawn]) -> None:
    """Money stays readable text."""
    texts = ["".join(one.itertext()) for one in elements(drawn["cost"].svg) if one.tag == "text"]
    assert "$83.95" in texts


def test_the_curve_runs_from_the_fastest_to_the_slowest() -> None:
    """Of n requests the slowest stands at percentile 1 - 1/n."""
    x, y = curve(np.arange(1.0, 1001.0))
    assert (x[0], y[0]) == (1.0, 1.0)
    assert (x[-1], y[-1]) == (1000.0, 1000.0)
    assert np.all(np.diff(x) > 0)
    assert np.all(np.diff(y) >= 0)


@pytest.mark.slow
def test_many_requests_are_thinned_without_losing_the_extremes(tmp_path: Path) -> None:
    """Of 100,000 at most 2,000 are drawn, the slowest and each lone cold start among them."""
    rows = make_cold(records(100_000, 0.8), [500, 70_000])
    rows["done_s"][1234] += 9.0
    run = make_run(tmp_path, "serverless", rows)
    report = make_report([run])
    dots = series_of(Option(run, report.options[0].summary, report.options[0].cost)).dots
    assert dots.of == 100_000
    assert len(dots.due_s) <= MOST_POINTS
    assert dots.latency_s.max() == pytest.approx(9.1)
    assert (dots.kind == 1).sum() == 2


def test_the_parts_of_a_cold_start_add_up_to_its_latency(tmp_path: Path) -> None:
    """Placement 1 s, set-up 2 s, model 0.1 s, and 0.4 s of waiting that no part explains."""
    rows = make_cold(records(100, 800.0), [7])
    rows["done_s"][7] += 0.4
    (parts,) = series_of(make_report([make_run(tmp_path, "serverless", rows)]).options[0]).cold
    assert (parts.placement_s, parts.setup_s) == (1.0, 2.0)
    assert [parts.model_s, parts.other_s] == pytest.approx([0.1, 0.4])
    assert parts.total_s == pytest.approx(3.5)


def test_a_run_without_answers_has_only_the_figures_it_can_have(tmp_path: Path) -> None:
    """Nothing is drawn from nothing, and nothing crashes."""
    report = make_report([make_run(tmp_path, "realtime", records(0, 1.0))])
    found = [each.slug for each in figures(report) if isinstance(each, Drawn)]
    assert found == ["cost"]
