"""What this machine can do: each finding a name, a state and what follows."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Finding:
    """One fact about the machine. ``good`` is None where it is neither good nor bad."""

    name: str
    good: bool | None
    text: str


def findings() -> list[Finding]:
    """All facts that change what a measurement here can show."""
    return list(_findings())


def _findings() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    yield Finding("python", sys.version_info >= (3, 11), platform.python_version())
    follows = "enough" if cores >= 4 else "environments that start together share them: slower"
    yield Finding("cores", cores >= 2, f"{cores}; {follows}")
    memory_gb = psutil.virtual_memory().available / 2**30
    yield Finding("memory", memory_gb >= 4, f"{memory_gb:.1f} GiB available")
    free_gb = shutil.disk_usage(".").free / 1e9
    yield Finding("disk", free_gb >= 1, f"{free_gb:.1f} GB free here")
    busy = os.getloadavg()[0] / cores
    text = "the machine is idle" if busy < 0.3 else "other work is running: expect noise"
    yield Finding("load", busy < 0.3, f"{busy:.0%} of the cores; {text}")
    yield Finding("gpu", None, _gpu())
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    yield Finding("chromium", None, chromium or "not found; only the tests of the page use it")


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)}; the real-time endpoint uses it"
    return "none; models run on the CPU"
