"""Memory and CPU that an instance may use, as far as this machine can hold it to them.

Control groups of either version where this process may make them; otherwise RLIMIT_DATA, which caps
private memory but not CPU time. What is in force is told in words, for the manifest.
"""

import contextlib
import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PERIOD_US = 100_000
"""The span over which the kernel counts CPU time against the quota: its own default."""

PREFIX = "weighbridge-"


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
    """Caps private memory alone; what every Linux process may do to its children."""

    def describe(self, caps: Caps) -> dict[str, str]:
        if caps.memory_mb is None:
            memory = "none asked for"
        elif sys.platform == "linux":
            memory = f"private memory capped at {caps.memory_mb} MB (RLIMIT_DATA)"
        else:
            memory = "not enforced: this system cannot cap a running process"
        cpu = "none asked for" if caps.vcpus is None else "CPU time is not capped"
        return {"memory": memory, "cpu": cpu}

    def hold(self, pid: int, caps: Caps) -> Group:
        if caps.memory_mb is not None and sys.platform == "linux":
            import resource

            limit = caps.memory_mb * 2**20
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))
        return _NoGroup()


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
