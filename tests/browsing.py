"""Pages in a real browser, for the tests of what they look like and do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bench.run import Run
from bench.workload import Objective
from reports.page import write_page
from reports.report import make_report
from tests.make_queued import async_run, batch_run
from tests.make_runs import (
    make_cold,
    make_failed,
    make_pair,
    make_run,
    realistic,
    records,
    workload,
)

CHROMIUM = Path("/usr/bin/chromium")
PROBE = "<script>document.title='owned'</script><img src=x onerror=alert(1)> $x_1$ **b**"
SIZES = [(360, 800), (1400, 900)]
THEMES = ["light", "dark"]


@dataclass
class Opened:
    """A page in a browser and what it did that it should not."""

    page: Page
    troubles: list[str] = field(default_factory=list)

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


def troubled(folder: Path) -> list[Run]:
    """A pair with everything that can be shown: failures, throttling, an invalid run, probes."""
    given = workload(1.0, title=PROBE)
    runs = []
    for mode in ("realtime", "serverless"):
        rows = realistic(mode)
        make_failed(rows, slice(3, 9), b"ThrottlingException", 400)
        make_failed(rows, slice(20, 21), b"<b>Model&Error", 424)
        load = {"dropped": 2} if mode == "serverless" else {}
        model = {"name": PROBE}
        changes = {"workload": given, "load": load, "model": model, "command": PROBE}
        runs.append(make_run(folder / mode, mode, rows, **changes))
    return runs


def seconds_long(folder: Path) -> list[Run]:
    """Ten minutes of steady traffic with many requests, to see other axes."""
    given = workload(0.2, duration_s=600.0)
    random = np.random.default_rng(5)
    runs = []
    for mode in ("realtime", "serverless"):
        rows = records(30_000, 0.02, model_s=0.02)
        rows["done_s"] += random.lognormal(-4, 0.6, len(rows))
        if mode == "serverless":
            make_cold(rows, slice(0, 12))
        runs.append(make_run(folder / mode, mode, rows, workload=given, load={"duration_s": 600.0}))
    return runs


def crowded(folder: Path) -> list[Run]:
    """Slowest requests just under, at and just over the objective."""
    given = workload(0.1, objective=Objective(latency_s=0.1))
    runs = []
    for mode, slowest in (("realtime", 0.097), ("serverless", 0.104)):
        rows = records(34, 2000.0, model_s=0.01)
        rows["done_s"][5] = rows["due_s"][5] + slowest
        runs.append(make_run(folder / mode, mode, rows, workload=given))
    return runs


def four(folder: Path) -> list[Run]:
    """A day with all four options; who waits minutes is content."""
    given = workload(300.0, accepts_queueing=True)
    pair = make_pair(folder, given)
    return [
        *pair,
        async_run(folder / "async", workload=given),
        batch_run(folder / "batch", workload=given),
    ]


STORIES: dict[str, Callable[[Path], list[Run]]] = {
    "met": lambda folder: make_pair(folder, workload(4.5)),
    "undecided": lambda folder: make_pair(folder, workload(4.0)),
    "troubled": troubled,
    "steady": seconds_long,
    "crowded": crowded,
    "batch": lambda folder: make_pair(folder, workload(4.5, needs_answer=False)),
    "four": four,
    "alone": lambda folder: make_pair(folder, workload(1.0))[:1],
}


class Pages(dict[str, Path]):
    """The page of each story, written when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, name: str) -> Path:
        report = make_report(STORIES[name](self._folder / name))
        self[name] = write_page(report, self._folder / f"{name}.html")
        return self[name]


_written: list[Pages] = []


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each story, written once for all modules."""
    if not _written:
        _written.append(Pages(tmp_path_factory.mktemp("pages")))
    return _written[0]


def opened(browser: Browser, path: Path, size: tuple[int, int], theme: Any = "light") -> Opened:
    tab = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
    found = Opened(tab)
    tab.on("console", lambda message: found.troubles.append(message.text))
    tab.on("pageerror", lambda error: found.troubles.append(str(error)))
    tab.on("dialog", lambda dialog: found.troubles.append(dialog.message))
    tab.on(
        "request",
        lambda request: (
            None if request.url == path.as_uri() else found.troubles.append(request.url)
        ),
    )
    tab.goto(path.as_uri())
    return found
