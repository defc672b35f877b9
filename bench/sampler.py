"""What the machine and the servers are doing, once a second of real time."""

import contextlib
import json
import time
import urllib.request
from typing import Any

import psutil

from bench.gpu import Gpus
from bench.run import SAMPLE_COLUMNS

STATUS_TIMEOUT_S = 1.0


class Usage:
    """CPU and memory of a process and all that it started."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._before = (time.monotonic(), self._cpu_s())

    def cpu_share(self) -> float:
        """CPU-seconds a second since the last call: 1.0 is one core."""
        (then_s, used_s), now = self._before, (time.monotonic(), self._cpu_s())
        self._before = now
        return max(0.0, now[1] - used_s) / max(now[0] - then_s, 1e-6)

    def rss_bytes(self) -> int:
        """Bytes resident now; pages that processes share count in each."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _cpu_s(self) -> float:
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                # What ended children used is kept by the parent that waited for them.
                total += times.user + times.system + times.children_user + times.children_system
        return total


class Sampler:
    """Adds one row of samples.parquet to ``rows`` each time it is asked."""

    def __init__(
        self, servers_pid: int, generator_pid: int, address: str, rows: list[tuple[float, ...]]
    ) -> None:
        self._servers = Usage(servers_pid)
        self._generator = Usage(generator_pid)
        self._address = address
        self._rows = rows
        self._gpus = Gpus()
        psutil.cpu_percent()  # the first call only sets the beginning

    def take(self, at_s: float, lateness_s: float) -> None:
        """Add the row of this moment; ``lateness_s`` is the generator's largest since the last."""
        status = _status(self._address)
        row = {
            "at_s": at_s,
            "server_cpu_share": self._servers.cpu_share(),
            "generator_cpu_share": self._generator.cpu_share(),
            "machine_cpu_share": psutil.cpu_percent() / 100,
            "server_rss_bytes": float(self._servers.rss_bytes()),
            "in_flight": _total(status, "in_flight"),
            "instances": _total(status, "instances"),
            "backlog": _total(status, "backlog"),
            "lateness_s": lateness_s,
            **self._gpus.figures(),
        }
        self._rows.append(tuple(row[column] for column in SAMPLE_COLUMNS))


def _status(address: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{address}/status", timeout=STATUS_TIMEOUT_S) as answer:
            status: dict[str, Any] = json.load(answer)
            return status
    except OSError:
        return {}


def _total(status: dict[str, Any], name: str) -> float:
    return float(sum(endpoint[name] for endpoint in status.values())) if status else float("nan")
