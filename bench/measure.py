"""One measurement: a target served, a workload sent to it, everything noted in a run folder."""

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pandas as pd

from bench.arrivals import scheduled_count
from bench.bodies import make_stock
from bench.children import Child, start_load, start_servers, wait_for_servers
from bench.clock import Clock, Member
from bench.deployment import Deployment, Endpoint
from bench.documents import write_json
from bench.errors import ConfigError, MeasurementError
from bench.events import EventLog
from bench.loops import Users
from bench.machine import machine, tool
from bench.metrics import DRAFT
from bench.open_inference import request_files
from bench.payload import Sizes
from bench.plan import Plan
from bench.raw import Tail, finish, load_start_s, read_events
from bench.record import Records
from bench.replay import Replay
from bench.run import SCHEMA_VERSION, Run, read_run
from bench.sampler import Sampler
from bench.stock import Stock
from bench.target import Async, Batch, Peer, Target, mode_of
from bench.workload import Workload

SAMPLE_INTERVAL_S = 1.0
FREE_BYTES_NEEDED = 200 * 10**6

_PATHS = {"async": "async-invocations"}
"""What an option's endpoint is called by, where it is not ``invocations``."""

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
    target: Target | Peer
    model: Model
    payloads: list[Path]
    command: str
    workers: int = 1
    """Processes that share the load."""
    stock: Path | None = None
    """Where the bodies are that were made of the payloads; None until they are."""


class Watcher(Protocol):
    """Told how a measurement goes."""

    def phase(self, mode: str, text: str) -> None: ...
    def expect(self, duration_s: float, scheduled: int | None) -> None: ...
    def live(self, at_s: float, new: Records) -> None: ...


@dataclass(frozen=True)
class Site:
    """A target that is being served, ready for load."""

    servers: Child
    address: str
    described: dict[str, Any]
    clock: Clock
    clock_folder: Path
    hold: Member
    """Keeps the clock from being turned until the first load begins."""


@dataclass(frozen=True)
class _Notes:
    """What a measurement adds to while it goes on."""

    folder: Path
    manifest: dict[str, Any]
    samples: Samples

    def write(self) -> None:
        write_json(self.folder / "manifest.json", self.manifest)


def measure(order: Order, folder: Path, watcher: Watcher, site: Site | None = None) -> Run:
    """Carry out ``order`` in the new ``folder``, on ``site`` or else on servers of its own.

    Whatever ends it early, all processes are stopped and what was recorded is kept; an
    interruption (KeyboardInterrupt) is passed on afterwards.
    """
    check_disk(folder.parent)
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as bodies:
        stock = _stock(order, Path(bodies))
        folder.mkdir(parents=True)
        manifest = _manifest(order, stock)
        if stock is not None:
            stock.write(Path(bodies))
            order = replace(order, stock=Path(bodies))
        return _carry_out(order, _Notes(folder, manifest, []), watcher, site)


def _carry_out(order: Order, notes: _Notes, watcher: Watcher, site: Site | None) -> Run:
    folder, manifest, samples = notes.folder, notes.manifest, notes.samples
    notes.write()
    try:
        with contextlib.nullcontext(site) if site else served(order, folder, watcher) as here:
            _send(order, notes, watcher, here)
        manifest["status"] = "finished"
    except KeyboardInterrupt:
        manifest["status"] = "interrupted"
        raise
    except BaseException:
        manifest["status"] = "failed"
        raise
    finally:
        shutil.rmtree(folder / "data", ignore_errors=True)  # objects and queues, not results
        manifest["load"].update(finish(folder, samples, order.workload.duration_s))
        _fill_in(manifest, folder)
        manifest["ended_at"] = _utc_now()
        write_json(folder / "manifest.json", manifest)
    return read_run(folder)


def _stock(order: Order, folder: Path) -> Stock | None:
    """The bodies that are sent; None where the users of a Locust file bring their own."""
    if isinstance(order.workload.arrivals, Users):
        return None
    return make_stock(order.workload, order.payloads, folder)


def _fill_in(manifest: dict[str, Any], folder: Path) -> None:
    """What only the run could tell: how many requests there were, and how large."""
    load = manifest["load"]
    if load["scheduled"] is None:
        load["scheduled"] = load["sent"] + load["dropped"]
    if manifest["payload"]["count"] == 0 and (folder / "requests.parquet").exists():
        sizes = pd.read_parquet(folder / "requests.parquet", columns=["request_bytes"])
        manifest["payload"] |= _sizes(sizes["request_bytes"].to_numpy(np.int64))


def _sizes(sizes: Sizes) -> dict[str, Any]:
    """How many different bodies there are, and how large they are on average and at most."""
    return {
        "mean_bytes": float(np.mean(sizes)) if len(sizes) else 0.0,
        "largest_bytes": int(np.max(sizes)) if len(sizes) else 0,
    }


def check_disk(folder: Path) -> None:
    """ConfigError when the disk that takes the runs is as good as full."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < FREE_BYTES_NEEDED:
        raise ConfigError(
            f"Only {free / 1e6:.0f} MB are free on the disk of {existing}; a run needs "
            f"{FREE_BYTES_NEEDED / 1e6:.0f} MB. Free some, or choose another place with --out."
        )


def _manifest(order: Order, stock: Stock | None) -> dict[str, Any]:
    workload = order.workload
    count = scheduled_count(workload.arrivals, workload.duration_s, workload.seed)
    sizes = stock.sent_sizes(count) if stock is not None else np.empty(0, np.int64)
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
            "count": len(stock) if stock is not None else 0,
            **_sizes(sizes),
            "content_type": workload.payload.content_type,
        },
        "machine": machine(),
        "load": {"scheduled": count},
    }


@contextlib.contextmanager
def served(order: Order, folder: Path, watcher: Watcher) -> Iterator[Site]:
    """The target of ``order`` while it is served; its logs and events are in ``folder``."""
    mode = mode_of(order.target)
    with contextlib.ExitStack() as stack:
        # Not in the run's folder: a socket's path may have only about 100 characters.
        clock_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weighbridge-")))
        # While requests are gathered for a job nothing happens, whatever the scenario.
        fast = order.workload.fast_forward or isinstance(order.target, Batch)
        clock = Clock.create(clock_folder, fast, awaits_load=True)
        stack.callback(clock.close)
        # The servers' own timers would turn the clock before the load generator takes part.
        events = EventLog(folder / "events.jsonl")
        stack.callback(events.close)
        hold = clock.join(events)
        hold.update(work=1)
        watcher.phase(mode, "starting the endpoint")
        servers = start_servers(_deployment(order, folder, clock_folder), folder)
        stack.callback(servers.stop)
        ready = wait_for_servers(servers)
        yield Site(servers, ready["address"], ready["endpoints"][mode], clock, clock_folder, hold)
        watcher.phase(mode, "stopping the endpoint")


def _send(order: Order, notes: _Notes, watcher: Watcher, site: Site) -> None:
    """Send the workload of ``order``; returns when the load generator has ended."""
    notes.manifest["profile"] = site.described["profile"]
    notes.manifest["enforced"] = site.described["enforced"]
    notes.write()
    load = start_load(_plan(order, notes.folder, site), notes.folder)
    try:
        sampler = Sampler(site.servers.pid, load.pid, site.address, notes.samples)
        watcher.phase(mode_of(order.target), "under load")
        watcher.expect(order.workload.duration_s, notes.manifest["load"]["scheduled"])
        _watch(load, site.servers, _Follower(notes.folder, site.clock, sampler, watcher), site.hold)
    finally:
        load.stop()


def _deployment(order: Order, folder: Path, clock_folder: Path) -> Deployment:
    endpoint = Endpoint(mode_of(order.target), order.target, str(order.model.path.resolve()))
    return Deployment(
        [endpoint],
        seed=order.workload.seed,
        clock=str(clock_folder),
        events=str((folder / "events.jsonl").resolve()),
        metrics=str((folder / DRAFT).resolve()),
        log=str((folder / "instances.log").resolve()),
        data=str((folder / "data").resolve()),
    )


def _plan(order: Order, folder: Path, site: Site) -> Plan:
    mode = mode_of(order.target)
    plan = Plan(
        order.workload,
        url=f"{site.address}/endpoints/{mode}/{_PATHS.get(mode, 'invocations')}",
        payloads=[str(path.resolve()) for path in order.payloads],
        stock=str(order.stock) if order.stock is not None else None,
        batch=order.target if isinstance(order.target, Batch) else None,
        store=order.target if isinstance(order.target, Async) and order.target.store_url else None,
        records=str((folder / "requests.bin").resolve()),
        clock=str(site.clock_folder),
        events=str((folder / "events.jsonl").resolve()),
        workers=1 if isinstance(order.target, Batch) else order.workers,
    )
    contact = site.described.get("contact")
    return _direct(plan, contact, folder) if contact else plan


def _direct(plan: Plan, contact: dict[str, Any], folder: Path) -> Plan:
    """The plan for a server that is not behind our front, in the protocol that it speaks."""
    if contact["protocol"] != "open-inference":
        return msgspec.structs.replace(plan, url=contact["url"])
    if plan.workload.payload.content_type.partition(";")[0].strip() != "application/json":
        raise ConfigError(
            f"payload.content_type = {plan.workload.payload.content_type!r}: only JSON can be "
            "rewritten for a server of the Open Inference Protocol."
        )
    if plan.workload.payload.size is not None or plan.workload.payload.records is not None:
        raise ConfigError(
            "payload.size and payload.records: for a server of the Open Inference Protocol only "
            "files can be rewritten. Leave both out, or name its /invocations."
        )
    files = [Path(path) for path in plan.payloads]
    bodies = request_files(files, contact["inputs"], folder / "open-inference")
    paths = [str(path.resolve()) for path in bodies]
    return msgspec.structs.replace(plan, url=contact["url"], payloads=paths, stock=None)


class _Follower:
    """Once a second: what has come, for the watcher; how things are, for the samples."""

    def __init__(self, folder: Path, clock: Clock, sampler: Sampler, watcher: Watcher) -> None:
        self._folder = folder
        self._tail = Tail(folder)
        self._clock = clock
        self._sampler = sampler
        self._watcher = watcher
        self.start_s = math.nan

    def begun(self) -> bool:
        """Whether the load has begun."""
        if math.isnan(self.start_s):
            self.start_s = load_start_s(read_events(self._folder))
        return not math.isnan(self.start_s)

    def look(self) -> None:
        self.begun()
        new = self._tail.read()
        now_s = self._clock.now()
        late_s = new["sent_s"] - new["due_s"]
        late_s = late_s[~np.isnan(late_s)]
        self._sampler.take(now_s, float(late_s.max()) if len(late_s) else math.nan)
        self._watcher.live(now_s - self.start_s, new)

    def lost_workers(self) -> bool:
        """Whether the load went on without some of its processes: an invalid run, but one."""
        return any(event.get("lost_workers") for event in read_events(self._folder))


def _watch(load: Child, servers: Child, follower: _Follower, hold: Member) -> None:
    """Look once a second until the load generator ends; let go of the clock when it begins."""
    next_s = time.monotonic() + SAMPLE_INTERVAL_S
    while load.exit_code is None:
        time.sleep(min(0.1, max(0.0, next_s - time.monotonic())))
        if hold.fileno() >= 0 and follower.begun():
            hold.begin_load(follower.start_s)
            hold.update(work=-1)
            hold.leave()
        if time.monotonic() >= next_s:
            next_s += SAMPLE_INTERVAL_S
            follower.look()
        if servers.exit_code is not None:
            raise MeasurementError(
                f"The server process ended during the load (exit code {servers.exit_code}). "
                f"Its log is {servers.log}."
            )
    follower.look()
    if load.exit_code != 0 and not follower.lost_workers():
        raise MeasurementError(
            f"The load generator ended with exit code {load.exit_code}:\n{load.last_lines(5)}\n"
            f"The whole log is {load.log}."
        )


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
