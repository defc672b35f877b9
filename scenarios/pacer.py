"""Waits until a moment on the clock, as exactly as the machine can wake a process.

gevent's own timers end on whole milliseconds. On Linux a timer of the kernel wakes the event loop
instead, as exactly as ``clock_nanosleep``; elsewhere the last millisecond is waited out in turns
of the loop.
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable

import gevent
from gevent.hub import Waiter

from bench.clock import Clock, Member

COARSE_S = 0.0012
"""What gevent's timers can be late by."""
LONGEST_S = 3600.0
"""A longer wait is made of several."""
UNBROKEN = 32
"""So many moments that have passed already are answered at once; then the event loop has a turn."""

_PR_SET_TIMERSLACK = 29
_NANOSECONDS = 1_000_000_000
_READ = 1


def coarse_wait_s(wait_s: float) -> float:
    """How long to leave to a timer of whole milliseconds; zero: look again at once."""
    return max(0.0, wait_s - COARSE_S)


class Pacer:
    """Waits on ``member``'s clock, also when that is turned meanwhile. For one greenlet."""

    def __init__(self, clock: Clock, member: Member) -> None:
        self._clock = clock
        self._member = member
        self._waiter: Waiter | None = None
        self._unbroken = 0
        loop = gevent.get_hub().loop
        self._alarm = _TimerFd.create(self.wake) or _CoarseTimer(self.wake)
        self._bell = loop.io(member.fileno(), _READ)
        self._bell.start(self._turned)

    def wait_until(self, when_s: float) -> None:
        """Return at ``when_s`` on the clock, or at once when that has passed."""
        if self._clock.now() >= when_s and self._unbroken < UNBROKEN:
            self._unbroken += 1
            return
        self._unbroken = 0
        self._wait(lambda: when_s)

    def wait_for(self, when: Callable[[], float]) -> float:
        """Return at the moment that ``when`` names, and which; after each `wake` it is asked anew.

        It may be infinity, for a moment that is not known yet.
        """
        if self._unbroken < UNBROKEN and self._clock.now() >= (when_s := when()):
            self._unbroken += 1
            return when_s
        self._unbroken = 0
        return self._wait(when)

    def wake(self) -> None:
        """What `wait_for` waits for may have changed."""
        hub = gevent.get_hub()
        if gevent.getcurrent() is hub:
            self._switch()
        else:
            hub.loop.run_callback(self._switch)

    def _switch(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.switch(None)

    def close(self) -> None:
        """Let timer and watchers go."""
        self._alarm.close()
        self._bell.close()

    def _wait(self, when: Callable[[], float]) -> float:
        while True:
            self._waiter = Waiter()
            self._alarm.set(min(LONGEST_S, when() - self._clock.now()))
            self._waiter.get()
            if self._clock.now() >= (when_s := when()):
                return when_s

    def _turned(self) -> None:
        self._member.drain()
        self.wake()


class _CoarseTimer:
    """gevent's timer, up to where it is exact."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._timer = gevent.get_hub().loop.timer(0)

    def set(self, wait_s: float) -> None:
        self._timer.close()
        self._timer = gevent.get_hub().loop.timer(coarse_wait_s(wait_s))
        self._timer.start(self._wake, update=True)

    def close(self) -> None:
        self._timer.close()


class _TimerFd:
    """A timer of the kernel whose descriptor becomes readable."""

    def __init__(self, descriptor: int, arm: Callable[[int, int], None]) -> None:
        self._descriptor = descriptor
        self._arm = arm
        loop = gevent.get_hub().loop
        # Before the answers that came in the same turn: they have the kernel's time already.
        self._watcher = loop.io(descriptor, _READ, priority=loop.MAXPRI)

    @classmethod
    def create(cls, wake: Callable[[], None]) -> "_TimerFd | None":
        """None where the system has none."""
        opened = _open()
        if opened is None:
            return None
        timer = cls(*opened)
        timer._watcher.start(timer._ring, wake)
        return timer

    def set(self, wait_s: float) -> None:
        at_ns = time.monotonic_ns() + max(0, int(wait_s * _NANOSECONDS))
        self._arm(self._descriptor, at_ns)

    def close(self) -> None:
        self._watcher.close()
        os.close(self._descriptor)

    def _ring(self, wake: Callable[[], None]) -> None:
        os.read(self._descriptor, 8)
        wake()


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec``: no interval, and the moment on the monotonic clock."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


def _open() -> tuple[int, Callable[[int, int], None]] | None:
    """A new timerfd, and what arms it for a monotonic time in nanoseconds."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    # By default the kernel may end a wait 50 microseconds late, to wake less often.
    libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if sys.version_info >= (3, 13):
        descriptor = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        absolute = os.TFD_TIMER_ABSTIME

        def arm_natively(descriptor: int, at_ns: int) -> None:
            os.timerfd_settime_ns(descriptor, flags=absolute, initial=at_ns)

        return descriptor, arm_natively
    descriptor = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    spec = _TimerSpec()
    where, settime = ctypes.byref(spec), libc.timerfd_settime

    def arm(descriptor: int, at_ns: int) -> None:
        spec.at_s, spec.at_ns = divmod(at_ns, _NANOSECONDS)
        settime(descriptor, 1, where, None)  # 1: TFD_TIMER_ABSTIME

    return descriptor, arm
