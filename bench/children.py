"""The processes that a measurement starts by name: the servers and the load generator."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import msgspec

from bench.deployment import Deployment
from bench.errors import USAGE, ConfigError, MeasurementError
from bench.loops import Users
from bench.plan import PLAN_VARIABLE, Plan

SERVERS_READY_S = 600.0
STOP_S = 45.0


class Child:
    """A process that ends when its parent does, with its output in a file."""

    def __init__(self, command: list[str], log: Path, variables: dict[str, str]) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **variables, "WEIGHBRIDGE_PARENT_PID": str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if "servers" in command else output,
                stderr=output,
                # Ctrl-C reaches this process alone, which then ends the others in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def last_lines(self, count: int = 1) -> str:
        """The end of what it wrote to its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "\n".join(lines[-count:])

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns when it is gone."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def start_servers(deployment: Deployment, folder: Path) -> Child:
    """Start the server process; `wait_for_servers` tells when it answers."""
    path = folder / "deployment.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(deployment)))
    return Child([sys.executable, "-m", "servers", str(path)], folder / "servers.log", {})


def wait_for_servers(servers: Child) -> dict[str, Any]:
    """The line that the server process prints when it listens: ``address`` and ``endpoints``.

    ConfigError with its own words when what was asked for cannot be served.
    """
    deadline = time.monotonic() + SERVERS_READY_S
    line = b""
    with selectors.DefaultSelector() as output:
        output.register(servers.output, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise MeasurementError(f"The servers were not ready in time. See {servers.log}.")
            if output.select(min(left_s, 1.0)):
                chunk = os.read(servers.output.fileno(), 65536)
                if not chunk:
                    break
                line += chunk
    if line:
        ready: dict[str, Any] = json.loads(line)
        return ready
    servers.stop()
    if servers.exit_code == USAGE:
        raise ConfigError(servers.last_lines())
    raise MeasurementError(
        f"The servers ended before they were ready (exit code {servers.exit_code}):\n"
        f"{servers.last_lines(5)}\nThe whole log is {servers.log}."
    )


def _several(workers: int) -> list[str]:
    """Locust's options for a master with ``workers`` processes, on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [
        *("--processes", str(workers), "--master-bind-host", "127.0.0.1"),
        *("--master-bind-port", port, "--master-host", "127.0.0.1", "--master-port", port),
    ]


def start_load(plan: Plan, folder: Path) -> Child:
    """Start Locust on the plan's scenario."""
    path = folder / "plan.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    scenarios = Path(__file__).parent.parent / "scenarios"
    arrivals = plan.workload.arrivals
    if isinstance(arrivals, Users):
        locustfile = f"{scenarios / 'adopted.py'},{plan.workload.scenario}"
        rate = arrivals.spawn_rate or min(arrivals.users, 100)
        options = ["--users", str(arrivals.users), "--spawn-rate", f"{rate:g}"]
        options += ["--host", plan.url.rpartition("/")[0]]
        options += ["--stop-timeout", f"{plan.workload.request_timeout_s:g}"]
    else:
        # Batch has no endpoint to send to: the requests of any scenario are gathered into jobs.
        locustfile = str(scenarios / f"{'gathered' if plan.batch else plan.workload.scenario}.py")
        options = ["--users", str(plan.workers)]
        options += _several(plan.workers) if plan.workers > 1 else []
    command = [sys.executable, "-m", "locust", "-f", locustfile, "--headless", *options]
    command += ["--exit-code-on-error", "0", "--skip-log-setup"]
    return Child(command, folder / "locust.log", {PLAN_VARIABLE: str(path)})
