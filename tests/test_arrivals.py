import numpy as np
import pytest
from msgspec import ValidationError, convert, structs
from scipy import integrate, optimize, special, stats

from bench.arrivals import (
    Arrivals,
    Bursts,
    Constant,
    Gamma,
    OnOff,
    Poisson,
    due_times,
)
from bench.errors import ConfigError
from bench.rates import Daily, Ramp, Spike, Steps
from bench.units import DueTimes

CHANGING: list[Arrivals] = [
    Ramp(from_rps=0.0, to_rps=10.0),
    Ramp(from_rps=8.0, to_rps=0.5),
    Steps(rates_rps=(2.0, 0.0, 8.0)),
    Steps(start_rps=1.0, step_rps=2.0, number=4),
    Spike(base_rps=2.0, peak_rps=20.0, at_s=100.0, lasting_s=200.0),
    Daily(mean_rps=5.0, peak_ratio=2.5, peak_hour=0.2),
]
KINDS: list[Arrivals] = [
    Constant(5.0),
    Poisson(5.0),
    Gamma(5.0, cv=2.5),
    Bursts(mean_gap_s=30.0, mean_size=3.0),
    OnOff(on_rps=20.0, off_rps=1.0, mean_on_s=20.0, mean_off_s=40.0),
    *CHANGING,
]
HOUR_S = 3600.0
DAY_S = 86400.0


def even(arrivals: Arrivals) -> Arrivals:
    return structs.replace(arrivals, randomness="even")


def dispersion(due_s: DueTimes, width_s: float) -> float:
    """Variance over mean of the counts in windows of a width; 1 for a Poisson process."""
    counts = np.bincount((due_s // width_s).astype(int))
    return float(counts.var() / counts.mean())


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


@pytest.mark.parametrize("arrivals", [*KINDS, *map(even, CHANGING)])
@pytest.mark.parametrize("duration_s", [300.0, 3000.0])
def test_the_mean_count_is_the_count_expected(arrivals: Arrivals, duration_s: float) -> None:
    """Over many seeds, from the first second on, whatever the duration."""
    counts = np.array([len(due_times(arrivals, duration_s, seed)) for seed in range(60)])
    expected = arrivals.expected_count(duration_s)
    error = 4 * counts.std() / np.sqrt(len(counts)) + 1  # the one lost in rounding down
    assert counts.mean() == pytest.approx(expected, abs=error)


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


@pytest.mark.parametrize("cv", [0.2, 1.0, 2.0])
def test_gamma_gaps_have_the_distribution_asked_for(cv: float) -> None:
    """A KS test against the gamma distribution of that mean and cv; neighbours do not correlate."""
    gaps = np.diff(due_times(Gamma(20.0, cv=cv), 1000.0, 5))
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
    assert stats.kstest(gaps, "gamma", args=(cv**-2, 0, cv**2 / 20)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


@pytest.mark.parametrize("cv", [0.5, 2.0])
def test_gamma_counts_disperse_with_the_square_of_cv(cv: float) -> None:
    """Over windows of many gaps the index of dispersion is cv squared."""
    assert dispersion(due_times(Gamma(50.0, cv=cv), 20_000.0, 2), 10.0) == pytest.approx(
        cv**2, rel=0.1
    )


def test_gamma_begins_as_it_goes_on() -> None:
    """The first second has the rate of any other, also for clustered gaps."""
    first = [np.count_nonzero(due_times(Gamma(2.0, cv=3.0), 1.0, seed)) for seed in range(3000)]
    assert np.mean(first) == pytest.approx(2, rel=0.1)


def test_on_off_has_the_rates_and_lengths_asked_for() -> None:
    """With silence between, the busy phases show: their number, their length, their rate."""
    process = OnOff(on_rps=50.0, mean_on_s=10.0, mean_off_s=100.0)
    due_s = due_times(process, 200_000.0, 4)
    gaps = np.diff(due_s)
    assert len(due_s) == pytest.approx(process.expected_count(200_000.0), rel=0.1)
    assert (gaps > 1).sum() == pytest.approx(200_000 / 110, rel=0.1)
    assert gaps[gaps > 1].mean() == pytest.approx(100, rel=0.1)
    assert gaps[gaps < 0.2].mean() == pytest.approx(1 / 50, rel=0.02)


def test_on_off_disperses_as_the_theory_of_mmpp_says() -> None:
    """For long windows: 1 + 2 (difference of rates)^2 on^2 off^2 / ((on + off)^3 mean rate)."""
    process = OnOff(on_rps=20.0, off_rps=2.0, mean_on_s=2.0, mean_off_s=3.0)
    due_s = due_times(process, 100_000.0, 1)
    expected = 1 + 2 * 18**2 * 2**2 * 3**2 / (5**3 * 9.2)
    assert dispersion(due_s, 100.0) == pytest.approx(expected, rel=0.15)


def test_on_off_with_equal_rates_is_a_poisson_process() -> None:
    """Then the phases make no difference."""
    process = OnOff(on_rps=10.0, off_rps=10.0, mean_on_s=1.0, mean_off_s=1.0)
    gaps = np.diff(due_times(process, 2000.0, 3))
    assert stats.kstest(gaps, "expon", args=(0, 1 / 10)).pvalue > 0.01


def test_phases_shorter_than_the_clock_can_tell_do_no_harm() -> None:
    """Far from the start a tiny phase has no length left in a float."""
    process = OnOff(on_rps=1.0, off_rps=0.001, mean_on_s=1e-8, mean_off_s=1e5)
    assert len(due_times(process, 1e9, 1)) == pytest.approx(1e6, rel=0.01)


def test_phases_too_short_to_count_are_refused() -> None:
    """A typing error must not fill the memory."""
    process = OnOff(on_rps=1.0, mean_on_s=1e-6, mean_off_s=1e-6)
    with pytest.raises(ConfigError, match=r"50,000,000 phases .* Raise mean_on_s"):
        due_times(process, 100.0, 1)


@pytest.mark.parametrize("arrivals", CHANGING)
def test_a_changing_rate_is_poisson_in_its_own_time(arrivals: Arrivals) -> None:
    """Counted in expected requests, gaps are exponential with mean 1 and independent."""
    due_s = due_times(arrivals, HOUR_S, 6)
    counts = until(arrivals, due_s)
    gaps = np.diff(counts)
    assert stats.kstest(gaps, "expon").pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.05
    assert dispersion(counts, 5.0) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("arrivals", [*map(even, CHANGING)])
def test_a_changing_rate_may_be_even(arrivals: Arrivals) -> None:
    """Then the next request is due exactly when one more is expected."""
    due_s = due_times(arrivals, HOUR_S, 6)
    # A daily curve is straight between its minutes, the formula is not.
    np.testing.assert_allclose(until(arrivals, due_s), np.arange(len(due_s)), 1e-5, 1e-6)


def until(arrivals: Arrivals, at_s: DueTimes) -> DueTimes:
    """Requests expected in an hour until each moment, by the formula of the shape."""
    match arrivals:
        case Ramp(first, last):
            counts = first * at_s + (last - first) * at_s**2 / (2 * HOUR_S)
        case Steps():
            rates = arrivals.rates_rps or (1.0, 3.0, 5.0, 7.0)
            width_s = HOUR_S / len(rates)
            parts = [np.clip(at_s - step * width_s, 0, width_s) for step in range(len(rates))]
            counts = np.dot(rates, parts)
        case Spike():
            extra = arrivals.peak_rps - arrivals.base_rps
            counts = arrivals.base_rps * at_s
            counts += extra * np.clip(at_s - arrivals.at_s, 0, arrivals.lasting_s)
        case Daily():
            k = optimize.brentq(lambda k: 1 / special.i0e(k) - arrivals.peak_ratio, 0, 1000)
            grid_s = np.linspace(0, HOUR_S, 36_001)
            angle = 2 * np.pi * (grid_s / DAY_S - arrivals.peak_hour / 24)
            rate = arrivals.mean_rps * np.exp(k * np.cos(angle)) / special.i0(k)
            counts = np.interp(
                at_s, grid_s, integrate.cumulative_trapezoid(rate, grid_s, initial=0)
            )
        case _:
            raise NotImplementedError(arrivals)
    return np.asarray(counts)


def test_a_spike_is_where_it_was_put() -> None:
    """The rate before, in and after it, counted."""
    due_s = due_times(Spike(base_rps=50.0, peak_rps=500.0, at_s=30.0, lasting_s=10.0), 100.0, 1)
    counts, _ = np.histogram(due_s, [0, 30, 40, 100])
    assert counts / [30, 10, 60] == pytest.approx([50, 500, 50], rel=0.1)


@pytest.mark.parametrize("at_s", [0.0, 95.0, 200.0])
def test_a_spike_may_reach_beyond_the_run(at_s: float) -> None:
    """What lies outside is not sent."""
    spike = Spike(base_rps=10.0, peak_rps=100.0, at_s=at_s, lasting_s=20.0, randomness="even")
    assert len(due_times(spike, 100.0, 1)) == {0.0: 2800, 95.0: 1450, 200.0: 1000}[at_s]


def test_steps_have_their_rates_one_after_the_other() -> None:
    """Each for an equal part of the run, from a list or counted up."""
    for steps in (
        Steps(rates_rps=(10.0, 30.0, 50.0), randomness="even"),
        Steps(start_rps=10.0, step_rps=20.0, number=3, randomness="even"),
    ):
        counts, _ = np.histogram(due_times(steps, 30.0, 1), [0, 10, 20, 30])
        assert list(counts) == [100, 300, 500]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either rates_rps or start_rps"),
        ({"rates_rps": [1], "start_rps": 1, "number": 2}, "give either rates_rps or start_rps"),
        ({"start_rps": 1}, "number, how many steps there are"),
        ({"start_rps": 5, "step_rps": -2, "number": 4}, "a step leaves 0 to 100,000"),
        ({"rates_rps": [1, -1]}, r"Expected `float` >= 0\.0 - at `\$\.rates_rps\[1\]"),
    ],
)
def test_steps_that_make_no_sense_are_refused(given: dict[str, object], message: str) -> None:
    """One of the two ways to give them, and no rate below zero."""
    with pytest.raises(ValidationError, match=message):
        convert({"kind": "steps", **given}, Arrivals)


@pytest.mark.parametrize("ratio", [1.0, 1.5, 3.0, 10.0])
def test_the_day_has_its_mean_and_its_peak(ratio: float) -> None:
    """The mean over a day is exact, the peak is at its hour and as high as asked for."""
    daily = Daily(mean_rps=4.0, peak_ratio=ratio, peak_hour=9.5, randomness="even")
    assert daily.expected_count(3 * DAY_S) == pytest.approx(12 * DAY_S)
    due_s = due_times(daily, 3 * DAY_S, 1)
    counts = np.bincount((due_s // 60).astype(int), minlength=3 * 1440).reshape(3, 1440)
    assert abs(counts[0] - counts[1]).max() <= 1  # every day is alike
    assert counts.max() == pytest.approx(240 * ratio, abs=2)
    if ratio > 1:
        assert counts[0].argmax() == pytest.approx(9.5 * 60, abs=25)
        assert counts.min() < 240 / ratio
