"""A closed loop: when each of its users sends next. Pure; the engine asks and tells."""

import heapq
import math

from bench.loops import Closed
from bench.units import MAX_REQUESTS
from bench.workload import Workload


class ClosedLoop:
    """Users who wait for an answer, think, and send again, until the workload's end.

    Of several processes, process ``number`` has every ``of``-th user and every ``of``-th number of
    a request.
    """

    def __init__(self, arrivals: Closed, workload: Workload, number: int = 0, of: int = 1) -> None:
        self._duration_s, seed = workload.duration_s, workload.seed
        mine = range(number, arrivals.users, of)
        self._pauses = {user: arrivals.think_times(seed, user) for user in mine}
        self._due = [(arrivals.first_s(seed, user), user) for user in mine]
        heapq.heapify(self._due)
        self._users: dict[int, int] = {}
        self._seq, self._step = number, of

    @property
    def next_s(self) -> float:
        """When the next request is due; infinity when nobody will send before an answer comes."""
        due_s = self._due[0][0] if self._due else math.inf
        return due_s if due_s < self._duration_s and self._seq < MAX_REQUESTS else math.inf

    def take(self) -> tuple[int, float]:
        """The next request is sent: its number, and when it was due."""
        due_s, user = heapq.heappop(self._due)
        seq, self._seq = self._seq, self._seq + self._step
        self._users[seq] = user
        return seq, due_s

    def answered(self, seq: int, done_s: float) -> None:
        """Request ``seq`` came to an end at ``done_s``: its user begins to think."""
        user = self._users.pop(seq)
        heapq.heappush(self._due, (done_s + next(self._pauses[user]), user))
