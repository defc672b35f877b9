"""The page as people meet it: in a real browser, from a file, without a network."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from reports.page import page, write_page
from reports.report import make_report
from tests.browsing import PROBE, SIZES, STORIES, THEMES, browser, opened, pages, troubled
from tests.make_runs import make_cold, make_pair, make_run, records, workload

__all__ = ["browser", "pages"]

# Everything below runs in the page and gives back what is wrong, so that an empty list is good.
TEXTS = """() => {
  const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const wrong = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const host = node.parentElement;
    if (!node.textContent.trim() || host.closest("title, desc, style, .skip")) continue;
    if (!host.checkVisibility()) continue;
    const style = getComputedStyle(host);
    const svg = host.closest("svg");
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    const size = parseFloat(style.fontSize) * scale;
    const front = parse(svg ? style.fill : style.color);
    const [a, b] = [light(front), light(behind(host))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const bold = Number(style.fontWeight) >= 700;
    const large = size >= 24 || (bold && size >= 18.66);
    if (size < 9 || contrast < (large ? 3 : 4.5)) {
      wrong.push([node.textContent.trim().slice(0, 40), size, contrast, style.fill, style.color]);
    }
  }
  return wrong;
}"""

OVERLAPS = """() => {
  const wrong = [];
  for (const svg of document.querySelectorAll("svg")) {
    if (!svg.checkVisibility()) continue;
    const texts = [...svg.querySelectorAll("text")].map(t => [t, t.getBoundingClientRect()]);
    const frame = svg.getBoundingClientRect();
    for (let i = 0; i < texts.length; i++) {
      const [one, a] = texts[i];
      if (a.left < frame.left - 1 || a.right > frame.right + 1
        || a.top < frame.top - 1 || a.bottom > frame.bottom + 1) {
        wrong.push("outside: " + one.textContent);
      }
      for (let j = i + 1; j < texts.length; j++) {
        const [other, b] = texts[j];
        // Boxes hold room for accents and tails; only ink that meets counts.
        const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (x > 0.5 && y > 3) wrong.push(one.textContent + " / " + other.textContent);
      }
    }
  }
  return wrong;
}"""

SCROLLED = """[...document.querySelectorAll(".scroll")]
  .filter(region => region.scrollWidth > region.clientWidth).length"""


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("story", STORIES)
def test_the_page_is_readable_and_still(
    browser: Browser, pages: dict[str, Path], story: str, size: tuple[int, int], theme: str
) -> None:
    """No console message, no request, no sideways scrolling; large and dark enough everywhere."""
    found = opened(browser, pages[story], size, theme)
    try:
        assert found.troubles == []
        assert found.ask("document.documentElement.scrollWidth <= innerWidth")
        if size[0] > 1000:  # no table needs its scroll bar where there is room
            assert found.ask(SCROLLED) == 0
        assert found.ask(TEXTS) == []
        assert found.ask(OVERLAPS) == []
    finally:
        found.page.close()


@pytest.mark.slow
def test_text_of_the_user_stays_text(browser: Browser, pages: dict[str, Path]) -> None:
    """Markup in a title, a model name, a command or an error code does nothing."""
    found = opened(browser, pages["troubled"], SIZES[1])
    assert found.ask("document.title") != "owned"
    assert found.ask("document.querySelectorAll('script, img, iframe').length") == 0
    assert found.ask("document.querySelector('h1').textContent") == PROBE
    assert "<b>Model&Error" in found.ask("document.body.textContent")
    assert found.troubles == []
    found.page.close()


@pytest.mark.slow
def test_the_page_has_landmarks_headings_and_a_skip_link(
    browser: Browser, pages: dict[str, Path]
) -> None:
    """One h1, no level skipped, every link of the page leads somewhere, tables are labelled."""
    found = opened(browser, pages["met"], SIZES[1])
    for landmark in ("header", "main", "nav", "footer"):
        assert found.ask(f"document.querySelectorAll('{landmark}').length") == 1
    levels = found.ask("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    links = "[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
    for link in found.ask(links):
        assert found.ask(f"document.querySelectorAll('{link}').length") == 1
    assert found.ask("document.querySelectorAll('table').length") == found.ask(
        "document.querySelectorAll('table > caption').length"
    )
    assert found.ask("document.querySelectorAll('.scroll:not([tabindex])').length") == 0
    found.page.keyboard.press("Tab")
    assert found.ask("document.activeElement.className") == "skip"
    found.page.close()


@pytest.mark.slow
def test_the_page_can_be_printed(browser: Browser, pages: dict[str, Path]) -> None:
    """A PDF comes out."""
    found = opened(browser, pages["met"], SIZES[1])
    assert found.page.pdf()[:4] == b"%PDF"
    found.page.close()


@pytest.mark.slow
def test_without_any_css_each_figure_shows_once(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    """Some viewers of build artefacts block every style."""
    html = pages["met"].read_text(encoding="utf-8")
    head, rest = html.split("<style>")
    bare = tmp_path / "bare.html"
    bare.write_text(head + rest.split("</style>")[1], encoding="utf-8")
    found = opened(browser, bare, SIZES[1])
    shown = "[...document.querySelectorAll('svg')].filter(s => s.checkVisibility()).length"
    assert found.ask(shown) == found.ask("document.querySelectorAll('svg').length") / 2
    found.page.close()


@pytest.mark.slow
def test_the_recommendation_comes_before_every_number(tmp_path: Path) -> None:
    """An invalid measurement is said even before that."""
    html = page(make_report(make_pair(tmp_path / "good", workload(4.5))))
    assert html.index('class="headline"') < html.index("<table")
    assert "is invalid, not slow</h2>" not in html
    bad = page(make_report(troubled(tmp_path / "bad")))
    assert bad.index("is invalid, not slow</h2>") < bad.index('class="headline"')


@pytest.mark.slow
def test_a_page_of_a_million_requests_stays_small(tmp_path: Path) -> None:
    """At most three megabytes."""
    random = np.random.default_rng(1)
    rows = records(1_000_000, 0.08, model_s=0.01)
    rows["done_s"] += random.lognormal(-4, 1, len(rows))
    make_cold(rows, slice(0, None, 500))
    path = write_page(make_report([make_run(tmp_path, "serverless", rows)]), tmp_path / "r.html")
    assert path.stat().st_size < 3_000_000
