import numpy as np
import pytest
from scipy import stats

from bench.arrivals import Arrivals, Bursts, Constant, Poisson, due_times

KINDS = [Constant(5.0), Poisson(5.0), Bursts(mean_gap_s=30.0, mean_size=3.0)]


@pytest.mark.parametrize("arrivals", KINDS)
def test_the_same_seed_gives_the_same_schedule(arrivals: Arrivals) -> None:
    """A schedule is a pure function of the process, the duration and the seed."""
    assert np.array_equal(due_times(arrivals, 600.0, 7), due_times(arrivals, 600.0, 7))


@pytest.mark.parametrize("arrivals", KINDS[1:])
def test_another_seed_gives_another_schedule(arrivals: Arrivals) -> None:
    """The seed matters, zero included."""
    assert not np.array_equal(due_times(arrivals, 600.0, 0), due_times(arrivals, 600.0, 1))


@pytest.mark.parametrize("arrivals", KINDS)
def test_due_times_ascend_within_the_duration(arrivals: Arrivals) -> None:
    """Every request is due inside the run, in the order of the schedule."""
    due_s = due_times(arrivals, 3600.0, 3)
    assert len(due_s) > 0
    assert (np.diff(due_s) >= 0).all()
    assert due_s[0] >= 0
    assert due_s[-1] < 3600.0


def test_constant_arrivals_are_evenly_spaced() -> None:
    """At 4 requests a second there are 250 ms between any two."""
    assert due_times(Constant(4.0), 2.0, 1) == pytest.approx(np.arange(8) / 4)


def test_poisson_gaps_are_exponential_and_independent() -> None:
    """Gaps pass a KS test against the exponential, and neighbours do not correlate."""
    gaps = np.diff(due_times(Poisson(20.0), 2000.0, 5))
    assert stats.kstest(gaps, "expon", args=(0, 1 / 20)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


def test_poisson_counts_are_as_variable_as_their_mean() -> None:
    """The index of dispersion of counts a second is 1."""
    counts = np.bincount(due_times(Poisson(20.0), 5000.0, 5).astype(int), minlength=5000)
    assert counts.mean() == pytest.approx(20, rel=0.02)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.08)


def test_bursts_have_the_mean_gap_size_and_spacing_asked_for() -> None:
    """Over a long time there are duration/gap bursts of the mean size, spaced as asked."""
    bursts = Bursts(mean_gap_s=100_000.0, mean_size=4.0, mean_spacing_s=0.5)
    due_s = due_times(bursts, 5e8, 11)
    assert len(due_s) == pytest.approx(bursts.expected_count(5e8), rel=0.05)
    gaps = np.diff(due_s)
    assert (gaps > 100).sum() == pytest.approx(5000, rel=0.05)
    assert gaps[gaps < 100].mean() == pytest.approx(0.5, rel=0.05)


def test_a_burst_of_one_is_a_poisson_process() -> None:
    """With a mean size of 1 only the starts of bursts remain."""
    gaps = np.diff(due_times(Bursts(mean_gap_s=10.0), 50_000.0, 2))
    assert stats.kstest(gaps, "expon", args=(0, 10)).pvalue > 0.01


def test_a_quiet_seed_may_give_no_request() -> None:
    """No burst in a short time is a schedule too: an empty one."""
    assert len(due_times(Bursts(mean_gap_s=1e6), 1.0, 1)) == 0
