"""What this machine is, so that runs of different machines are not taken for the same."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import bench


def machine() -> dict[str, Any]:
    """Hardware, system and versions; ``fingerprint`` covers what a comparison needs equal."""
    identity = {
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.system(),
        "kernel": platform.release(),
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return {
        **identity,
        "python": platform.python_version(),
        "torch": _version("torch"),
        "locust": _version("locust"),
        "load_average": list(os.getloadavg()),
        "fingerprint": fingerprint[:16],
    }


def tool() -> dict[str, Any]:
    """The version that measures; the commit when it runs from a checkout."""
    root = Path(bench.__file__).parent.parent
    sha = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    dirty = bool(_git(root, "status", "--porcelain")) if sha else False
    return {"version": bench.__version__, "git_sha": sha, "git_dirty": dirty}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
