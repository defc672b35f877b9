"""Open-loop load inside a Locust User: requests leave when they are due, answered or not."""

from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

import contextlib
import functools
import gc
import itertools
import logging
import math
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent

from bench.clock import Clock
from bench.config import read_experiment, scenario_path
from bench.errors import INVALID, ConfigError, WeighbridgeError
from bench.events import EventLog
from bench.loops import Closed
from bench.plan import Plan, plan_from_environment
from bench.process import die_with_parent
from bench.record import Records
from scenarios import buckets
from scenarios.bodies import bodies_of
from scenarios.client import open_client
from scenarios.closed import ClosedLoop
from scenarios.master import Master
from scenarios.outcome import Outcome
from scenarios.pacer import Pacer
from scenarios.recorder import Recorder
from scenarios.schedule import schedule_of
from scenarios.selfcheck import SelfCheck, timer_floor
from scenarios.tally import Tally
from scenarios.worker import Part, Worker

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
HOUR_S = 3600.0
START_DELAY_S = 0.5
"""Between the User's start and the first moment of the schedule."""
FLUSH_INTERVAL_S = 1.0
GARBAGE_MAX = 200_000
"""So many objects may wait for a collection; the direct client leaves none behind."""

if "WEIGHBRIDGE_PARENT_PID" in os.environ:
    die_with_parent(int(os.environ["WEIGHBRIDGE_PARENT_PID"]))
buckets.install()


@events.init.add_listener  # type: ignore[untyped-decorator]
def _end_quietly_on_interrupt(**_: Any) -> None:
    """Hand Ctrl-C to the main greenlet, where Locust expects it.

    Python would raise KeyboardInterrupt in whatever runs, and gevent prints the traceback of that.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    hub = gevent.get_hub()

    def interrupt() -> None:
        watcher.cancel()  # a second Ctrl-C ends the process at once
        hub.loop.run_callback(hub.parent.throw, KeyboardInterrupt)

    watcher = gevent.signal_handler(signal.SIGINT, interrupt)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _join_others(environment: Environment, **_: Any) -> None:
    """With several processes, one User on each worker, led by the master."""
    runner = environment.runner
    scenarios = [each for each in environment.user_classes if issubclass(each, OpenLoopUser)]
    if not isinstance(runner, MasterRunner | WorkerRunner) or not scenarios:
        return
    for each in scenarios:
        each.fixed_count = 0  # which counts over all workers, where one is wanted on each
    if isinstance(runner, WorkerRunner):
        OpenLoopUser.worker = Worker(runner)
        if "WEIGHBRIDGE_PARENT_PID" in os.environ:
            die_with_parent(os.getppid())  # a forked process has not inherited this
        return
    Master(
        environment,
        lambda: plan_from_environment() or _plan_from_options(environment, scenarios[0].scenario),
        lambda: end_test(environment),
    )


def end_test(environment: Environment) -> None:
    """Let Locust write its files, and end the test; under the web page another may follow."""
    options, runner = environment.parsed_options, environment.runner
    assert runner is not None, "a test has a runner"
    if options is not None and options.csv_prefix:
        # Locust writes its CSV files once a second, and not when it ends.
        gevent.sleep(CSV_STATS_INTERVAL_SEC * 1.1)
    # Not from this greenlet, which may be one of those that are killed.
    gevent.spawn(runner.stop if environment.web_ui else runner.quit)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("Weighbridge")
    group.add_argument("--endpoint", default="digits-realtime", help="Name of the endpoint")
    group.add_argument("--payload", default=str(HERE / "payloads"), help="File or folder to send")
    group.add_argument("--set", action="append", default=[], help="key=value of the workload")
    group.add_argument("--records", default=None, help="File for one packed record a request")


class OpenLoopUser(User):
    """One User that sends a whole schedule. Locust's number of users does not matter."""

    abstract = True
    fixed_count = 1
    scenario = ""
    """Name of the TOML file with the workload, for plain ``locust -f``."""

    worker: Worker | None = None
    """The way to the master, when this process is one of Locust's workers."""

    @task
    def send_schedule(self) -> None:
        """Send everything, wait for the last answer, end the test."""
        try:
            plan = plan_from_environment() or _plan_from_options(self.environment, self.scenario)
            if self.worker is not None:
                self._send_part(self.worker, plan)
                return
            with contextlib.closing(Engine(plan, self.environment)) as engine:
                engine.run()
        except WeighbridgeError as error:
            log.error("%s", error)
            self._failed(str(error), error.exit_code)
        except Exception as error:
            # Locust would start the task again; half a schedule sent twice is no measurement.
            log.exception("the load could not be sent")
            self._failed(f"{type(error).__name__}: {error}", INVALID)
        if self.worker is None:
            end_test(self.environment)
        gevent.sleep(HOUR_S)

    def _send_part(self, worker: Worker, plan: Plan) -> None:
        """Send what the master deals, then wait for it to end the test."""
        part = worker.part(stop=gevent.getcurrent().kill)
        with contextlib.closing(Engine(plan, self.environment, Share(part, worker))) as engine:
            engine.run()
        gevent.sleep(HOUR_S)

    def _failed(self, reason: str, exit_code: int) -> None:
        self.environment.process_exit_code = exit_code
        if self.worker is not None:
            self.worker.done({"failed": reason})


@dataclass(frozen=True)
class Share:
    """What a worker sends of the whole, and the way to the master."""

    part: Part
    worker: Worker


def _plan_from_options(environment: Environment, scenario: str) -> Plan:
    """The plan under plain ``locust -f``: the scenario's own workload on ``--host``."""
    options = environment.parsed_options
    assert options is not None, "Locust parses the command line before it starts a user"
    if not environment.host:
        raise ConfigError("Name the server: --host http://127.0.0.1:8080.")
    workload = read_experiment(scenario_path(scenario, HERE), options.set, HERE).workload
    source = Path(options.payload)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    return Plan(
        workload,
        url=f"{environment.host.rstrip('/')}/endpoints/{options.endpoint}/invocations",
        payloads=[str(file) for file in files],
        records=options.records,
    )


class Engine:
    """Sends one plan and notes every request."""

    def __init__(self, plan: Plan, environment: Environment, share: Share | None = None) -> None:
        workload = plan.workload
        self._workload = workload
        self._share = share
        number, of = (share.part.number, share.part.of) if share else (0, 1)
        self._schedule = schedule_of(workload).part(number, of)
        self._max_in_flight = max(1, workload.max_in_flight // of)
        self._tally = Tally(environment, plan.url.rsplit("/endpoints/", 1)[-1].rsplit("/", 1)[0])
        self._recorder = Recorder(None if share else plan.records, self._count)
        self._start_s = 0.0
        self._open = self._sent = self._dropped = 0
        # In a closed loop nothing is left unsent: the next request is due after an answer.
        self._unsent = 0 if isinstance(workload.arrivals, Closed) else len(self._schedule)
        self._check: SelfCheck | None = None
        self._loop: ClosedLoop | None = None
        self._sending = False
        self._broken: Exception | None = None
        # What is opened here is closed last first, also when the rest cannot be opened.
        with contextlib.ExitStack() as stack:
            # The master of several processes writes the events.
            self._events = EventLog(Path(plan.events) if plan.events and not share else None)
            stack.callback(self._events.close)
            if plan.clock is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="weighbridge-"))
                self._clock = Clock.create(Path(folder), False)
            else:
                self._clock = Clock(Path(plan.clock))
            self._member = self._clock.join(self._events)
            stack.callback(self._member.leave)
            self._member.update(work=1)
            self._pacer = Pacer(self._clock, self._member)
            stack.callback(self._pacer.close)
            self._floor = timer_floor()
            self._bodies = stack.enter_context(bodies_of(plan))
            self._client = open_client(plan, self._bodies, self._clock.now)
            stack.callback(self._client.close)
            self._resources = stack.pop_all()

    def run(self) -> None:
        """Send what is due when it is due; returns when the schedule and its answers are over."""
        with _without_collections():
            flusher = gevent.spawn(self._flush_regularly)
            self._check = SelfCheck()
            try:
                self._send_all()
                while self._open:
                    gevent.sleep(0.01)
            finally:
                flusher.kill(block=False)
        self._events.write("phase", self._clock.now(), name="end")

    def close(self) -> None:
        """Write what is noted and how it was measured, also after an interruption."""
        with self._resources:
            self._recorder.flush()
            if self._check is not None:
                report = self._report(self._check)
                self._events.write("selfcheck", self._clock.now(), **report)
                if self._share is not None:
                    self._share.worker.done(report)
            self._tally.close()

    def _report(self, check: SelfCheck) -> dict[str, Any]:
        # In a closed loop there were as many requests to send as became due.
        closed = isinstance(self._workload.arrivals, Closed)
        return {
            "scheduled": self._sent + self._dropped if closed else len(self._schedule),
            "sent": self._sent,
            "dropped": self._dropped,
            "unsent": self._unsent,
            "in_flight": self._open,
            **self._floor,
            **check.stop(),
        }

    def _first_moment_s(self) -> float:
        """The zero of the schedule, on the clock."""
        if self._share is None:
            return self._clock.now() + START_DELAY_S
        ahead_s = self._clock.now() - time.monotonic()
        return self._share.worker.start_s() + ahead_s

    def _send_all(self) -> None:
        self._start_s = self._first_moment_s()
        self._events.write("phase", self._start_s, name="load")
        if isinstance(self._workload.arrivals, Closed):
            number, of = (self._share.part.number, self._share.part.of) if self._share else (0, 1)
            self._loop = ClosedLoop(self._workload.arrivals, self._workload, number, of)
            self._send_in_loop(self._loop, self._workload.duration_s)
            self._loop = None
        else:
            self._send_schedule(self._start_s)
        self._member.update(next_s=math.inf)

    def _send_in_loop(self, loop: ClosedLoop, duration_s: float) -> None:
        self._member.update(work=-1, next_s=self._next_in_loop_s(loop))
        while self._pacer.wait_for(lambda: self._next_in_loop_s(loop)) < self._start_s + duration_s:
            self._send_from(loop)

    def _next_in_loop_s(self, loop: ClosedLoop) -> float:
        if self._broken is not None:
            raise self._broken
        return self._start_s + min(loop.next_s, self._workload.duration_s)

    def _send_from(self, loop: ClosedLoop) -> None:
        self._sending = True
        try:
            seq, due_s = loop.take()
            self._dispatch(seq, due_s, next_s=self._next_in_loop_s(loop))
        finally:
            self._sending = False

    def _send_schedule(self, start_s: float) -> None:
        due_s, end_s = self._schedule.due_s, start_s + self._workload.duration_s
        self._member.update(work=-1, next_s=start_s + due_s[0] if due_s else end_s)
        following = itertools.chain(itertools.islice(due_s, 1, None), [self._workload.duration_s])
        for seq, now_due_s, next_due_s in zip(self._schedule.seqs, due_s, following, strict=False):
            self._pacer.wait_until(start_s + now_due_s)
            self._unsent -= 1
            self._dispatch(seq, now_due_s, next_s=start_s + next_due_s)
        self._pacer.wait_until(end_s)

    def _dispatch(self, seq: int, due_s: float, next_s: float) -> None:
        body = self._bodies.body_of(seq)
        if self._open >= self._max_in_flight:
            self._dropped += 1
            self._member.update(next_s=next_s)
            self._note(seq, due_s, body, Outcome(self._clock.now(), error="Dropped"))
            return
        self._open += 1
        self._sent += 1
        self._member.update(awaiting=1, next_s=next_s)
        self._client.send(body, functools.partial(self._answered, seq, due_s, body))

    def _answered(self, seq: int, due_s: float, body: int, outcome: Outcome) -> None:
        self._note(seq, due_s, body, outcome)
        self._open -= 1
        if self._loop is None:
            self._member.update(awaiting=-1)
        else:
            self._answered_in_loop(self._loop, seq, outcome.done_s - self._start_s)

    def _answered_in_loop(self, loop: ClosedLoop, seq: int, done_s: float) -> None:
        loop.answered(seq, done_s)
        self._member.update(awaiting=-1, next_s=self._next_in_loop_s(loop))
        # Who does not think sends at once, without a turn of the greenlet that waits; but not
        # from within a request that failed while it was sent, and so without end.
        if self._sending or loop.next_s > done_s:
            self._pacer.wake()
            return
        try:
            self._send_from(loop)
        except Exception as error:
            self._broken = error  # which ends the greenlet that waits, too
            self._pacer.wake()
            raise

    def _note(self, seq: int, due_s: float, body: int, outcome: Outcome) -> None:
        self._recorder.add(seq, due_s, self._start_s, self._bodies.size(body), outcome)

    def _count(self, records: Records) -> None:
        self._tally.add(records, self._clock.now() - self._start_s)
        if self._share is not None:
            self._share.worker.records(records.tobytes())

    def _flush_regularly(self) -> None:
        while True:
            gevent.sleep(FLUSH_INTERVAL_S)
            self._recorder.flush()
            if gc.get_count()[0] > GARBAGE_MAX:
                gc.collect()


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """No pause for garbage while it is measured; with Locust loaded one takes 50 ms."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
