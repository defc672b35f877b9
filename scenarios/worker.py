"""A worker's way to the master of a load that several processes send: see `scenarios.master`."""

from locust.runners import WorkerRunner

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gevent.event import AsyncResult

HELLO, PART, READY, GO = "wb-hello", "wb-part", "wb-ready", "wb-go"
PING, PONG, RECORDS, DONE, STOP = "wb-ping", "wb-pong", "wb-records", "wb-done", "wb-stop"

Report = dict[str, Any]
"""A worker's own account: the fields of the event ``selfcheck``, or ``failed`` with the reason."""


@dataclass(frozen=True)
class Part:
    """What falls to one worker: every ``of``-th request from ``number`` on."""

    number: int
    of: int


class Worker:
    """The worker's side. Its methods are called in the order in which they stand here."""

    def __init__(self, runner: WorkerRunner) -> None:
        self._runner = runner
        self._part: AsyncResult[Part] = AsyncResult()
        self._start_s: AsyncResult[float] = AsyncResult()
        self._stop: Callable[[], object] = lambda: None
        for name, listener in (
            (PART, self._dealt),
            (PING, self._pinged),
            (GO, self._told_to_go),
            (STOP, lambda **_: self._stop()),
        ):
            runner.custom_messages[name] = (listener, False)

    def part(self, stop: Callable[[], object]) -> Part:
        """Report for duty; returns when the master has dealt. ``stop`` must end the sending."""
        self._stop = stop
        self._part, self._start_s = AsyncResult(), AsyncResult()
        self._runner.send_message(HELLO)
        part: Part = self._part.get()
        return part

    def start_s(self) -> float:
        """Say that all is open; the common start, in this machine's monotonic time."""
        self._runner.send_message(READY)
        start_s: float = self._start_s.get()
        return start_s

    def records(self, packed: bytes) -> None:
        """Hand over packed records."""
        self._runner.send_message(RECORDS, {"packed": packed})

    def done(self, report: Report) -> None:
        """Say that all is sent and answered, or why not."""
        self._runner.send_message(DONE, report)

    def _dealt(self, msg: Any, **_: Any) -> None:
        self._part.set(Part(**msg.data))

    def _told_to_go(self, msg: Any, **_: Any) -> None:
        self._start_s.set(msg.data["start_s"])

    def _pinged(self, msg: Any, **_: Any) -> None:
        self._runner.send_message(PONG, {**msg.data, "theirs_s": time.monotonic()})
