"""The times of each request of a run as arrays, read once for all that computes with them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.run import Run

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

PARTS = (
    ("upload", "upload_s"),
    ("queue", "backlog_s"),
    ("placement", "placement_s"),
    ("wait for this machine", "wait_s"),
    ("set-up", "setup_s"),
    ("download", "download_s"),
    ("model", "model_s"),
    ("store", "store_s"),
)
"""Where the time of a request goes, in order; what is left is the rest."""


@dataclass(frozen=True)
class Timing:
    """One value a request, in the order of the schedule; parts that were not there are zero."""

    due_s: Floats
    sent_s: Floats
    done_s: Floats
    answered: Flags
    cold: Flags
    parts: dict[str, Floats]

    @property
    def latency_s(self) -> Floats:
        """From due time to answer; NaN where none came."""
        return self.done_s - self.due_s

    @property
    def wait_s(self) -> Floats:
        """For a core of this machine."""
        return self.parts["wait_s"]

    @property
    def model_s(self) -> Floats:
        """In the container; zero where it was not reached."""
        return self.parts["model_s"]

    def rest_s(self) -> Floats:
        """The latency that no part explains."""
        rest = np.nan_to_num(self.latency_s)
        for part in self.parts.values():
            rest = rest - part
        return np.maximum(0.0, rest)


def timing_of(run: Run) -> Timing:
    """The times of every request of ``run``."""
    names = [name for _, name in PARTS]
    rows = run.requests(["due_s", "sent_s", "done_s", "error", "cold", *names])

    def column(name: str) -> Floats:
        return rows[name].to_numpy(np.float64)

    done = column("done_s")
    return Timing(
        due_s=column("due_s"),
        sent_s=column("sent_s"),
        done_s=done,
        answered=(rows["error"] == "").to_numpy(bool) & ~np.isnan(done),
        cold=rows["cold"].to_numpy(bool),
        parts={name: np.nan_to_num(column(name)) for name in names},
    )
