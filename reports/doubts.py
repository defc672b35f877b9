"""Why a run may not be trusted: reasons that make it invalid, and reasons for care."""

from dataclasses import dataclass
from typing import Any

from bench.run import Run
from reports.words import count, quantile, seconds, share

LATENESS_FLOOR_S = (0.002, 0.010)  # at p50 and at p99
LATENESS_SHARE = 0.10  # of the latency's own quantile
GENERATOR_CPU_SHARE = 0.75  # of one core
FEW_COLD_STARTS = 10


@dataclass(frozen=True)
class Doubt:
    """A reason not to trust a run; an invalid run is not judged at all."""

    text: str
    invalid: bool = False


@dataclass(frozen=True)
class Health:
    """What the doubts are judged from; the pairs are p50 and p99."""

    answered: int
    dropped: int
    lateness_s: tuple[float, float]
    latency_s: tuple[float, float]
    cold: int
    waited: int
    longest_wait_s: float
    unsupported: tuple[tuple[float, int], ...]


def doubts_of(run: Run, health: Health) -> tuple[Doubt, ...]:
    """The doubts about ``run``, those that make it invalid first."""
    load = run.manifest["load"]
    invalid = [
        *_ending(run.manifest["status"], load, health),
        *_lateness(health),
        *_generator(load, health),
    ]
    cares = [
        *_trace(run.manifest.get("trace")),
        *_waits(health),
        *_samples(health),
        *_limits(run.manifest.get("enforced", {})),
    ]
    found = [*invalid, *cares]
    return tuple(sorted(found, key=lambda doubt: not doubt.invalid))


def _ending(status: str, load: dict[str, Any], health: Health) -> list[Doubt]:
    found = []
    scheduled, sent = int(load["scheduled"]), int(load["sent"])
    if status == "failed":
        found.append(Doubt("The run failed before its end.", invalid=True))
    if status == "interrupted":
        text = f"The run was interrupted after {seconds(float(load['duration_s']))} of traffic."
        found.append(Doubt(text))
    if status == "finished" and sent < scheduled:
        text = f"Only {count(sent)} of {count(scheduled)} scheduled requests were sent."
        found.append(Doubt(text, invalid=True))
    if not health.answered:
        found.append(Doubt("No request was answered.", invalid=sent == 0))
    return found


def _lateness(health: Health) -> list[Doubt]:
    found = []
    rows = zip((0.5, 0.99), health.lateness_s, health.latency_s, LATENESS_FLOOR_S, strict=True)
    for q, late, latency, floor in rows:
        allowed = max(floor, LATENESS_SHARE * latency)
        if late > allowed:
            text = (
                f"The load generator was late: {quantile(q)} {seconds(late)}, "
                f"where {seconds(allowed)} is allowed. The machine was too busy to measure."
            )
            found.append(Doubt(text, invalid=True))
    return found


def _generator(load: dict[str, Any], health: Health) -> list[Doubt]:
    found = []
    if health.dropped:
        text = f"{count(health.dropped)} requests were dropped: too many were open at once."
        found.append(Doubt(text, invalid=True))
    cpu = load.get("generator_cpu_share")
    if cpu is not None and cpu > GENERATOR_CPU_SHARE:
        text = (
            f"The load generator used {share(cpu)} of a core; "
            f"above {share(GENERATOR_CPU_SHARE)} it may itself be the bottleneck."
        )
        found.append(Doubt(text, invalid=True))
    return found


def _trace(trace: dict[str, Any] | None) -> list[Doubt]:
    found = []
    if trace and trace["malformed"]:
        text = (
            f"{count(trace['malformed'])} of {count(trace['rows'])} rows of the trace "
            f"{trace['path']} are malformed and were left out."
        )
        found.append(Doubt(text))
    if trace and trace["spread_s"]:
        text = (
            f"The trace {trace['path']} says only roughly when a request came: each was sent at "
            f"a random moment of the {seconds(trace['spread_s'])} after its timestamp."
        )
        found.append(Doubt(text))
    return found


def _samples(health: Health) -> list[Doubt]:
    found = []
    if health.answered and health.unsupported:
        missing = ", ".join(f"{quantile(q)} ({count(n)} needed)" for q, n in health.unsupported)
        text = f"{count(health.answered)} answers are too few to support {missing}."
        found.append(Doubt(text))
    if 0 < health.cold < FEW_COLD_STARTS:
        text = f"Cold starts are few ({health.cold}): their times are examples, not quantiles."
        found.append(Doubt(text))
    return found


def _waits(health: Health) -> list[Doubt]:
    if not health.waited:
        return []
    text = (
        f"{count(health.waited)} of {count(health.cold)} cold starts waited, up to "
        f"{seconds(health.longest_wait_s)}, for a core of this machine. On AWS they would start "
        "side by side, so these latencies, and failures that follow from them, are too bad here. "
        "A machine with more cores measures this better."
    )
    return [Doubt(text)]


def lax(text: str) -> bool:
    """Whether the words about a limit say that nothing holds it."""
    return any(each in text.lower() for each in ("not enforced", "not capped"))


def _limits(enforced: dict[str, str]) -> list[Doubt]:
    return [
        Doubt(f"The {name} limit of the option was not enforced on this machine.")
        for name, text in (
            ("memory", enforced.get("memory", "")),
            ("CPU", enforced.get("cpu", "")),
        )
        if lax(text)
    ]
