"""One time for the load generator and the servers: monotonic time plus what has been skipped.

Everything that really happens takes real time. When nothing real is under way anywhere, the clock
jumps to just before the next event, so a day that is mostly silence takes minutes.

The clock is a small file that its members map into memory. Each member tells what it is doing:

    work       real work under way here: a request being answered, a process starting or ending
    awaiting   requests it has sent and that have not come back
    parked     requests it holds back only until a moment on the clock (a modelled delay)
    next       the next moment at which it will do something by itself

Nothing is under way when all work is zero and every awaited request is parked. Whoever brings that
about turns the clock to the earliest ``next`` and wakes the others. All changes are made under one
file lock, so no process can begin work between the look and the jump.
"""

import contextlib
import fcntl
import math
import mmap
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from bench.errors import ConfigError
from bench.events import EventLog

LEAD_S = 0.005
"""A jump lands this long before the event, so that processes wake up as they would without it.

Longer ones, of 10 and 20 ms, made no request less late on a busy machine; no quiet one was tried.
Each event of a simulated day costs it this much.
"""

MEMBERS = 16
_HEADER = struct.Struct("=dddd")  # monotonic origin, skipped seconds, fast-forward?, load's begin
_BEGIN_AT = 24
_MEMBER = struct.Struct("=dqqqd")  # present, work, awaiting, parked, next
_SIZE = _HEADER.size + MEMBERS * _MEMBER.size
_ABSENT = (0.0, 0, 0, 0, math.inf)


class Clock:
    """A view of the clock file in ``folder``; cheap to read, safe to share between processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._file = os.open(folder / "clock", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"There is no clock in {folder}: {error.strerror}.") from error
        self._map = mmap.mmap(self._file, _SIZE)
        origin, _, fast, _ = _HEADER.unpack_from(self._map, 0)
        self._origin = float(origin)
        self.fast_forward = bool(fast)
        self._members: list[Member] = []

    @classmethod
    def create(cls, folder: Path, fast_forward: bool, awaits_load: bool = False) -> "Clock":
        """Start a clock at zero in ``folder``; its path must leave room for a socket's name.

        With ``awaits_load`` somebody will say when the load begins (`Member.begin_load`).
        """
        begin_s = math.nan if awaits_load else -math.inf
        header = _HEADER.pack(time.monotonic(), 0.0, fast_forward, begin_s)
        (folder / "clock").write_bytes(header + _MEMBER.pack(*_ABSENT) * MEMBERS)
        return cls(folder)

    def now(self) -> float:
        """Seconds since the clock was made, the skipped ones included."""
        real_s = time.monotonic() - self._origin
        return real_s + self.skipped_s if self.fast_forward else real_s

    @property
    def skipped_s(self) -> float:
        """Seconds skipped so far."""
        skipped: float = _HEADER.unpack_from(self._map, 0)[1]
        return skipped

    @property
    def date_s(self) -> float:
        """The date: seconds since 1970, the skipped ones included."""
        return time.time() + self.skipped_s

    @property
    def load_begin_s(self) -> float:
        """When the load began; NaN when it has not yet, -inf where none is awaited."""
        begin_s: float = _HEADER.unpack_from(self._map, 0)[3]
        return begin_s

    def join(self, log: EventLog | None = None) -> "Member":
        """Take part: a member's work holds the clock, its next event is where a jump lands."""
        with self._locked():
            for slot in range(MEMBERS):
                if not self._read(slot)[0]:
                    self._write(slot, (1.0, 0, 0, 0, math.inf))
                    self._members.append(Member(self, slot, log or EventLog(None)))
                    return self._members[-1]
        raise ConfigError(f"The clock in {self.folder} already has {MEMBERS} members.")

    def close(self) -> None:
        """Leave with all that joined through this view, and let the file go."""
        for member in self._members:
            member.leave()
        self._map.close()
        os.close(self._file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _read(self, slot: int) -> tuple[float, int, int, int, float]:
        return _MEMBER.unpack_from(self._map, _HEADER.size + slot * _MEMBER.size)

    def _write(self, slot: int, state: tuple[float, int, int, int, float]) -> None:
        _MEMBER.pack_into(self._map, _HEADER.size + slot * _MEMBER.size, *state)

    def _next_if_idle(self) -> float:
        """The earliest next event when nothing real is under way, otherwise infinity."""
        states = [self._read(slot) for slot in range(MEMBERS)]
        busy = any(state[1] > 0 for state in states)
        in_transit = sum(state[2] for state in states) > sum(state[3] for state in states)
        return math.inf if busy or in_transit else min(state[4] for state in states)

    def _jump(self) -> tuple[float, float] | None:
        """Skip to just before the next event if nothing is under way; from when to when."""
        target, now = self._next_if_idle() - LEAD_S, self.now()
        if not now < target < math.inf:
            return None
        skipped_s = self.skipped_s + target - now
        _HEADER.pack_into(self._map, 0, self._origin, skipped_s, True, self.load_begin_s)
        return now, target


class Member:
    """One process's part in the clock. Not for several threads at once."""

    def __init__(self, clock: Clock, slot: int, log: EventLog) -> None:
        self.clock = clock
        self._slot = slot
        self._log = log
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bell.setblocking(False)
        with contextlib.suppress(FileNotFoundError):  # left by a member that was killed
            os.unlink(self._address(slot))
        self._bell.bind(self._address(slot))

    def fileno(self) -> int:
        """Readable after another member has turned the clock: wait anew for the next event."""
        return self._bell.fileno()

    def drain(self) -> None:
        """Take the pending wake-ups off the socket."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._bell.recv(16)

    def update(
        self, *, work: int = 0, awaiting: int = 0, parked: int = 0, next_s: float | None = None
    ) -> None:
        """Change the counts by what is given, and the next event to ``next_s`` seconds.

        If that leaves nothing under way the clock is turned, and every member's socket says so,
        this one's too.
        """
        if not self.clock.fast_forward:
            return
        with self.clock._locked():
            present, old_work, old_awaiting, old_parked, old_next_s = self.clock._read(self._slot)
            state = (
                present,
                old_work + work,
                old_awaiting + awaiting,
                old_parked + parked,
                old_next_s if next_s is None else next_s,
            )
            self.clock._write(self._slot, state)
            jump = self.clock._jump()
            woken = [slot for slot in range(MEMBERS) if self.clock._read(slot)[0]] if jump else []
        if jump:
            self._log.write("skip", jump[0], to_s=round(jump[1], 6))
        self._wake(woken)

    def begin_load(self, at_s: float) -> None:
        """Tell every member that the load began at this moment."""
        with self.clock._locked():
            struct.pack_into("=d", self.clock._map, _BEGIN_AT, at_s)
            woken = [slot for slot in range(MEMBERS) if self.clock._read(slot)[0]]
        self._wake(woken)

    def _wake(self, slots: list[int]) -> None:
        for slot in slots:
            # A full socket means that a wake-up is already waiting there.
            with contextlib.suppress(OSError):
                self._bell.sendto(b"!", self._address(slot))

    def leave(self) -> None:
        """Take part no longer; what this member held is released."""
        if self._bell.fileno() < 0:
            return
        with self.clock._locked():
            self.clock._write(self._slot, _ABSENT)
        self._bell.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._address(self._slot))

    def _address(self, slot: int) -> str:
        return str(self.clock.folder / f"{slot}.bell")
