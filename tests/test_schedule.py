"""What one process has to send."""

import numpy as np
import pytest

from bench.arrivals import Poisson, due_times
from bench.workload import Objective, Workload
from scenarios.schedule import schedule_of

WORKLOAD = Workload("parts", "", "sustained", 20.0, Poisson(50.0), Objective(1.0), seed=3)


def test_the_whole_schedule_is_that_of_the_arrivals() -> None:
    """In order, each with its place, in twelve bytes."""
    whole = schedule_of(WORKLOAD)
    assert np.array_equal(whole.due_s, due_times(WORKLOAD.arrivals, 20.0, 3))
    assert list(whole.seqs) == list(range(len(whole)))
    assert whole.seqs.itemsize + whole.due_s.itemsize == 12


@pytest.mark.parametrize("of", [1, 2, 7])
def test_the_parts_make_up_the_whole(of: int) -> None:
    """Nothing is lost, nothing sent twice, and all parts are alike to one request."""
    whole = schedule_of(WORKLOAD)
    parts = [whole.part(number, of) for number in range(of)]
    assert sorted(seq for part in parts for seq in part.seqs) == list(whole.seqs)
    assert all(part.due_s[0] == whole.due_s[part.seqs[0]] for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
