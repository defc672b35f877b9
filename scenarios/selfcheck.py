"""Whether the generator itself was fit to measure: the machine's timer, its cores, its pauses."""

import gc
import time
from typing import Any

import gevent
import numpy as np
import psutil
from gevent import monkey

from bench.process import peak_memory_bytes

FLOOR_S = 0.5
FLOOR_RPS = 1000
BEAT_S = 0.05
STALL_S = 0.010
"""A wait that ends so late is a stall of the event loop; gevent's own timers are 1 ms late."""

# Locust has replaced it by one that lets the event loop run, which is to stand still here.
_sleep = monkey.get_original("time", "sleep")


def timer_floor() -> dict[str, float]:
    """How late this machine wakes a process that does nothing else; takes half a second.

    No generator can be more punctual than that, so lateness is judged relative to it.
    """
    late_s = np.empty(int(FLOOR_S * FLOOR_RPS))
    start_s = time.monotonic()
    for number in range(len(late_s)):
        due_s = start_s + (number + 1) / FLOOR_RPS
        if (wait_s := due_s - time.monotonic()) > 0:
            _sleep(wait_s)
        late_s[number] = time.monotonic() - due_s
    p50, p99 = np.percentile(late_s, [50, 99])
    return {"floor_p50_s": round(float(p50), 7), "floor_p99_s": round(float(p99), 7)}


class SelfCheck:
    """Watches this process and the machine from its making until `stop`."""

    def __init__(self) -> None:
        self._began_s, self._cpu_s = time.monotonic(), time.process_time()
        self._machine = psutil.cpu_times()
        self._waited_s = _waited_for_core_s()
        self._memory_bytes = psutil.Process().memory_info().rss
        self._collecting_since_s = 0.0
        self._collections, self._longest_collection_s = 0, 0.0
        self._stalls, self._longest_stall_s = 0, 0.0
        gc.callbacks.append(self._collection)
        self._heart = gevent.spawn(self._beat)

    def stop(self) -> dict[str, Any]:
        """What was seen; no more is watched."""
        self._heart.kill(block=False)
        if self._collection in gc.callbacks:
            gc.callbacks.remove(self._collection)
        real_s = time.monotonic() - self._began_s
        waited_s = _waited_for_core_s()
        return {
            "real_s": round(real_s, 6),
            "cpu_s": round(time.process_time() - self._cpu_s, 6),
            "steal_share": round(_steal_share(self._machine, psutil.cpu_times()), 5),
            "waited_for_core_s": None if waited_s is None else waited_s - (self._waited_s or 0.0),
            "collections": self._collections,
            "longest_collection_s": round(self._longest_collection_s, 6),
            "stalls": self._stalls,
            "longest_stall_s": round(self._longest_stall_s, 6),
            "memory_growth_bytes": max(0, peak_memory_bytes() - self._memory_bytes),
        }

    def _collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_since_s = time.monotonic()
            return
        self._collections += 1
        took_s = time.monotonic() - self._collecting_since_s
        self._longest_collection_s = max(self._longest_collection_s, took_s)

    def _beat(self) -> None:
        while True:
            began_s = time.monotonic()
            gevent.sleep(BEAT_S)
            stall_s = time.monotonic() - began_s - BEAT_S
            self._longest_stall_s = max(self._longest_stall_s, stall_s)
            self._stalls += stall_s > STALL_S


def _steal_share(before: Any, after: Any) -> float:
    """Share of the machine's time that its host gave to others; 0 where no system tells it."""
    # Time of guests is contained in that of the users.
    names = [name for name in after._fields if not name.startswith("guest")]
    passed_s = sum(getattr(after, name) - getattr(before, name) for name in names)
    stolen_s = getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)
    return float(max(0.0, stolen_s) / max(passed_s, 1e-6))


def _waited_for_core_s() -> float | None:
    """How long this process was ready to run and had to wait; None where no system tells it."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None
