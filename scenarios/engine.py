"""Open-loop load inside a Locust User: requests leave when they are due, answered or not."""

from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

import contextlib
import logging
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.select
import numpy as np

from bench.arrivals import due_times
from bench.clock import Clock
from bench.config import read_experiment, scenario_path
from bench.errors import INVALID, ConfigError, WeighbridgeError
from bench.events import EventLog
from bench.plan import Plan, plan_from_environment
from bench.process import die_with_parent
from bench.record import RECORD
from scenarios.client import Client, Outcome

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
START_DELAY_S = 0.5
"""Between the User's start and the first moment of the schedule."""
FLUSH_INTERVAL_S = 1.0

if "WEIGHBRIDGE_PARENT_PID" in os.environ:
    die_with_parent(int(os.environ["WEIGHBRIDGE_PARENT_PID"]))


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("Weighbridge")
    group.add_argument("--endpoint", default="digits-realtime", help="Name of the endpoint")
    group.add_argument("--payload", default=str(HERE / "payloads"), help="File or folder to send")
    group.add_argument("--set", action="append", default=[], help="key=value of the workload")
    group.add_argument("--records", default=None, help="File for one packed record a request")


PARTS = ("model", "overhead", "wait", "setup", "placement")
"""The metrics of Server-Timing that a record keeps, in the order of its fields."""


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
        self._environment = environment
        self._name = plan.url.rsplit("/endpoints/", 1)[-1].removesuffix("/invocations")
        self._due_s = due_times(workload.arrivals, workload.duration_s, workload.seed)
        self._bodies = [Path(path).read_bytes() for path in plan.payloads]
        self._client = Client(plan.url, workload)
        self._records = Recorder(plan.records)
        self._events = EventLog(Path(plan.events) if plan.events else None)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if plan.clock is None:
            self._folder = tempfile.TemporaryDirectory(prefix="weighbridge-")
            self._clock = Clock.create(Path(self._folder.name), False)
        else:
            self._clock = Clock(Path(plan.clock))
        self._member = self._clock.join(self._events)
        self._member.update(work=1)
        self._start_s = 0.0
        self._open = 0

    def run(self) -> None:
        """Send what is due when it is due; returns when the schedule and its answers are over."""
        flusher = gevent.spawn(self._flush_regularly)
        cpu_s, real_s = time.process_time(), time.monotonic()
        self._start_s = self._clock.now() + START_DELAY_S
        self._events.write("phase", self._start_s, name="load")
        ends = np.append(self._due_s, self._workload.duration_s) + self._start_s
        self._member.update(work=-1, next_s=float(ends[0]))
        for seq, due_s in enumerate(self._due_s):
            self._wait_until(self._start_s + due_s)
            self._dispatch(seq, float(due_s), next_s=float(ends[seq + 1]))
        self._wait_until(float(ends[-1]))
        self._member.update(next_s=math.inf)
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
        self._records.flush()
        self._member.leave()
        self._events.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _wait_until(self, when_s: float) -> None:
        while (wait_s := when_s - self._clock.now()) > 0:
            # Another process may turn the clock meanwhile; then the socket is readable.
            readable, _, _ = gevent.select.select([self._member], [], [], wait_s)
            if readable:
                self._member.drain()

    def _dispatch(self, seq: int, due_s: float, next_s: float) -> None:
        if self._open >= self._workload.max_in_flight:
            self._member.update(next_s=next_s)
            self._note(seq, due_s, math.nan, Outcome(done_s=self._clock.now(), error="Dropped"))
            return
        self._open += 1
        self._member.update(awaiting=1, next_s=next_s)
        gevent.spawn(self._send, seq, due_s)

    def _send(self, seq: int, due_s: float) -> None:
        sent_s = self._clock.now()
        outcome = self._client.post(self._bodies[seq % len(self._bodies)], self._clock.now)
        self._note(seq, due_s, sent_s, outcome)
        self._open -= 1
        self._member.update(awaiting=-1)

    def _note(self, seq: int, due_s: float, sent_s: float, outcome: Outcome) -> None:
        start_s = self._start_s
        done_s = outcome.done_s - start_s
        timing = outcome.timing
        self._records.add(
            (
                seq,
                due_s,
                sent_s - start_s,
                outcome.first_byte_s - start_s,
                done_s,
                outcome.status,
                outcome.error.encode()[:40],
                "setup" in timing,
                outcome.instance.encode()[:24],
                *(timing.get(part, math.nan) for part in PARTS),
                0 if math.isnan(sent_s) else len(self._bodies[seq % len(self._bodies)]),
                outcome.response_bytes,
            )
        )
        self._environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type="POST",
            name=self._name,
            response_time=(done_s - due_s) * 1000,
            response_length=outcome.response_bytes,
            exception=RequestFailed(outcome.error) if outcome.error else None,
            context={},
        )

    def _flush_regularly(self) -> None:
        while True:
            gevent.sleep(FLUSH_INTERVAL_S)
            self._records.flush()


class RequestFailed(Exception):
    """The error code of a request that was not answered as it should be, for Locust's tables."""


class Recorder:
    """Appends packed records to a file, in batches; without a file it keeps nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._batch: list[tuple[Any, ...]] = []

    def add(self, record: tuple[Any, ...]) -> None:
        if self._path is not None:
            self._batch.append(record)

    def flush(self) -> None:
        batch, self._batch = self._batch, []
        if batch and self._path is not None:
            with open(self._path, "ab") as file:
                file.write(np.array(batch, dtype=RECORD).tobytes())
