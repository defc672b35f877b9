"""What one process has to send, and when."""

from array import array
from dataclasses import dataclass

from bench.arrivals import due_times
from bench.workload import Workload


@dataclass(frozen=True, eq=False)
class Schedule:
    """Requests in the order in which they are due; twelve bytes each, for there may be millions."""

    seqs: "array[int]"
    """Place of each in the workload's whole schedule."""
    due_s: "array[float]"

    def __len__(self) -> int:
        return len(self.due_s)

    def part(self, number: int, of: int) -> "Schedule":
        """Every ``of``-th request from ``number`` on: what falls to one process of several."""
        return Schedule(self.seqs[number::of], self.due_s[number::of])


def schedule_of(workload: Workload) -> Schedule:
    """The whole schedule; the same workload always gives the same."""
    due_s = due_times(workload.arrivals, workload.duration_s, workload.seed)
    return Schedule(array("I", range(len(due_s))), array("d", due_s.astype("=f8").tobytes()))
