"""Open-loop load inside a Locust User: requests leave when they are due, answered or not."""

from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.stats import CSV_STATS_INTERVAL_SEC

import contextlib
import functools
import gc
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gevent

from bench.arrivals import due_times
from bench.clock import Clock
from bench.config import read_experiment, scenario_path
from bench.errors import INVALID, ConfigError, WeighbridgeError
from bench.events import EventLog
from bench.plan import Plan, plan_from_environment
from bench.process import die_with_parent
from bench.record import Records
from scenarios.client import open_client
from scenarios.outcome import Outcome
from scenarios.pacer import Pacer
from scenarios.recorder import Recorder
from scenarios.tally import Tally

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
START_DELAY_S = 0.5
"""Between the User's start and the first moment of the schedule."""
FLUSH_INTERVAL_S = 1.0
GARBAGE_MAX = 200_000
"""So many objects may wait for a collection; the direct client leaves none behind."""

if "WEIGHBRIDGE_PARENT_PID" in os.environ:
    die_with_parent(int(os.environ["WEIGHBRIDGE_PARENT_PID"]))


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

    @task
    def send_schedule(self) -> None:
        """Send everything, wait for the last answer, end the test."""
        try:
            plan = plan_from_environment() or _plan_from_options(self.environment, self.scenario)
            with contextlib.closing(Engine(plan, self.environment)) as engine:
                engine.run()
            self._let_locust_write()
        except WeighbridgeError as error:
            log.error("%s", error)
            self.environment.process_exit_code = error.exit_code
        except Exception:
            # Locust would start the task again; half a schedule sent twice is no measurement.
            log.exception("the load could not be sent")
            self.environment.process_exit_code = INVALID
        # Not from this greenlet: stopping the runner kills it.
        gevent.spawn(self.environment.runner.quit)
        gevent.sleep(60)

    def _let_locust_write(self) -> None:
        """Locust writes its CSV files once a second, and not when it ends."""
        options = self.environment.parsed_options
        if options is not None and options.csv_prefix:
            gevent.sleep(CSV_STATS_INTERVAL_SEC * 1.1)


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

    def __init__(self, plan: Plan, environment: Environment) -> None:
        workload = plan.workload
        self._workload = workload
        self._due_s = due_times(workload.arrivals, workload.duration_s, workload.seed).tolist()
        bodies = [Path(path).read_bytes() for path in plan.payloads]
        self._body_bytes = [len(body) for body in bodies]
        self._tally = Tally(
            environment, plan.url.rsplit("/endpoints/", 1)[-1].removesuffix("/invocations")
        )
        self._recorder = Recorder(plan.records, self._count)
        self._start_s = 0.0
        self._open = 0
        # What is opened here is closed last first, also when the rest cannot be opened.
        with contextlib.ExitStack() as stack:
            self._events = EventLog(Path(plan.events) if plan.events else None)
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
            self._client = open_client(plan.url, workload, bodies, self._clock.now)
            stack.callback(self._client.close)
            self._resources = stack.pop_all()

    def run(self) -> None:
        """Send what is due when it is due; returns when the schedule and its answers are over."""
        with _without_collections():
            flusher = gevent.spawn(self._flush_regularly)
            cpu_s, real_s = time.process_time(), time.monotonic()
            self._send_schedule()
            while self._open:
                gevent.sleep(0.01)
            flusher.kill()
        self._events.write(
            "phase",
            self._clock.now(),
            name="end",
            generator_cpu_s=round(time.process_time() - cpu_s, 6),
            real_s=round(time.monotonic() - real_s, 6),
        )

    def close(self) -> None:
        """Write what is noted, also after an interruption."""
        with self._resources:
            self._recorder.flush()
            self._tally.close()

    def _send_schedule(self) -> None:
        self._start_s = start_s = self._clock.now() + START_DELAY_S
        self._events.write("phase", start_s, name="load")
        ends_s = [start_s + due_s for due_s in (*self._due_s, self._workload.duration_s)]
        self._member.update(work=-1, next_s=ends_s[0])
        for seq, due_s in enumerate(self._due_s):
            self._pacer.wait_until(ends_s[seq])
            self._dispatch(seq, due_s, next_s=ends_s[seq + 1])
        self._pacer.wait_until(ends_s[-1])
        self._member.update(next_s=math.inf)

    def _dispatch(self, seq: int, due_s: float, next_s: float) -> None:
        if self._open >= self._workload.max_in_flight:
            self._member.update(next_s=next_s)
            self._note(seq, due_s, Outcome(self._clock.now(), error="Dropped"))
            return
        self._open += 1
        self._member.update(awaiting=1, next_s=next_s)
        body = seq % len(self._body_bytes)
        self._client.send(body, functools.partial(self._answered, seq, due_s))

    def _answered(self, seq: int, due_s: float, outcome: Outcome) -> None:
        self._note(seq, due_s, outcome)
        self._open -= 1
        self._member.update(awaiting=-1)

    def _note(self, seq: int, due_s: float, outcome: Outcome) -> None:
        request_bytes = self._body_bytes[seq % len(self._body_bytes)]
        self._recorder.add(seq, due_s, self._start_s, request_bytes, outcome)

    def _count(self, records: Records) -> None:
        self._tally.add(records, self._clock.now() - self._start_s)

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
