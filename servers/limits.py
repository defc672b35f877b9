"""Memory and CPU that an instance may use, as far as this machine can hold it to them.

Control groups of either version where this process may make them; otherwise RLIMIT_DATA, which caps
private memory, and a watchdog, which ends what holds more in all. CPU time is then not capped. What
is in force is told in words, for the manifest.
"""

import contextlib
import os
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

PERIOD_US = 100_000
"""The span over which the kernel counts CPU time against the quota: its own default."""

PREFIX = "weighbridge-"

WATCH_S = 0.05
"""Between two looks of the watchdog: at most so long a process holds more than it may."""


@dataclass(frozen=True)
class Caps:
    """What an instance may use; None: as much as there is."""

    memory_mb: int | None = None
    vcpus: float | None = None


class Group(Protocol):
    """The cap on one process and all that it starts."""

    def out_of_memory(self) -> bool:
        """Whether the kernel killed in it for lack of memory."""

    def release(self) -> None:
        """Let the group go; its processes have ended."""


class Limiter(Protocol):
    """A way of this machine to cap processes."""

    def describe(self, caps: Caps) -> dict[str, str]:
        """How ``memory`` and ``cpu`` are enforced, in words."""

    def hold(self, pid: int, caps: Caps) -> Group:
        """Cap the process from now on."""


class _NoGroup:
    def out_of_memory(self) -> bool:
        return False

    def release(self) -> None: ...


class Rlimits:
    """Caps memory as every process may do to its children.

    RLIMIT_DATA stops private memory at once but does not see files that are mapped, such as
    weights. The watchdog sees all that is resident, but only so often.
    """

    def __init__(self) -> None:
        self._watchdog = Watchdog()

    def describe(self, caps: Caps) -> dict[str, str]:
        if caps.memory_mb is None:
            memory = "none asked for"
        elif sys.platform == "linux":
            memory = (
                f"private memory capped at {caps.memory_mb} MB (RLIMIT_DATA); killed when more is "
                f"resident, seen within {WATCH_S * 1000:.0f} ms"
            )
        else:
            memory = (
                f"killed when more than {caps.memory_mb} MB are resident, "
                f"seen within {WATCH_S * 1000:.0f} ms"
            )
        cpu = "none asked for" if caps.vcpus is None else "CPU time is not capped"
        return {"memory": memory, "cpu": cpu}

    def hold(self, pid: int, caps: Caps) -> Group:
        if caps.memory_mb is None:
            return _NoGroup()
        limit = caps.memory_mb * 2**20
        if sys.platform == "linux":
            import resource

            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))
        return self._watchdog.watch(pid, limit)


class Watchdog:
    """A thread that kills each process whose family holds more memory than it may."""

    def __init__(self) -> None:
        self._watched: set[_Watched] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, pid: int, limit_bytes: int) -> Group:
        """Watch the process and what it starts until it is let go."""
        watched = _Watched(pid, limit_bytes, self)
        with self._lock:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
        return watched

    def forget(self, watched: "_Watched") -> None:
        with self._lock:
            self._watched.discard(watched)

    def _run(self) -> None:
        while True:
            with self._lock:
                watched = list(self._watched)
                if not watched:
                    self._thread = None
                    return
            for each in watched:
                each.look()
            time.sleep(WATCH_S)


class _Watched:
    def __init__(self, pid: int, limit_bytes: int, watchdog: Watchdog) -> None:
        self._limit_bytes = limit_bytes
        self._watchdog = watchdog
        self._killed = False
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process = psutil.Process(pid)

    def look(self) -> None:
        """Kill the process if it holds too much."""
        if self._process is None:
            return
        try:
            if resident_bytes(self._process) > self._limit_bytes:
                self._killed = True
                kill_family(self._process)
        except psutil.NoSuchProcess:
            self._process = None

    def out_of_memory(self) -> bool:
        if not self._killed:
            self.look()  # the last look may be older than what it holds
        return self._killed

    def release(self) -> None:
        self._watchdog.forget(self)


def resident_bytes(process: psutil.Process) -> int:
    """What the process and all that it started hold in memory; shared pages count in each."""
    total = int(process.memory_info().rss)
    for child in children(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += resident_bytes(psutil.Process(child))
    return total


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds that the process and all that it started have used."""
    times = process.cpu_times()
    # What ended children used is kept by the parent that waited for them.
    total = float(times.user + times.system + times.children_user + times.children_system)
    for child in children(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += cpu_seconds(psutil.Process(child))
    return total


def kill_family(process: psutil.Process) -> None:
    """SIGKILL for the process and then for all that it started."""
    started = children(process)
    process.kill()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            kill_family(psutil.Process(child))


def children(process: psutil.Process) -> list[int]:
    """The processes that this one started, without a walk over all of the machine's."""
    if sys.platform != "linux":
        return [child.pid for child in process.children()]
    found: list[int] = []
    for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


class Cgroups:
    """Caps memory and CPU time through control groups below ``memory`` and ``cpu``.

    In version 2 both are one folder.
    """

    def __init__(self, version: int, memory: Path, cpu: Path) -> None:
        self.version = version
        self._memory = memory
        self._cpu = cpu
        self._sweep()

    def describe(self, caps: Caps) -> dict[str, str]:
        how = f"(cgroup v{self.version})"
        cores = os.cpu_count() or 1
        memory = f"capped at {caps.memory_mb} MB {how}" if caps.memory_mb else "none asked for"
        if caps.vcpus is None:
            cpu = "none asked for"
        elif caps.vcpus > cores:
            cpu = f"not enforced: {caps.vcpus:.2f} vCPU, but this machine has {cores} cores"
        else:
            cpu = f"capped at {caps.vcpus:.2f} vCPU {how}"
        return {"memory": memory, "cpu": cpu}

    def hold(self, pid: int, caps: Caps) -> Group:
        name = f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        memory, cpu = self._memory / name, self._cpu / name
        for folder in {memory, cpu}:
            folder.mkdir()
        if caps.memory_mb is not None:
            file = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
            (memory / file).write_text(str(caps.memory_mb * 2**20))
        if caps.vcpus is not None:
            quota_us = round(caps.vcpus * PERIOD_US)
            if self.version == 2:
                (cpu / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            else:
                (cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (cpu / "cpu.cfs_quota_us").write_text(str(quota_us))
        for folder in {memory, cpu}:
            with contextlib.suppress(ProcessLookupError):
                (folder / "cgroup.procs").write_text(str(pid))
        return _Cgroup(self.version, memory, cpu)

    def _sweep(self) -> None:
        """Remove what processes that were killed have left behind; it is empty."""
        for folder in {self._memory, self._cpu}:
            for old in folder.glob(f"{PREFIX}*-*"):
                if not Path(f"/proc/{old.name.split('-')[1]}").exists():
                    with contextlib.suppress(OSError):
                        old.rmdir()


@dataclass(frozen=True)
class _Cgroup:
    version: int
    memory: Path
    cpu: Path

    def out_of_memory(self) -> bool:
        file = "memory.events" if self.version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError):
            lines = (self.memory / file).read_text().splitlines()
            return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)
        return False

    def release(self) -> None:
        # A zombie may hold a group for a moment; the next process's sweep takes what stays.
        for folder in {self.memory, self.cpu}:
            with contextlib.suppress(OSError):
                folder.rmdir()


def find_limiter(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self")) -> Limiter:
    """The best way of this machine, found by trying."""
    own = _own_groups(proc)
    for version, memory, cpu in (
        (1, root / "memory" / own.get("memory", ""), root / "cpu" / own.get("cpu", "")),
        (2, root / own.get("", ""), root / own.get("", "")),
        (2, root, root),
    ):
        if _usable(version, memory, cpu):
            return Cgroups(version, memory, cpu)
    return Rlimits()


def _own_groups(proc: Path) -> dict[str, str]:
    """This process's group by controller; version 2 is under the empty name."""
    groups = {}
    with contextlib.suppress(OSError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                groups[controller] = path.lstrip("/")
    return groups


def _usable(version: int, memory: Path, cpu: Path) -> bool:
    """Whether a group made there has the files that cap memory and CPU."""
    name = f"{PREFIX}{os.getpid()}-probe"
    wanted = {
        1: (memory / name / "memory.limit_in_bytes", cpu / name / "cpu.cfs_quota_us"),
        2: (memory / name / "memory.max", cpu / name / "cpu.max"),
    }[version]
    made = []
    try:
        for folder in {memory / name, cpu / name}:
            folder.mkdir()
            made.append(folder)
        return all(os.access(file, os.W_OK) for file in wanted)
    except OSError:
        return False
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
