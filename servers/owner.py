"""Which process something belongs to, so that others can tell when it is dead."""

import functools
import os
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def boot() -> str:
    """Names the time since the machine was started: monotonic time means nothing across two."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")
    except OSError:
        return str(int(psutil.boot_time()))


def this_process() -> str:
    """The name of this process, which no other ever has."""
    return _name(os.getpid())


def alive(name: str) -> bool:
    """Whether the process with this name still runs. What is no such name is not alive."""
    number = name.split(".")[0]
    if not number.isdecimal():
        return False
    try:
        return _name(int(number)) == name and psutil.Process(int(number)).status() != "zombie"
    except (psutil.NoSuchProcess, OverflowError):
        return False


@functools.lru_cache(maxsize=1)
def _own(pid: int) -> str:
    return f"{pid}.{int(psutil.Process(pid).create_time() * 100)}.{boot()[:12]}"


def _name(pid: int) -> str:
    # Only this process's own name is remembered: a number is given again after a death.
    return _own(pid) if pid == os.getpid() else _own.__wrapped__(pid)
