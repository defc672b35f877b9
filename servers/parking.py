"""The clock's account of an asynchronous endpoint's jobs.

A job that waits is parked: its caller waits for nothing but moments on the clock, so the clock may
be turned. A job that is worked on is not. Only jobs accepted by this process count, for only their
callers are on the same clock.
"""

from servers.timers import Timers


class Parking:
    """Which of this process's jobs are parked."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._parked: dict[str, bool] = {}

    def accept(self, job: str) -> None:
        """A new job, which waits."""
        self._parked[job] = True
        self._timers.park(1)

    def park(self, job: str) -> None:
        """It waits again."""
        if self._parked.get(job) is False:
            self.accept(job)

    def unpark(self, job: str) -> None:
        """It is worked on: real work must be on the account before this is called."""
        if self._parked.get(job):
            self._parked[job] = False
            self._timers.park(-1)

    def forget(self, job: str) -> None:
        """It is over."""
        self.unpark(job)
        self._parked.pop(job, None)
