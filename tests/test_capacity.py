"""The search for the highest rate, without load: a server is a function from rate to latency."""

import math
from collections.abc import Callable

import pytest

from bench.capacity import (
    INVALID,
    MEETS,
    MISSES,
    Search,
    Step,
    capacity,
    duration_s,
    knee_rps,
    needed,
    next_rate,
)

OBJECTIVE_S = 0.1


def queue(limit_rps: float, service_s: float = 0.01) -> Callable[[float], float]:
    """Latency of a queue that overflows at ``limit_rps``: it grows like 1 / (1 - load)."""
    return lambda rate: service_s / (1 - rate / limit_rps) if rate < limit_rps else math.inf


def step(rate: float, latency_s: float, verdict: str | None = None) -> Step:
    """A step that was measured at ``rate``."""
    found = verdict or (MEETS if latency_s <= OBJECTIVE_S else MISSES)
    known = latency_s if latency_s < math.inf else None
    return Step(rate, rate, known, known, 1000, 0.0, found)


def search_on(latency: Callable[[float], float], search: Search) -> list[Step]:
    """Every step of a search on a server with that latency."""
    steps: list[Step] = []
    while (rate := next_rate(search, steps)) is not None:
        steps.append(step(rate, latency(rate)))
    return steps


@pytest.mark.parametrize("limit_rps", [0.9, 7.0, 100.0, 4321.0])
def test_the_highest_rate_is_found_to_the_tolerance(limit_rps: float) -> None:
    """The rate found meets the objective, and one a tolerance higher would not."""
    search = Search(start_rps=20, tolerance=0.05, max_steps=40)
    found = capacity(0.99, OBJECTIVE_S, search_on(queue(limit_rps), search))
    true = limit_rps * 0.9  # where 0.01 / (1 - load) is 0.1
    assert found.highest_rps is not None
    assert found.bounded
    assert true / 1.051 <= found.highest_rps <= true


def test_a_server_that_never_misses_is_tried_up_to_the_highest_rate_allowed() -> None:
    """The result then says that the capacity may be higher."""
    found = capacity(0.99, OBJECTIVE_S, search_on(lambda _: 0.01, Search(max_rps=300)))
    assert found.highest_rps == 300
    assert not found.bounded


def test_a_server_that_always_misses_ends_the_search() -> None:
    """No rate is reported, and the search does not go on below one request a step."""
    steps = search_on(lambda _: 1.0, Search(max_steps=100))
    found = capacity(0.99, OBJECTIVE_S, steps)
    assert found.highest_rps is None
    assert found.bounded
    assert min(each.rate_rps for each in steps) * Search().max_step_s >= 1


def test_a_rate_that_the_generator_cannot_keep_bounds_the_search_but_not_the_server() -> None:
    """Invalid is not slow: the server may be able to do more."""
    steps: list[Step] = []
    while (rate := next_rate(Search(), steps)) is not None:
        steps.append(step(rate, 0.01, INVALID if rate > 700 else MEETS))
    found = capacity(0.99, OBJECTIVE_S, steps)
    assert found.highest_rps is not None
    assert 600 < found.highest_rps <= 700
    assert not found.bounded


def test_a_slow_moment_below_the_highest_rate_does_not_confuse_the_search() -> None:
    """A miss at a low rate and a success at a higher one: it looks above the success."""
    steps = [step(10, 1.0), step(5, 0.01), step(20, 0.01), step(40, 1.0)]
    rate = next_rate(Search(), steps)
    assert rate is not None
    assert 20 < rate < 40
    assert next_rate(Search(), steps[:3]) is None


def test_the_search_stops_after_its_most_steps() -> None:
    """A limit on what grows."""
    assert len(search_on(queue(5000), Search(tolerance=1e-6, max_steps=7))) == 7


@pytest.mark.parametrize(
    ("quantile", "requests"), [(0.9, 44), (0.95, 90), (0.99, 459), (0.999, 4603)]
)
def test_a_step_has_enough_requests_for_its_quantile(quantile: float, requests: int) -> None:
    """The numbers of MLPerf's early stopping without a request over the latency."""
    assert needed(quantile) == requests
    search = Search(step_s=1, max_step_s=1e6)
    assert duration_s(search, 10, quantile) == pytest.approx(requests / 10)


def test_a_step_is_neither_shorter_nor_longer_than_allowed() -> None:
    """Both limits hold, whatever the rate."""
    search = Search(step_s=10, max_step_s=60)
    assert duration_s(search, 10_000, 0.99) == 10
    assert duration_s(search, 1, 0.99) == 60


def test_the_knee_is_where_latency_leaves_the_rate_behind() -> None:
    """On 1 / (1 - load) it lies between a half and nine tenths of the limit."""
    rates = [10.0 * each for each in range(1, 10)] + [95.0, 98.0]
    knee = knee_rps([step(rate, queue(100)(rate)) for rate in rates])
    assert knee is not None
    assert 50 < knee <= 90


def test_a_straight_or_short_curve_has_no_knee() -> None:
    """Nothing is called a knee that is none."""
    assert knee_rps([step(rate, 0.01) for rate in (1, 2, 3, 4)]) is None
    assert knee_rps([step(1, 0.01), step(2, 0.5)]) is None


def test_a_rate_that_the_generator_could_not_keep_is_tried_once_more() -> None:
    """A slow moment of the machine does not end the search; the second time counts."""
    steps = [step(10, 0.01), step(20, 0.01, INVALID)]
    assert next_rate(Search(), steps) == 20
    again = [*steps, step(20, 0.01)]
    assert next_rate(Search(), again) == 40
    assert [each.verdict for each in capacity(0.99, OBJECTIVE_S, again).steps] == [MEETS, MEETS]
    rate = next_rate(Search(), [*steps, step(20, 0.01, INVALID)])
    assert rate is not None
    assert 10 < rate < 20
