"""Why a run may not be trusted: reasons that make it invalid, and reasons for care."""

import math
from dataclasses import dataclass
from typing import Any

from bench.run import Run
from reports.failures import failures
from reports.warmup import WarmUp
from reports.warmup import doubts as warm_up_doubts
from reports.words import count, quantile, seconds, share

LATENESS_S = (0.002, 0.005)  # at p50 and at p99, or what is supported of it; with
LATENESS_SHARE = 0.05  # of the latency's own quantile when that is more, and
OBJECTIVE_SHARES = (0.0, 0.001)  # of the latency that the objective allows, when that is more, and
FLOORS = 3.0  # times the lateness of the machine's own timer, measured before the load
"""What lateness may be. It is part of every latency, so an option looks worse by it, never better.

A process that shares two cores with what it measures is woken a millisecond or some late now and
then, however good it is; so `NOTABLE_LATENESS_S` at p99 is reason for care and `LATENESS_S` for
calling the run invalid. Where others write much to the disk, a process that does nothing but sleep
is woken up to a third of a second late; where minutes are allowed, such a tail changes no verdict.
"""
NOTABLE_LATENESS_S = 0.001
GENERATOR_CPU_SHARE = 0.75  # of one core
STEAL_SHARE, NOTABLE_STEAL_SHARE = 0.10, 0.02  # of the machine, taken by its host for others
RATE_ERROR, NOTABLE_RATE_ERROR = 0.01, 0.001
RATE_REQUESTS = 1000  # a rate of fewer is uncertain by more than the error
NOTABLE_COLLECTION_S = 0.010
NOTABLE_STALL_S = 0.100
FEW_COLD_STARTS = 10


@dataclass(frozen=True)
class Doubt:
    """A reason not to trust a run; an invalid run is not judged at all."""

    text: str
    invalid: bool = False


@dataclass(frozen=True)
class Health:
    """What the doubts are judged from; the pairs are at p50 and at ``tail``."""

    tail: float
    """0.99, or less where only that is supported by the number of requests."""
    answered: int
    dropped: int
    lateness_s: tuple[float, float]
    latency_s: tuple[float, float]
    cold: int
    waited: int
    longest_wait_s: float
    unsupported: tuple[tuple[float, int], ...]


def doubts_of(run: Run, health: Health, warming: WarmUp) -> tuple[Doubt, ...]:
    """The doubts about ``run``, those that make it invalid first."""
    load = run.manifest["load"]
    # Runs of older versions have no check of the generator.
    check = load.get("selfcheck") or {}
    invalid = [
        *_ending(run.manifest["status"], load, health),
        *_lateness(health, check, run.manifest["workload"]["objective"]["latency_s"]),
        *_generator(load, health),
        *_balance(load),
        *_workers(check),
        *_rate(load),
        *_machine(check),
    ]
    cares = [
        *_waiting(run.manifest["workload"]["arrivals"]),
        *(Doubt(text) for text in warm_up_doubts(warming)),
        *_trace(run.manifest.get("trace")),
        *(Doubt(text) for text in failures(run.events())),
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


def _lateness(health: Health, check: dict[str, Any], objective_s: float) -> list[Doubt]:
    rows = zip(
        (0.5, health.tail),
        health.lateness_s,
        health.latency_s,
        LATENESS_S,
        [each * objective_s for each in OBJECTIVE_SHARES],
        (check.get("floor_p50_s", 0.0), check.get("floor_p99_s", 0.0)),
        strict=True,
    )
    for q, late, latency, least, objective, floor in rows:
        timer = FLOORS * floor
        allowed = max(least, LATENESS_SHARE * latency, objective) + timer
        text = f"The load generator was late: {quantile(q)} {seconds(late)}, "
        if late > allowed:
            text += f"where {seconds(allowed)} is allowed. The machine was too busy to measure."
            return [Doubt(text + _waited(check), invalid=True)]
        notable = max(NOTABLE_LATENESS_S, LATENESS_SHARE * health.latency_s[0]) + timer
        if q == health.tail and late > notable:
            text += "which is part of the latencies: they look worse by so much at most."
            return [Doubt(text + _waited(check))]
    return []


def _waited(check: dict[str, Any]) -> str:
    waited = check.get("waited_for_core_s") or 0.0
    if waited < 0.01 * check.get("real_s", math.inf):
        return ""
    return f" It was ready to run and waited for a core for {seconds(waited)} in all."


def _balance(load: dict[str, Any]) -> list[Doubt]:
    if load.get("balanced") is not False:
        return []
    text = "The counts of requests do not add up: some are lost or counted twice."
    return [Doubt(text, invalid=True)]


def _rate(load: dict[str, Any]) -> list[Doubt]:
    achieved = load.get("rate_share")
    if achieved is None or int(load["sent"]) < RATE_REQUESTS:
        return []
    error = abs(achieved - 1)
    if error <= NOTABLE_RATE_ERROR:
        return []
    text = f"Requests were sent at {achieved:.2%} of the rate at which they were due."
    return [Doubt(text, invalid=error > RATE_ERROR)]


def _workers(check: dict[str, Any]) -> list[Doubt]:
    lost, workers = check.get("lost_workers") or [], check.get("workers")
    if not lost:
        return []
    text = f"{len(lost)} of {workers} load workers were lost, and their part of the load with them"
    return [Doubt(f"{text}: {'; '.join(lost)}.", invalid=True)]


def _machine(check: dict[str, Any]) -> list[Doubt]:
    found = []
    steal = check.get("steal_share", 0.0)
    if steal > NOTABLE_STEAL_SHARE:
        text = f"The host of this machine gave {share(steal)} of its time to others."
        found.append(Doubt(text, invalid=steal > STEAL_SHARE))
    pauses = (
        ("collected garbage", check.get("longest_collection_s", 0.0), NOTABLE_COLLECTION_S),
        ("stood still", check.get("longest_stall_s", 0.0), NOTABLE_STALL_S),
    )
    for what, longest, notable in pauses:
        if longest > notable:
            text = f"The load generator {what} for up to {seconds(longest)}; what was due then left"
            found.append(Doubt(f"{text} that late."))
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


def _waiting(arrivals: dict[str, Any]) -> list[Doubt]:
    """Callers who wait for an answer before they send again spare a slow server."""
    if arrivals["kind"] not in ("closed", "users"):
        return []
    text = (
        f"{count(int(arrivals['users']))} users each wait for an answer before the next request, "
        "so an option that is slow gets less traffic than one that is fast."
    )
    found = [Doubt(text)]
    if arrivals["kind"] == "users":
        text = (
            "A Locust file of one's own decides when to send. When a request should have left is "
            "not known, so lateness is not, and latency counts from the send: what a slow answer "
            "held up does not show."
        )
        found.append(Doubt(text))
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
