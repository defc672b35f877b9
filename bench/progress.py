"""What the user sees while a measurement runs: a live line on a terminal, else plain ones."""

import math
import time

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.raw import latencies_s
from bench.record import Records

PLAIN_INTERVAL_S = 15.0
RATE_WINDOW_S = 5.0


class Progress:
    """A `bench.measure.Watcher` that writes to ``console``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._duration_s = 0.0
        self._scheduled: int | None = None
        self._live: Live | None = None
        self._last_plain_s = time.monotonic()
        self._sent = self._errors = 0
        self._latencies_s: list[npt.NDArray[np.float64]] = []
        self._recent: list[tuple[float, int]] = []

    def phase(self, mode: str, text: str) -> None:
        """A new phase of the measurement of ``mode``."""
        if text == "under load":
            self._forget()
            if self._console.is_terminal:
                self._live = Live(console=self._console, refresh_per_second=4, transient=True)
                self._live.start()
        else:
            self.close()
        self._console.print(Text(f"{mode}: {text}"))

    def expect(self, duration_s: float, scheduled: int | None) -> None:
        """What the load that begins now comes to; None where nobody knows how many requests."""
        self._duration_s = duration_s
        self._scheduled = scheduled

    def live(self, at_s: float, new: Records) -> None:
        """The load is at ``at_s``; ``new`` records have come since the last call."""
        if math.isnan(at_s):
            return
        self._sent += len(new)
        self._errors += int((new["error"] != b"").sum())
        self._latencies_s.append(latencies_s(new))
        now_s = time.monotonic()
        self._recent = [(when_s, n) for when_s, n in self._recent if now_s - when_s < RATE_WINDOW_S]
        self._recent.append((now_s, len(new)))
        line = Text(self._line(at_s))
        if self._live is not None:
            self._live.update(line)
        elif not self._console.is_terminal and now_s - self._last_plain_s >= PLAIN_INTERVAL_S:
            self._last_plain_s = now_s
            self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Take the live line off the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _forget(self) -> None:
        self._sent = self._errors = 0
        self._latencies_s.clear()
        self._recent.clear()

    def _line(self, at_s: float) -> str:
        latencies = np.concatenate(self._latencies_s)
        p99 = f"{np.quantile(latencies, 0.99):.3f} s" if len(latencies) else "-"
        left_s = max(0.0, self._duration_s - at_s)
        rate = sum(n for _, n in self._recent) / RATE_WINDOW_S
        of = "" if self._scheduled is None else f" of {self._scheduled}"
        if at_s > self._duration_s:  # asynchronous answers may take minutes more
            left = "" if self._scheduled is None else f", {self._scheduled - self._sent} to come"
            return f"  waiting for answers{left} | {self._errors} errors | p99 {p99}"
        return (
            f"  {clock_text(min(at_s, self._duration_s))}, {clock_text(left_s)} left | "
            f"{self._sent}{of} requests, {rate:.1f}/s | "
            f"{self._errors} errors | p99 {p99}"
        )


def clock_text(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, second = divmod(int(max(0.0, seconds)), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}"
