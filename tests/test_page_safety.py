"""The page for everybody: assistive tools, strict content policies, hostile names."""

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route

from bench.run import Run
from reports.compare import compare
from reports.compare import sheet as comparison
from reports.costs import read_prices
from reports.markup import write_whole
from reports.overview import sheet as overview
from reports.page import write_page
from reports.report import make_report
from reports.sheet import html
from tests.browsing import SIZES, STORIES, THEMES, browser, opened, pages
from tests.make_runs import make_failed, make_pair, make_run, realistic, records, workload

__all__ = ["browser", "pages"]

STRICT = "sandbox; default-src 'none'; img-src 'self'; style-src 'self'"
"""What Jenkins sends with the files that a build keeps."""

OPEN = "document.querySelectorAll('details').forEach(one => { one.open = true })"

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "$x_1^2$ \\frac{a}{b}",
    "\u202egnissim si eciffo eht\u202c \u0639\u0631\u0628\u064a",
    "{{ 7 * 7 }} {% raw %}",
    "]]> <!-- --> </svg></title></style>",
)
LONG = "x" * 10_000


def violations(browser: Browser, path: Path, theme: str) -> list[str]:
    found = opened(browser, path, SIZES[1], theme)
    found.ask(OPEN)  # what is folded is checked, too
    result = Axe().run(found.page)
    found.page.close()
    assert found.troubles == []
    return [f"{each['id']}: {each['help']}" for each in result.response["violations"]]


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("story", ["four", "troubled", "undecided", "steady"])
def test_the_rules_of_axe_find_nothing(
    browser: Browser, pages: dict[str, Path], story: str, theme: str
) -> None:
    """Contrast, names, landmarks, tables and the rest, in both themes."""
    assert violations(browser, pages[story], theme) == []


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A comparison and an index of two benches."""
    folder = tmp_path_factory.mktemp("sheets")
    runs: list[Run] = []
    for name in ("one", "two"):
        mine = STORIES["met"](folder / name)
        runs += mine
        from reports.answer import write_answer

        write_answer(make_report(mine), folder / name / "recommendation.json")
    return {
        "compare": write_whole(html(comparison(compare(runs, read_prices()))), folder / "c.html"),
        "index": write_whole(html(overview(folder)), folder / "index.html"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["compare", "index"])
def test_comparisons_and_indexes_obey_the_same_rules(
    browser: Browser, sheets: dict[str, Path], name: str, theme: str
) -> None:
    """No violation, no message, no request, and no sideways scrolling on a phone."""
    assert violations(browser, sheets[name], theme) == []
    found = opened(browser, sheets[name], SIZES[0], theme)
    assert found.ask("document.documentElement.scrollWidth <= innerWidth")
    found.page.close()


@pytest.mark.slow
def test_under_the_content_policy_of_a_build_server_the_page_is_still_readable(
    browser: Browser, pages: dict[str, Path]
) -> None:
    """Styles are blocked there: each figure shows once, no black box, and every text is there."""
    tab = browser.new_page()
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        headers = {"Content-Security-Policy": STRICT, "Content-Type": "text/html"}
        route.fulfill(body=pages["met"].read_bytes(), headers=headers)

    tab.route("**/*", answer)
    tab.goto("http://builds.test/report.html")
    assert asked == ["http://builds.test/report.html"]
    assert tab.evaluate("getComputedStyle(document.body).fontSize") == "16px"  # the style is off
    shown = "[...document.querySelectorAll('svg')].filter(s => s.checkVisibility()).length"
    assert tab.evaluate(shown) == tab.evaluate("document.querySelectorAll('svg').length") / 2
    assert tab.evaluate("document.querySelector('.headline').checkVisibility()")
    filled = """[...document.querySelectorAll('svg path, svg rect')].filter(e =>
      e.checkVisibility() && !e.closest('clipPath, defs, pattern')
      && getComputedStyle(e).fill === 'rgb(0, 0, 0)'
      && e.getBBox().width * e.getBBox().height > 4000).length"""
    assert tab.evaluate(filled) == 0  # no black boxes
    tab.close()


def named(folder: Path, name: str) -> list[Run]:
    """A pair in which everything that a user can name is called ``name``."""
    given = workload(1.0, title=name[:200])
    runs = []
    for mode in ("realtime", "serverless"):
        rows = realistic(mode)
        make_failed(rows, slice(3, 9), name.encode()[:40], 400)
        profile = [
            {
                **dict.fromkeys(("name", "source", "basis", "meaning", "unit"), name),
                "value": name,
            }
        ]
        changes: dict[str, Any] = {
            "workload": given,
            "model": {"name": name, "sha256": name},
            "command": name,
            "profile": profile,
            "enforced": {"memory": name, "cpu": name},
            "machine": {"cpu_model": name, "kernel": name},
            "tool": {"version": name, "git_sha": name, "git_dirty": True},
        }
        runs.append(make_run(folder / mode, mode, rows, **changes))
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("name", [" ".join(HOSTILE), LONG], ids=["hostile", "long"])
def test_hostile_names_do_nothing(browser: Browser, tmp_path: Path, name: str) -> None:
    """No script, no request, no broken layout, wherever a name may stand, on a phone."""
    path = write_page(make_report(named(tmp_path, name)), tmp_path / "r.html")
    assert path.stat().st_size < 3_000_000
    found = opened(browser, path, SIZES[0])
    assert found.troubles == []
    assert found.ask("document.title") != "owned"
    assert found.ask("document.querySelectorAll('script, img, iframe, object').length") == 0
    assert found.ask("document.querySelectorAll('main, footer').length") == 2
    found.ask(OPEN)
    assert found.ask("document.documentElement.scrollWidth <= innerWidth")
    found.page.close()


@pytest.mark.slow
def test_an_option_with_a_hostile_name_is_inert(browser: Browser, tmp_path: Path) -> None:
    """The mode of a run folder that somebody sent is a text like any other."""
    pair = make_pair(tmp_path, workload(4.5))
    many = make_run(tmp_path / "many", "realtime", records(600, 100.0), workload=workload(4.5))
    strange = Run(many.folder, {**many.manifest, "mode": HOSTILE[1] + HOSTILE[2]})
    path = write_page(make_report([*pair, strange]), tmp_path / "r.html")
    found = opened(browser, path, SIZES[1])
    assert found.troubles == []
    assert found.ask("document.querySelectorAll('img').length") == 0
    assert found.ask("document.querySelectorAll('#fig-heat, #fig-gaps').length") == 2
    found.page.close()
