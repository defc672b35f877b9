"""Where the warm-up of a steady load ends, against series whose warm-up is known."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.arrivals import Bursts, Constant
from reports.summary import Summary, summarise
from reports.warmup import WarmUp, mser, warm_up
from tests.make_runs import make_cold, make_run, records, workload

Floats = npt.NDArray[np.float64]


def noise(n: int, seed: int = 1) -> Floats:
    """Latencies of a steady service: about 5 ms."""
    return np.asarray(0.005 * np.exp(0.3 * np.random.default_rng(seed).standard_normal(n)))


def test_mser_leaves_out_exactly_the_step() -> None:
    """Of forty values of which the first six are higher, six are left out."""
    values = np.array([5.0] * 6 + [1.0, 1.1] * 17)
    assert mser(values) == 6
    assert mser(np.array([1.0, 1.1] * 20)) == 0


def test_a_series_that_never_settles_has_no_cut() -> None:
    """More than half of it would have to go."""
    assert mser(np.array([5.0] * 30 + [1.0, 1.1] * 5)) is None


@pytest.mark.parametrize("n", [600, 6000, 60_000])
def test_a_warm_up_is_cut_about_where_it_ends(n: int) -> None:
    """Of a minute that begins at 2.5 times the latency and settles with 3 s, 4 to 16 s go."""
    due_s = np.arange(n) * 60 / n
    found = warm_up(noise(n) * (1 + 1.5 * np.exp(-due_s / 3)), due_s)
    assert 4 < found.until_s < 16
    assert found.requests == (due_s < found.until_s).sum()


@pytest.mark.parametrize("n", [50, 600, 60_000])
def test_an_even_load_is_left_whole(n: int) -> None:
    """Nothing is cut at random."""
    due_s = np.arange(n) * 60 / n
    assert [warm_up(noise(n, seed), due_s) for seed in range(20)] == [WarmUp()] * 20


def test_a_load_that_changes_half_way_has_no_steady_state() -> None:
    """That is said, and nothing is cut."""
    due_s = np.arange(6000) / 100
    assert warm_up(noise(6000) * np.where(due_s < 35, 2, 1), due_s) == WarmUp(settled=False)


def warming(folder: Path, kind: Any, cold: bool = False, fast_forward: bool = False) -> Summary:
    """A run of 1000 requests of which the first hundred are slow."""
    rows = records(1000, 0.05, model_s=0.01)
    rows["done_s"][:100] += 0.2
    if cold:
        make_cold(rows, slice(0, 1))
    load = workload(duration_s=50.0, arrivals=kind, fast_forward=fast_forward)
    return summarise(make_run(folder, "realtime", rows, workload=load))


def test_a_steady_load_is_judged_without_its_warm_up(tmp_path: Path) -> None:
    """The latencies leave it out, the number of answers does not, and the report says so."""
    found = warming(tmp_path, Constant(20.0))
    assert (found.warm_up.requests, found.latency_s.n, found.answered) == (100, 900, 1000)
    assert found.latency_s.max_s == pytest.approx(0.01)
    assert found.within.of == 900
    texts = [doubt.text for doubt in found.doubts]
    assert any("The first 5 s (100 requests) are left out" in text for text in texts)


@pytest.mark.parametrize(
    ("kind", "cold", "fast_forward"),
    [
        (Bursts(mean_gap_s=10.0), False, False),
        (Constant(20.0), True, False),
        (Constant(20.0), False, True),
    ],
)
def test_what_callers_feel_is_never_cut(
    tmp_path: Path, kind: Any, cold: bool, fast_forward: bool
) -> None:
    """Traffic that comes and goes, cold starts and skipped time are kept from the first request."""
    found = warming(tmp_path, kind, cold, fast_forward)
    assert found.warm_up == WarmUp()
    assert found.latency_s.n == 1000
