"""Closed loops: what each user does is seeded, and has the distribution that was asked for."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.arrivals import Poisson, due_times, scheduled_count
from bench.loops import Closed, Users

N = 20_000


def thinking(kind: str, **more: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    closed = Closed(users=3, think_s=2.0, think=kind, **more)  # type: ignore[arg-type]
    return np.fromiter(islice(closed.think_times(7, 0), N), float, N)


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        ("exponential", stats.expon(scale=2)),
        ("uniform", stats.uniform(0, 4)),
        ("lognormal", stats.lognorm(np.sqrt(np.log(1.25)), scale=2 / np.sqrt(1.25))),
    ],
)
def test_think_times_have_their_distribution(kind: str, law: Any) -> None:
    """Kolmogorov and Smirnov do not tell them from the law, and the mean is the one given."""
    drawn = thinking(kind, **({"think_cv": 0.5} if kind == "lognormal" else {}))
    assert stats.kstest(drawn, law.cdf).pvalue > 0.01
    assert drawn.mean() == pytest.approx(2.0, rel=0.03)


def test_constant_think_time_is_constant() -> None:
    """Every pause is as long."""
    assert set(thinking("constant")) == {2.0}


def test_pauses_are_independent_of_each_other_and_between_users() -> None:
    """Neither the pause before nor another user's says anything about the next one."""
    closed = Closed(users=2, think_s=2.0)
    first, second = (np.fromiter(islice(closed.think_times(7, u), N), float, N) for u in (0, 1))
    bound = 4 / np.sqrt(N)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < bound
    assert abs(np.corrcoef(first, second)[0, 1]) < bound


def test_the_seed_decides() -> None:
    """The same seed gives the same pauses, another one others."""
    closed = Closed(users=1)
    draws = [list(islice(closed.think_times(seed, 0), 300)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_users_begin_apart() -> None:
    """Each begins within its first pause, also when pauses are constant: never all at once."""
    due = due_times(Closed(users=500, think_s=10.0, think="constant"), 60.0, 1)
    assert len(due) == 500
    assert stats.kstest(due, stats.uniform(0, 10).cdf).pvalue > 0.01


def test_only_the_run_tells_how_many_requests_there_are() -> None:
    """A loop and a Locust file have no count beforehand; a schedule has."""
    assert scheduled_count(Closed(users=5), 60.0, 1) is None
    assert scheduled_count(Users(), 60.0, 1) is None
    assert scheduled_count(Poisson(1.0), 60.0, 1) == len(due_times(Poisson(1.0), 60.0, 1))
