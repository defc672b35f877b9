"""Replay: requests when they came in a recorded trace."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

from bench.errors import ConfigError
from bench.payload import Sizes
from bench.units import MAX_REQUESTS, DueTimes

if TYPE_CHECKING:
    from bench.traces import Trace

SAMPLE = Path(__file__).parent.parent / "scenarios" / "traces" / "sample.csv"

Moment = float | datetime | None


class Replay(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="replay"):
    """The requests of a trace, whole or a window of it, faster or slower; zero is the first."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="the trace, from the current folder; `sample` is the one that ships",
        ),
    ]
    format: Annotated[
        Literal["auto", "csv", "jsonl", "parquet", "alb", "nginx"],
        Meta(description="how to read it; auto: by the name, else by the first lines"),
    ] = "auto"
    timestamp_column: Annotated[
        str, Meta(min_length=1, description="column of csv, jsonl or parquet that has the time")
    ] = "timestamp"
    size_column: Annotated[
        str | None, Meta(description="column of csv, jsonl or parquet with the bytes of each body")
    ] = None
    class_column: Annotated[
        str | None,
        Meta(description="column that names the payload's file, without its suffix, of each body"),
    ] = None
    start: Annotated[
        Moment,
        Meta(description="leave out what is earlier: seconds from the trace's first, or a date"),
    ] = None
    end: Annotated[
        Moment,
        Meta(description="leave out this moment and what is later: seconds or a date"),
    ] = None
    speed: Annotated[float, Meta(gt=0, le=1e6, description="2 replays in half the time")] = 1.0
    spread_s: Annotated[
        Annotated[float, Meta(ge=0, le=3600)] | None,
        Meta(
            description="put each request at random within so many seconds after its timestamp; "
            "default: 1 for nginx, which notes whole seconds, else 0",
        ),
    ] = None
    max_malformed: Annotated[
        float,
        Meta(ge=0, description="malformed rows to tolerate: a share if below 1, else a number"),
    ] = 0.01

    def length_s(self) -> float:
        """Seconds that the replay takes.

        A trace ends one mean gap after its last request, so that its mean rate is kept; a window
        ends at its end or there, whichever is first.
        """
        trace = self._trace()
        times_s, window = trace.times_s, self._window(trace)
        span_s = float(times_s[-1] - times_s[0])
        gap_s = span_s / (len(times_s) - 1) if span_s else 1.0
        end_s = float(times_s[-1]) + max(gap_s, self._spread_s(trace))
        if self.end is not None:
            end_s = min(end_s, self._moment_s(trace, "end"))
        return (end_s - float(window[0])) / self.speed

    def expected_count(self, duration_s: float) -> float:
        window = self._window(self._trace())
        return float(np.count_nonzero((window - window[0]) / self.speed < duration_s))

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        trace = self._trace()
        window = self._window(trace)
        due = window - window[0]
        if spread_s := self._spread_s(trace):
            due = np.sort(due + random.uniform(0, spread_s, len(due)))
        due = due / self.speed
        return np.asarray(due[due < duration_s])

    def sizes(self, duration_s: float) -> Sizes | None:
        """The bytes of each request's body, in the order of the schedule, if the trace has them."""
        found, (first, last) = self._trace().sizes, self._used(duration_s)
        return None if found is None else found[first:last]

    def classes(self, duration_s: float) -> list[str] | None:
        """The class of each request, in the order of the schedule, if the trace has them."""
        found, (first, last) = self._trace().classes, self._used(duration_s)
        return None if found is None else list(found[first:last])

    def describe(self) -> dict[str, Any]:
        """What the trace is and how much of it was used, for the manifest."""
        trace = self._trace()
        return {
            "path": self.path,
            "sha256": trace.sha256,
            "format": trace.format,
            "rows": trace.rows,
            "malformed": trace.malformed,
            "first_malformed": list(trace.examples),
            "requests": len(self._window(trace)),
            "spread_s": self._spread_s(trace),
        }

    def sentence(self) -> str:
        """What is replayed and what had to be left out, for the terminal."""
        from bench.traces import examples_text

        trace = self._trace()
        text = f"From {trace.path}, {trace.rows:,} rows read as {trace.format}."
        if trace.malformed:
            text += f" {trace.malformed:,} malformed are left out. {examples_text(trace.examples)}"
        return text

    def _trace(self) -> "Trace":
        from bench.traces import Columns, read_trace  # brings pandas, which only a replay needs

        path = SAMPLE if self.path == "sample" else Path(self.path)
        columns = Columns(self.timestamp_column, self.size_column, self.class_column)
        trace = read_trace(path, self.format, columns)
        share = self.max_malformed < 1
        if trace.malformed > self.max_malformed * (trace.rows if share else 1):
            raise ConfigError(_too_malformed(trace, self.max_malformed))
        return trace

    def _window(self, trace: "Trace") -> DueTimes:
        """The times from ``start`` on and before ``end``; ConfigError when none, or too many."""
        window = trace.times_s[slice(*self._bounds(trace))]
        if not len(window):
            raise ConfigError(
                f"The trace {trace.path} has no request from {_shown(self.start, 'its first')} to "
                f"{_shown(self.end, 'its last')}: it goes from {_limits(trace)}. "
                "Change arrivals.start or arrivals.end."
            )
        if len(window) > MAX_REQUESTS:
            raise ConfigError(
                f"The trace {trace.path} has {len(window):,} requests, more than the "
                f"{MAX_REQUESTS:,} that a run may hold. "
                "Choose a window of it with arrivals.start and arrivals.end."
            )
        return window

    def _bounds(self, trace: "Trace") -> tuple[int, int]:
        """The first request of the window, and the first after it."""
        first, last = 0, len(trace.times_s)
        if self.start is not None:
            first = int(np.searchsorted(trace.times_s, self._moment_s(trace, "start")))
        if self.end is not None:
            last = int(np.searchsorted(trace.times_s, self._moment_s(trace, "end")))
        return first, last

    def _used(self, duration_s: float) -> tuple[int, int]:
        """The same, up to the end of the run."""
        trace = self._trace()
        first, _ = self._bounds(trace)
        window = self._window(trace)
        # What is spread over a second keeps its number, and may lose its place to a neighbour.
        kept = int(np.count_nonzero((window - window[0]) / self.speed < duration_s))
        return first, first + kept

    def _moment_s(self, trace: "Trace", at: str) -> float:
        """``start`` or ``end`` on the trace's own scale."""
        given = self.start if at == "start" else self.end
        if not isinstance(given, datetime):
            return float(trace.times_s[0]) + float(given or 0.0)
        if trace.kind == "seconds":
            raise ConfigError(
                f"arrivals.{at} = {given.isoformat()}: the trace {trace.path} has seconds, not "
                "dates. Give seconds from its first request."
            )
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()

    def _spread_s(self, trace: "Trace") -> float:
        if self.spread_s is not None:
            return self.spread_s
        return 1.0 if trace.format == "nginx" else 0.0


def _too_malformed(trace: "Trace", limit: float) -> str:
    from bench.traces import examples_text

    allowed = f"{limit * 100:g} % of them" if limit < 1 else f"{limit:,.0f}"
    return (
        f"The trace {trace.path}, read as {trace.format}: {trace.malformed:,} of its "
        f"{trace.rows:,} rows are malformed, and {allowed} may be. "
        f"{examples_text(trace.examples)} Mend them, or allow more with arrivals.max_malformed."
    )


def _shown(moment: Moment, otherwise: str) -> str:
    if moment is None:
        return otherwise
    return moment.isoformat() if isinstance(moment, datetime) else f"{moment:g} s"


def _limits(trace: "Trace") -> str:
    first_s, last_s = float(trace.times_s[0]), float(trace.times_s[-1])
    if trace.kind == "seconds":
        return f"0 to {last_s - first_s:g} s"
    dates = [datetime.fromtimestamp(at_s, UTC).isoformat() for at_s in (first_s, last_s)]
    return f"{dates[0]} to {dates[1]} ({last_s - first_s:g} s)"
