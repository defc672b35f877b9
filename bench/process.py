"""Small facts of processes that several rooms need."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int | None) -> None:
    """The kernel kills this process as soon as the one that started it is gone.

    ``parent_pid`` is the starter's own process id; None means that nobody asked. On other systems
    than Linux nothing happens: they have no such request, and the parent's own clean-up must do.
    The kernel watches the *thread* that forked, so start processes from a thread that stays.
    """
    if parent_pid is None or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")
    if os.getppid() != parent_pid:  # it died before the request was in force
        os.kill(os.getpid(), signal.SIGKILL)


def yield_cores() -> None:
    """Let this process, and those that it starts, take a core when one is free, and not at once.

    Servers that share a core with whoever calls them then take up many requests at a time, instead
    of ending the caller's turn for each (Linux: SCHED_BATCH; elsewhere nothing happens).
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(PermissionError):  # a sandbox may forbid it: it only saves time
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def peak_memory_bytes(pid: int | None = None) -> int:
    """The most that this process, or on Linux another one, has held in memory at once.

    Of its own program: getrusage's figure begins with what the process that forked it had.
    """
    status = Path(f"/proc/{'self' if pid is None else pid}/status")
    if sys.platform.startswith("linux"):
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
