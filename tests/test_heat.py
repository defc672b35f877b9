"""The heat map: what is counted, what is left empty, and when it is not drawn."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

from reports.drawn import Drawn, Missing
from reports.heat import COLUMNS, FEWEST_ANSWERS, MOST_LEVELS, ROWS, due_at_once, heat_of
from reports.heatfigures import DARKEST, LIGHTEST, heat
from reports.report import Report, make_report
from reports.styles import PAPER, contrast
from tests.make_runs import make_failed, make_run, records, workload

N = 2_000


def report(folder: Path, slow: int = 40) -> Report:
    """Two options over 1,000 s; the second is silent in its second half, and slow at the end."""
    given = workload(1.0, duration_s=1000.0)
    rows = records(N, 0.5)
    gone = records(N, 0.25)
    gone["done_s"][-slow:] += 4.0
    make_failed(gone, slice(0, 5), b"ModelError", 424)
    runs = {"realtime": rows, "serverless": gone}
    return make_report([make_run(folder / m, m, r, workload=given) for m, r in runs.items()])


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(tmp_path_factory.mktemp("heat"))


def test_each_answer_is_in_one_cell_and_a_failure_in_none(known: Report) -> None:
    """The sums are the answers, also with half as many columns."""
    found = heat_of(known.options, 1.0)
    assert found is not None
    assert [int(grid.counts.sum()) for grid in found.grids] == [N, N - 5]
    assert found.grids[0].counts.shape == (ROWS, COLUMNS)
    halved = found.halved()
    assert [int(grid.counts.sum()) for grid in halved.grids] == [N, N - 5]
    assert [span.answers for span in found.spans[0]] == pytest.approx([N / 6] * 6, abs=1)


def test_options_share_the_edges_and_the_levels(known: Report) -> None:
    """The cell of an answer and its colour mean the same in every panel."""
    found = heat_of(known.options, 1.0)
    assert found is not None
    assert found.levels[0] == 1
    assert len(found.levels) <= MOST_LEVELS
    assert max(found.levels) <= max(int(grid.counts.max()) for grid in found.grids)
    row = int(np.searchsorted(found.latency_s, 4.1, side="right")) - 1
    assert int(found.grids[1].counts[min(row, ROWS - 1)].sum()) == 40
    assert int(found.grids[0].counts[min(row, ROWS - 1)].sum()) == 0


@pytest.mark.slow
def test_what_is_empty_is_not_drawn(known: Report) -> None:
    """Nothing is painted in the silent half of an option; the other one is painted there."""
    drawn = heat(known)
    assert isinstance(drawn, Drawn)
    wide = drawn.svg[: drawn.svg.index('<svg class="narrow"')]
    assert "<image" not in wide  # a build server's policy would block it
    reach = {}
    for panel in ("axes_1", "axes_2"):
        part = wide.split(f'heat-wide-{panel}"')[1].split("heat-wide-axes_")[0]
        cells = re.findall(r'<path d="([^"]*)"[^>]*fill="#', part)
        reach[panel] = max(float(x) for path in cells for x in re.findall(r"[ML] ([\d.]+) ", path))
    assert reach["axes_2"] < 0.6 * reach["axes_1"]


@pytest.mark.slow
def test_the_sentence_and_the_table_tell_the_same(known: Report) -> None:
    """40 of 1,995 answers were late, all of them in the last sixth of the option's half."""
    drawn = heat(known)
    assert isinstance(drawn, Drawn)
    assert "Real-time: none of 2,000 answers took more than the objective of 1 s" in drawn.shows
    assert "serverless: 2 % of 1,995 answers took more than the objective of 1 s" in drawn.shows
    assert "from 5 min 33 s to 8 min 20 s it was" in drawn.shows
    assert drawn.table is not None
    assert all(len(row) == len(drawn.table.head) for row in drawn.table.rows)
    assert sum(int(row[3].replace(",", "")) for row in drawn.table.rows) == 2 * N - 5


def test_few_answers_or_all_at_once_are_no_heat_map_and_the_reason_is_given(
    tmp_path: Path,
) -> None:
    """One answer too few; and a dataset, whose records are all due at the start."""
    few = make_report([make_run(tmp_path / "a", "realtime", records(FEWEST_ANSWERS - 1, 1.0))])
    found = heat(few)
    assert isinstance(found, Missing)
    assert "500 answers" in found.why
    at_once = make_report([make_run(tmp_path / "b", "realtime", records(N, 0.0))])
    assert due_at_once(at_once.options)
    assert isinstance(heat(at_once), Missing)


def test_each_cell_can_be_told_from_the_page_by_its_outline() -> None:
    """The colours that are used stay apart; cividis' own ends would vanish in a theme."""
    lightest, darkest = (to_hex(colormaps["cividis"](at)) for at in (LIGHTEST, DARKEST))
    assert contrast(lightest, darkest) > 4
    assert contrast(darkest, PAPER[1]) > contrast(to_hex(colormaps["cividis"](0.0)), PAPER[1])
    assert contrast("#e8e5de", PAPER[1]) > 7  # the outline, in the colour of the text
