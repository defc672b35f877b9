"""The timer for the waiting job that expires next; there is none while nothing waits.

A timer for nothing would let the clock turn to it, hours after the last request, and instances
that stay would be billed for that time.
"""

from collections.abc import Callable

from servers.timers import Timer, Timers


class Expiry:
    """Rings once, at the earliest moment it was armed for."""

    def __init__(self, timers: Timers, ring: Callable[[], None]) -> None:
        self._timers = timers
        self._ring = ring
        self._armed: tuple[float, Timer] | None = None

    @property
    def armed(self) -> bool:
        return self._armed is not None

    def arm(self, when_s: float) -> None:
        """Ring at ``when_s`` on the clock, or earlier where that was asked for."""
        if self._armed is not None and self._armed[0] <= when_s:
            return
        self.disarm()
        self._armed = (when_s, self._timers.call_at(when_s, self._rung))

    def disarm(self) -> None:
        """Nothing waits any more."""
        if self._armed is not None:
            self._armed[1].cancel()
            self._armed = None

    def _rung(self) -> None:
        self._armed = None
        self._ring()
