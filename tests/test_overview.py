"""The index of a folder of benches."""

import json
from pathlib import Path

import pytest

from bench.errors import ConfigError
from reports.answer import write_answer
from reports.overview import benches, sheet
from reports.report import make_report
from reports.sheet import html
from tests.make_runs import make_pair, workload


def bench(folder: Path, day: int, latency_s: float = 4.5) -> None:
    """A bench of that day with its answer and an empty page."""
    runs = make_pair(folder, workload(latency_s), started_at=f"2026-11-{day:02d}T10:00:00Z")
    write_answer(make_report(runs), folder / "recommendation.json")
    (folder / "report.html").write_text("<p>", encoding="utf-8")


def test_benches_are_listed_newest_first_with_a_link(tmp_path: Path) -> None:
    """Each with the answer it gave; `latest`, a link to one of them, is not counted twice."""
    for day in (20, 22, 21):
        bench(tmp_path / f"run-{day}", day)
    (tmp_path / "latest").symlink_to("run-22")
    found, broken = benches(tmp_path)
    assert [each.folder for each in found] == ["run-22", "run-21", "run-20"]
    assert broken == ()
    assert {each.chosen for each in found} == {"serverless"}
    assert 'href="run-22/report.html"' in html(sheet(tmp_path))


def test_a_trend_needs_two_benches_of_a_workload(tmp_path: Path) -> None:
    """And says from where to where p95 went."""
    bench(tmp_path / "a", 20)
    assert [part.slug for part in sheet(tmp_path).parts] == ["benches"]
    bench(tmp_path / "b", 21)
    (drawn,) = sheet(tmp_path).parts[1].figures
    assert "Real-time: p95 went from 53.5 ms to 53.5 ms, 1.00 times, over 2 benches" in drawn.shows


@pytest.mark.parametrize("text", ["", "[]", '{"workload": 1}', json.dumps({"workload": {}})])
def test_an_answer_that_cannot_be_read_is_named_and_left_out(tmp_path: Path, text: str) -> None:
    """The others are still listed."""
    bench(tmp_path / "good", 20)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "recommendation.json").write_text(text, encoding="utf-8")
    found, (broken,) = benches(tmp_path)
    assert [each.folder for each in found] == ["good"]
    assert broken.startswith("bad cannot be read")


def test_a_folder_with_a_hostile_name_is_inert(tmp_path: Path) -> None:
    """Neither its text nor its link is more than a text and a link."""
    name = '"><img src=x onerror=alert(1)> #?%'
    bench(tmp_path / name, 20)
    text = html(sheet(tmp_path))
    assert "<img" not in text
    assert (
        'href="%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%20%23%3F%25/report.html"' in text
    )


def test_an_empty_folder_has_an_empty_index(tmp_path: Path) -> None:
    """A page all the same; a folder that is not there is an error."""
    assert "0 benches" in html(sheet(tmp_path))
    with pytest.raises(ConfigError, match="is no folder"):
        sheet(tmp_path / "missing")
