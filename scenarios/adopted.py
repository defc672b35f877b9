"""Records what the users of somebody's own Locust file do; Locust loads it beside that file.

They decide when to send, so nobody knows when a request should have left: it counts as due when it
was sent.
"""

from locust import events
from locust.env import Environment

import math
import os
import time
from pathlib import Path
from typing import Any

import gevent

from bench.clock import Clock
from bench.events import EventLog
from bench.plan import Plan, plan_from_environment
from bench.process import die_with_parent
from scenarios.outcome import Outcome, error_code
from scenarios.recorder import Recorder
from scenarios.selfcheck import SelfCheck

FLUSH_INTERVAL_S = 1.0

if "WEIGHBRIDGE_PARENT_PID" in os.environ:
    die_with_parent(int(os.environ["WEIGHBRIDGE_PARENT_PID"]))


class Adoption:
    """Turns Locust's events into records, from the start of the test to its end."""

    def __init__(self, plan: Plan, environment: Environment) -> None:
        self._duration_s = plan.workload.duration_s
        self._environment = environment
        self._recorder = Recorder(plan.records, lambda _: None)
        self._events = EventLog(Path(plan.events) if plan.events else None)
        assert plan.clock is not None, "a measurement has a clock"
        self._clock = Clock(Path(plan.clock))
        self._start_s = math.nan
        self._check: SelfCheck | None = None
        self._seq = 0

    def start(self, **_: Any) -> None:
        """The users are about to begin; they end after the workload's duration."""
        self._start_s = self._clock.now()
        self._events.write("phase", self._start_s, name="load")
        self._check = SelfCheck()
        gevent.spawn(self._flush_regularly)
        runner = self._environment.runner
        assert runner is not None, "the test starts on it"
        gevent.spawn_later(self._duration_s, runner.quit)

    def note(self, response_time: float, exception: BaseException | None, **rest: Any) -> None:
        """One request has come to an end."""
        now_s, taken_s = self._clock.now(), float(response_time or 0.0) / 1000
        # A response under a user's own judgement is told of when that is passed, which is later.
        sent_s = now_s - max(taken_s, time.time() - rest.get("start_time", math.inf))
        response = rest.get("response")
        headers = getattr(response, "headers", None) or {}
        status = int(getattr(response, "status_code", 0) or 0)
        error = ""
        if exception is not None:
            code = str(headers.get("x-amzn-errortype", ""))
            error = (error_code(status, code) if status else "") or type(exception).__name__
        elapsed = getattr(response, "elapsed", None)  # until the headers were read
        outcome = Outcome(
            sent_s + taken_s,
            sent_s,
            sent_s + elapsed.total_seconds() if elapsed is not None else math.nan,
            status or (0 if error else 200),
            error,
            str(headers.get("server-timing", "")),
            int(rest.get("response_length") or 0),
        )
        self._recorder.add(
            self._seq, sent_s - self._start_s, self._start_s, _request_bytes(response), outcome
        )
        self._seq += 1

    def end(self, **_: Any) -> None:
        """All users have ended."""
        self._recorder.flush()
        self._events.write("phase", self._clock.now(), name="end")
        if self._check is not None:
            # What was still under way when Locust's patience ended is not told of.
            counts = {"scheduled": self._seq, "sent": self._seq, "dropped": 0}
            counts |= {"unsent": 0, "in_flight": 0}
            self._events.write("selfcheck", self._clock.now(), **counts, **self._check.stop())

    def _flush_regularly(self) -> None:
        while True:
            gevent.sleep(FLUSH_INTERVAL_S)
            self._recorder.flush()


def _request_bytes(response: Any) -> int:
    """As far as the client tells: requests and geventhttpclient keep what they have sent."""
    request = getattr(response, "request", None)
    body = getattr(request, "body", None) or getattr(request, "payload", None)
    return len(body) if isinstance(body, bytes | str | bytearray) else 0


@events.init.add_listener  # type: ignore[untyped-decorator]
def _adopt(environment: Environment, **_: Any) -> None:
    plan = plan_from_environment()
    assert plan is not None, "only a measurement loads this file"
    adoption = Adoption(plan, environment)
    listen: Any = environment.events
    listen.test_start.add_listener(adoption.start)
    listen.request.add_listener(adoption.note)
    listen.test_stop.add_listener(adoption.end)
