"""One schedule dealt out to Locust's workers, a common start, and their records brought together.

    worker   hello ─▶                ready ─▶            records ─▶ …  done ─▶
    master            ◀─ part i of n         ping, go ◀─

The master sends nothing itself. It never moves a part to another worker: a worker that is lost
takes its part with it, and the run is invalid.
"""

from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gevent

from bench.errors import INVALID
from bench.events import EventLog
from bench.loops import Closed
from bench.plan import Plan
from bench.record import read_records
from scenarios.schedule import schedule_of
from scenarios.worker import DONE, GO, HELLO, PART, PING, PONG, READY, RECORDS, STOP, Part, Report

log = logging.getLogger(__name__)

HELLO_S, READY_S, LAST_WORDS_S = 30.0, 120.0, 3.0
PINGS = 20
GO_DELAY_S = 0.5
LOOK_S = 0.1


@dataclass
class _Seat:
    """What the master knows of one worker."""

    part: Part
    ready: bool = False
    ahead_s: float = math.nan
    """How far the worker's monotonic clock is ahead of the master's; zero on one machine."""
    round_trip_s: float = math.inf
    sent: int = 0
    dropped: int = 0
    report: Report | None = None
    lost: str = ""

    @property
    def over(self) -> bool:
        return self.report is not None or bool(self.lost)


@dataclass
class _Test:
    """One test from start to stop; the web page may start several."""

    plan: Plan
    scheduled: int
    seats: dict[str, _Seat] = field(default_factory=dict)
    start_s: float = math.nan
    closed: bool = False


class Master:
    """The master's side. ``finished`` is called when every worker is done or lost."""

    def __init__(
        self,
        environment: Environment,
        plan: Callable[[], Plan],
        finished: Callable[[], None],
    ) -> None:
        assert isinstance(environment.runner, MasterRunner)
        self._environment = environment
        self._runner: MasterRunner = environment.runner
        self._plan = plan
        self._finished = finished
        self._hellos: list[str] = []
        self._test: _Test | None = None
        for name, listener in (
            (HELLO, self._said_hello),
            (READY, self._is_ready),
            (PONG, self._ponged),
            (RECORDS, self._sent_records),
            (DONE, self._is_done),
        ):
            self._runner.custom_messages[name] = (listener, False)
        hooks = environment.events
        hooks.test_start.add_listener(lambda **_: self._begin())  # type: ignore[no-untyped-call]
        hooks.test_stopping.add_listener(lambda **_: self._stop())  # type: ignore[no-untyped-call]

    def _begin(self) -> None:
        self._hellos.clear()
        self._test = None
        gevent.spawn(self._lead)

    def _lead(self) -> None:
        try:
            plan = self._plan()
            self._test = test = _Test(plan, len(schedule_of(plan.workload)))
            self._gather(test)
            self._deal(test)
            self._go(test)
            self._wait(lambda: all(seat.over for seat in test.seats.values()), math.inf)
        except Exception:
            log.exception("the load could not be led")
            self._environment.process_exit_code = INVALID
        self._close()
        self._finished()

    def _gather(self, test: _Test) -> None:
        """Wait until every worker that was given a User has said hello."""
        wanted = max(1, min(self._runner.target_user_count, self._runner.worker_count))
        if wanted < self._runner.worker_count:
            log.warning(
                "Only %d of %d workers take part: give --users %d to use all.",
                *(wanted, self._runner.worker_count, self._runner.worker_count),
            )
        self._wait(lambda: len(self._hellos) >= wanted, HELLO_S)
        for number, name in enumerate(self._hellos):
            test.seats[name] = _Seat(Part(number, len(self._hellos)))

    def _deal(self, test: _Test) -> None:
        for name, seat in test.seats.items():
            self._runner.send_message(PART, asdict(seat.part), name)
        self._wait(lambda: all(seat.ready or seat.over for seat in test.seats.values()), READY_S)
        for seat in test.seats.values():
            if not seat.ready and not seat.over:
                seat.lost = f"was not ready within {READY_S:g} s"

    def _go(self, test: _Test) -> None:
        """A common start, in each machine's own time."""
        seats = {name: seat for name, seat in test.seats.items() if not seat.over}
        for _ in range(PINGS):
            for name in seats:
                self._runner.send_message(PING, {"mine_s": time.monotonic()}, name)
            gevent.sleep(0.01)
        self._wait(lambda: all(math.isfinite(s.ahead_s) or s.over for s in seats.values()), READY_S)
        test.start_s = time.monotonic() + GO_DELAY_S
        for name, seat in seats.items():
            self._runner.send_message(GO, {"start_s": test.start_s + seat.ahead_s}, name)
        self._write(test, "phase", test.start_s, name="load", workers=len(test.seats))

    def _wait(self, over: Callable[[], bool], longest_s: float) -> None:
        end_s = time.monotonic() + longest_s
        while not over() and time.monotonic() < end_s:
            self._look_for_lost()
            gevent.sleep(LOOK_S)

    def _look_for_lost(self) -> None:
        for name, seat in self._test.seats.items() if self._test else ():
            client = self._runner.clients.get(name)
            if not seat.over and (client is None or client.state == STATE_MISSING):
                seat.lost = "ended or no longer answers"
                log.error(
                    "Worker %d %s: its part of the load is lost.", seat.part.number, seat.lost
                )

    def _stop(self) -> None:
        """The test is stopped from outside: let the workers hand over what they have."""
        test = self._test
        if test is None or test.closed:
            return
        for name, seat in test.seats.items():
            if not seat.over:
                self._runner.send_message(STOP, None, name)
        self._wait(lambda: all(seat.over for seat in test.seats.values()), LAST_WORDS_S)
        self._close()

    def _close(self) -> None:
        """Write what the workers saw of themselves, once."""
        test = self._test
        if test is None or test.closed:
            return
        test.closed = True
        whole = bool(test.seats) and all(_is_whole(seat) for seat in test.seats.values())
        if whole:
            self._write(test, "phase", time.monotonic(), name="end")
        else:
            self._environment.process_exit_code = INVALID
        self._write(test, "selfcheck", time.monotonic(), **_merged(test))

    def _write(self, test: _Test, kind: str, at_s: float, **fields: Any) -> None:
        if test.plan.events:
            with contextlib.closing(EventLog(Path(test.plan.events))) as events:
                events.write(kind, at_s, **fields)

    def _seat(self, msg: Any) -> _Seat | None:
        return self._test.seats.get(msg.node_id) if self._test else None

    def _said_hello(self, msg: Any, **_: Any) -> None:
        if msg.node_id not in self._hellos and not (self._test and self._test.seats):
            self._hellos.append(msg.node_id)

    def _is_ready(self, msg: Any, **_: Any) -> None:
        if seat := self._seat(msg):
            seat.ready = True

    def _ponged(self, msg: Any, **_: Any) -> None:
        seat, now_s = self._seat(msg), time.monotonic()
        then_s, theirs_s = msg.data["mine_s"], msg.data["theirs_s"]
        if seat and now_s - then_s < seat.round_trip_s:
            seat.round_trip_s = now_s - then_s
            seat.ahead_s = theirs_s - (then_s + now_s) / 2

    def _sent_records(self, msg: Any, **_: Any) -> None:
        seat = self._seat(msg)
        if seat is None or self._test is None:
            return
        records = read_records(msg.data["packed"])
        dropped = int((records["sent_s"] != records["sent_s"]).sum())
        seat.dropped += dropped
        seat.sent += len(records) - dropped
        if self._test.plan.records is not None:
            with open(self._test.plan.records, "ab") as file:
                file.write(records.tobytes())

    def _is_done(self, msg: Any, **_: Any) -> None:
        if seat := self._seat(msg):
            seat.report = msg.data
            if reason := msg.data.get("failed"):
                seat.lost = reason


def _is_whole(seat: _Seat) -> bool:
    return seat.report is not None and not seat.lost and seat.report["unsent"] == 0


def _merged(test: _Test) -> Report:
    """The workers' reports in one: counts added up, of everything else the worst.

    What a lost worker had sent without its records having come is among the unsent.
    """
    seats = list(test.seats.values())
    heard = [seat.report for seat in seats if seat.report is not None and not seat.lost]
    unheard = [seat for seat in seats if seat.report is None or seat.lost]
    sent = sum(report["sent"] for report in heard) + sum(seat.sent for seat in unheard)
    dropped = sum(report["dropped"] for report in heard) + sum(seat.dropped for seat in unheard)
    # In a closed loop there were as many requests to send as became due.
    closed = isinstance(test.plan.workload.arrivals, Closed)
    scheduled = sent + dropped if closed else test.scheduled
    return {
        **_worst(heard),
        "scheduled": scheduled,
        "sent": sent,
        "dropped": dropped,
        "unsent": scheduled - sent - dropped,
        "in_flight": sum(report["in_flight"] for report in heard),
        "workers": len(seats),
        "lost_workers": [
            f"worker {seat.part.number} {seat.lost or 'did not report'}" for seat in unheard
        ],
    }


def _worst(reports: Sequence[Report]) -> Report:
    """Each measured value at its worst: how a pause of one worker shows among many."""
    names = dict.fromkeys(name for report in reports for name in report)
    values = {name: [r[name] for r in reports if r.get(name) is not None] for name in names}
    return {name: max(found) if found else None for name, found in values.items()}
