"""One measurement: a target served, a workload sent to it, everything noted in a run folder."""

import contextlib
import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from bench.arrivals import due_times
from bench.children import Child, start_load, start_servers, wait_for_servers
from bench.clock import Clock
from bench.deployment import Deployment, Endpoint
from bench.errors import ConfigError, MeasurementError
from bench.machine import machine, tool
from bench.plan import Plan
from bench.raw import Tail, finish, load_start_s, read_events
from bench.record import Records
from bench.replay import Replay
from bench.run import SCHEMA_VERSION, Run, read_run, write_json
from bench.sampler import Sampler
from bench.target import Target, mode_of
from bench.workload import Workload

SAMPLE_INTERVAL_S = 1.0
FREE_BYTES_NEEDED = 200 * 10**6

Samples = list[tuple[float, ...]]


@dataclass(frozen=True)
class Model:
    """What is served: a model archive or folder, with its fingerprint."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Order:
    """All that one measurement is made from."""

    workload: Workload
    target: Target
    model: Model
    payloads: list[Path]
    command: str


class Watcher(Protocol):
    """Told how a measurement goes."""

    def phase(self, mode: str, text: str) -> None: ...
    def live(self, at_s: float, new: Records) -> None: ...


def measure(order: Order, folder: Path, watcher: Watcher) -> Run:
    """Carry out ``order`` in the new ``folder``.

    Whatever ends it early, all processes are stopped and what was recorded is kept; an
    interruption (KeyboardInterrupt) is passed on afterwards.
    """
    check_disk(folder.parent)
    folder.mkdir(parents=True)
    manifest = _manifest(order)
    write_json(folder / "manifest.json", manifest)
    samples: Samples = []
    try:
        _measure(order, folder, manifest, watcher, samples)
        manifest["status"] = "finished"
    except KeyboardInterrupt:
        manifest["status"] = "interrupted"
        raise
    except BaseException:
        manifest["status"] = "failed"
        raise
    finally:
        manifest["load"].update(finish(folder, samples, order.workload.duration_s))
        manifest["ended_at"] = _utc_now()
        write_json(folder / "manifest.json", manifest)
    return read_run(folder)


def check_disk(folder: Path) -> None:
    """ConfigError when the disk that takes the runs is as good as full."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < FREE_BYTES_NEEDED:
        raise ConfigError(
            f"Only {free / 1e6:.0f} MB are free on the disk of {existing}; a run needs "
            f"{FREE_BYTES_NEEDED / 1e6:.0f} MB. Free some, or choose another place with --out."
        )


def _manifest(order: Order) -> dict[str, Any]:
    workload = order.workload
    sizes = [path.stat().st_size for path in order.payloads]
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": tool(),
        "status": "running",
        "mode": mode_of(order.target),
        "started_at": _utc_now(),
        "ended_at": None,
        "command": order.command,
        "workload": msgspec.to_builtins(workload),
        "trace": workload.arrivals.describe() if isinstance(workload.arrivals, Replay) else None,
        "target": msgspec.to_builtins(order.target),
        "profile": [],
        "enforced": {},
        "model": {
            "name": order.model.name,
            "sha256": order.model.sha256,
            "path": str(order.model.path),
        },
        "payload": {
            "count": len(sizes),
            "mean_bytes": float(np.mean(sizes)),
            "largest_bytes": max(sizes),
            "content_type": workload.payload.content_type,
        },
        "machine": machine(),
        "load": {
            "scheduled": len(due_times(workload.arrivals, workload.duration_s, workload.seed))
        },
    }


def _measure(
    order: Order, folder: Path, manifest: dict[str, Any], watcher: Watcher, samples: Samples
) -> None:
    mode = manifest["mode"]
    with contextlib.ExitStack() as stack:
        # Not in the run's folder: a socket's path may have only about 100 characters.
        clock_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weighbridge-")))
        clock = Clock.create(clock_folder, order.workload.fast_forward)
        stack.callback(clock.close)
        watcher.phase(mode, "starting the endpoint")
        servers = start_servers(_deployment(order, folder, clock_folder), folder)
        stack.callback(servers.stop)
        ready = wait_for_servers(servers)
        manifest["profile"] = ready["endpoints"][mode]["profile"]
        manifest["enforced"] = ready["endpoints"][mode]["enforced"]
        write_json(folder / "manifest.json", manifest)
        load = start_load(_plan(order, folder, clock_folder, ready["address"]), folder)
        stack.callback(load.stop)
        sampler = Sampler(servers.pid, load.pid, ready["address"], samples)
        watcher.phase(mode, "under load")
        _watch(load, servers, _Follower(folder, clock, sampler, watcher))
        watcher.phase(mode, "stopping the endpoint")


def _deployment(order: Order, folder: Path, clock_folder: Path) -> Deployment:
    endpoint = Endpoint(mode_of(order.target), order.target, str(order.model.path.resolve()))
    return Deployment(
        [endpoint],
        seed=order.workload.seed,
        clock=str(clock_folder),
        events=str((folder / "events.jsonl").resolve()),
        log=str((folder / "instances.log").resolve()),
    )


def _plan(order: Order, folder: Path, clock_folder: Path, address: str) -> Plan:
    return Plan(
        order.workload,
        url=f"{address}/endpoints/{mode_of(order.target)}/invocations",
        payloads=[str(path.resolve()) for path in order.payloads],
        records=str((folder / "requests.bin").resolve()),
        clock=str(clock_folder),
        events=str((folder / "events.jsonl").resolve()),
    )


class _Follower:
    """Once a second: what has come, for the watcher; how things are, for the samples."""

    def __init__(self, folder: Path, clock: Clock, sampler: Sampler, watcher: Watcher) -> None:
        self._folder = folder
        self._tail = Tail(folder)
        self._clock = clock
        self._sampler = sampler
        self._watcher = watcher
        self._start_s = math.nan

    def look(self) -> None:
        new = self._tail.read()
        if math.isnan(self._start_s):
            self._start_s = load_start_s(read_events(self._folder))
        now_s = self._clock.now()
        late_s = new["sent_s"] - new["due_s"]
        late_s = late_s[~np.isnan(late_s)]
        self._sampler.take(now_s, float(late_s.max()) if len(late_s) else math.nan)
        self._watcher.live(now_s - self._start_s, new)


def _watch(load: Child, servers: Child, follower: _Follower) -> None:
    """Look once a second until the load generator ends."""
    next_s = time.monotonic() + SAMPLE_INTERVAL_S
    while load.exit_code is None:
        time.sleep(min(0.1, max(0.0, next_s - time.monotonic())))
        if time.monotonic() >= next_s:
            next_s += SAMPLE_INTERVAL_S
            follower.look()
        if servers.exit_code is not None:
            raise MeasurementError(
                f"The server process ended during the load (exit code {servers.exit_code}). "
                f"Its log is {servers.log}."
            )
    follower.look()
    if load.exit_code != 0:
        raise MeasurementError(
            f"The load generator ended with exit code {load.exit_code}:\n{load.last_lines(5)}\n"
            f"The whole log is {load.log}."
        )


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
