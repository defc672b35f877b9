"""Instances that are billed by time: how long each was in service, from a run's events."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from bench.run import Run


@dataclass(frozen=True)
class Stay:
    """One instance in service, from when to when."""

    instance: str
    from_s: float
    to_s: float

    def billed_s(self, minimum_s: float) -> float:
        """Whole seconds, at least the minimum."""
        return float(max(minimum_s, ceil(round(self.to_s - self.from_s, 6))))


@dataclass(frozen=True)
class Fleet:
    """How many instances a month of other traffic would need; modelled from those seen."""

    usd_hour: float
    mean: float  # instances, on average over the period, as billed
    least: float  # those that are always there; 0: goes away when nothing is asked
    most: float  # at the same time
    per_instance_rps: float = inf
    """What one carries at the objective; infinite: not checked."""
    peak: float = 1.0
    """The busiest minute over the mean rate."""
    work_s: float = 0.0
    """Instance-seconds that each request needs at least."""

    def instances(self, requests_a_month: float, now: float, month_s: float) -> float:
        """On average over a month of ``requests_a_month``, when ``now`` are what was measured."""
        growth = requests_a_month / max(now, 1e-9)
        moving = (self.mean - self.least) * growth
        if self.least == 0:
            # Wake-ups of rare requests grow with them, until the instances never go.
            work = requests_a_month * self.work_s / month_s
            return max(work, min(moving, self.most))
        rate = requests_a_month * self.peak / month_s
        return max(self.least + moving, self.needed(rate))

    def needed(self, rate_rps: float) -> int:
        """Fewest instances that carry ``rate_rps`` in the busiest minute."""
        if self.per_instance_rps == inf:
            return 0
        return ceil(rate_rps / max(self.per_instance_rps, 1e-9) - 1e-9)


def stays(run: Run, always: bool) -> tuple[Stay, ...]:
    """Every instance of ``run`` in service, within the period of the load.

    A run that notes no instances had one all the time, if the option keeps one ``always``.
    """
    events = run.events()
    last = run.duration_s
    if not always:  # a job or a queue is billed for all that it worked, an endpoint for the period
        last = max([last, *(float(event["at_s"]) for event in events if "at_s" in event)])
    marks = [float(e["at_s"]) for e in events if e["kind"] == "phase" and e.get("name") == "end"]
    ended = min([last, *(max(mark, run.duration_s) for mark in marks)])
    open_: dict[str, float] = {}
    found: list[Stay] = []
    for event in events:
        name = str(event.get("instance", ""))
        if event["kind"] == "instance_started":
            open_[name] = max(0.0, float(event["at_s"]))
        elif event["kind"] == "instance_stopped" and name in open_:
            # Closed with the run: the clock may have leapt over timers since the last answer.
            until = ended if event.get("reason") == "closed" else last
            found.append(Stay(name, open_.pop(name), min(until, float(event["at_s"]))))
    found += [Stay(name, start, last) for name, start in open_.items()]
    found = [stay for stay in found if stay.to_s > stay.from_s]
    if not found and always:
        return (Stay("", 0.0, run.duration_s),)
    return tuple(sorted(found, key=lambda stay: (stay.from_s, stay.instance)))


def hours(found: Sequence[Stay], minimum_s: float) -> float:
    """Instance-hours that are billed."""
    return sum(stay.billed_s(minimum_s) for stay in found) / 3600


def at_once(found: Sequence[Stay]) -> int:
    """The most that were in service at the same time."""
    marks = [(stay.from_s, 1) for stay in found] + [(stay.to_s, -1) for stay in found]
    most = now = 0
    for _, step in sorted(marks):
        now += step
        most = max(most, now)
    return most


def always_on(found: Sequence[Stay], period_s: float) -> int:
    """The fewest that were in service at any moment of the period."""
    marks = sorted([(s.from_s, 1) for s in found] + [(s.to_s, -1) for s in found])
    least: int | None = None
    now, at = 0, 0.0
    for moment, step in [*marks, (period_s, 0)]:
        if moment > at + 1e-9 and at < period_s - 1e-9:
            least = now if least is None else min(least, now)
        at = max(at, moment)
        now += step
    return least or 0


def job_totals(events: Sequence[dict[str, Any]]) -> tuple[int, float]:
    """How many jobs ended, and the bytes they read and wrote, where they say so."""
    ended = [event for event in events if event["kind"] == "job_ended"]
    return len(ended), float(sum(event.get("bytes") or 0 for event in ended))
