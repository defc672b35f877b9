"""What the asynchronous option's queue costs, beside two others: ``make perf ARGS=async``.

The contenders (``tests/perf_queues.py``) take turns, ours, Celery, huey and again, so that what
else the machine does falls on all alike; what counts is the median of each round's ratio. Two kinds
of durability are measured, and in each all contenders have the same: what is accepted survives the
end of any process (the default of ours and of Redis; the goals are for it), or a power failure,
where the disk is most of the time. The goals are against queues that acknowledge a job after the
work; huey cannot by itself, so it does so through its key-value store, and stands alone beside it.
"""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from servers.backlog import Backlog, Job, Lease, Outcome
from servers.lmdb_backlog import LmdbBacklog
from tests.perf_goals import Goal
from tests.perf_queues import OURS, ROOM, Contender, Missing, Survives, celery, huey, huey_alone

ROUNDS, JOBS = 5, 1000
SYNCED_ROUNDS, SYNCED_JOBS = 3, 200
"""With each job synced to the disk, which is most of the time then."""
WIDTHS = (1, 16)
"""Callers that put jobs, and jobs that the one worker process does at once."""
WORKER_S = 60
"""How long a worker may take for all."""
QUEUED, TURNS, SAMPLE = 100_000, 21, 2500
ATLEAST = 2.0
SURVIVES: dict[Survives, str] = {
    "kill": "survives the end of any process: ours sync=normal, Redis appendfsync everysec, "
    "huey fsync=False",
    "power": "survives a power failure: ours sync=full, Redis appendfsync always, huey fsync=True",
}


@dataclass
class Found:
    """What the rounds of one contender found."""

    accepts: dict[int, list[float]] = field(default_factory=dict)
    """By the number of callers: jobs put a second."""
    overhead_us: dict[int, list[float]] = field(default_factory=dict)
    """By how many were done at once: microseconds a job, from the first job to the last."""


def queue(folder: Path) -> list[str]:
    """Rates beside Celery and huey, with few and with many jobs in the queue, and a restart."""
    killed, goals = _beside(folder, "kill", (ROUNDS, JOBS))
    synced, _ = _beside(folder, "power", (SYNCED_ROUNDS, SYNCED_JOBS))
    many, kept = asyncio.run(_many(folder / "many"))
    head = ["| goal | limit | found | |", "|---|---|---|---|"]
    lines = [goal.line() for goal in [*goals, *kept]]
    return [*killed, "", *synced, "", *many, "", *head, *lines]


# Beside the peers


def _beside(
    folder: Path, survives: Survives, size: tuple[int, int]
) -> tuple[list[str], list[Goal]]:
    """The table of one kind of durability, and its goals; ``size``: rounds, and jobs in each."""
    contenders, missing = [OURS], []
    with contextlib.ExitStack() as stack:
        for open_peer in (celery, huey, huey_alone):
            try:
                contenders.append(stack.enter_context(open_peer(folder, survives)))
            except (Missing, OSError, subprocess.SubprocessError) as error:
                text = (str(error).splitlines() or [type(error).__name__])[0]
                missing.append(f"| {open_peer.__name__} | not measured: {text[:150]} | | |")
        found = _rounds(folder / survives, contenders, survives, size)
    return [*_table(survives, size, found), *missing], _goals(found)


def _rounds(
    folder: Path, contenders: list[Contender], survives: Survives, size: tuple[int, int]
) -> dict[str, Found]:
    found = {contender.name: Found() for contender in contenders}
    rounds, jobs = size
    for number in range(rounds):
        for width in WIDTHS:
            for contender in contenders:
                place = folder / f"{contender.name.replace(' ', '-')}-{number}-{width}"
                contender.prepare(place, survives, width)
                accepts, overhead_us = _measured(contender, place, width, jobs)
                found[contender.name].accepts.setdefault(width, []).append(accepts)
                found[contender.name].overhead_us.setdefault(width, []).append(overhead_us)
    return found


def _measured(contender: Contender, place: Path, width: int, jobs: int) -> tuple[float, float]:
    """Put all jobs with no worker, then start the worker and wait until each has been done once."""
    variables = {"PYTHONPATH": f"{place}:{ROOM}", "PATH": "/usr/bin:/bin"}
    command = [contender.python, "-c", f"import program; program.put({jobs})"]
    put = subprocess.run(
        command, cwd=place, env=variables, capture_output=True, text=True, check=True
    )
    with (place / "log").open("wb") as log:
        worker = subprocess.Popen(
            contender.command(width), cwd=place, env=variables, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + WORKER_S
        while len(lines := (place / "done").read_text().splitlines()) < jobs:
            if worker.poll() is not None or time.monotonic() > deadline:
                log_text = (place / "log").read_text()[-500:]
                raise RuntimeError(f"{contender.name} has done {len(lines)} of {jobs}: {log_text}")
            time.sleep(0.02)
    finally:
        worker.kill()
        worker.wait()
    done = [tuple(map(int, line.split())) for line in lines]
    assert sorted(number for number, _ in done) == list(range(jobs)), "each is done once"
    return float(put.stdout), (done[-1][1] - done[0][1]) / (jobs - 1) / 1000


def _table(survives: Survives, size: tuple[int, int], found: dict[str, Found]) -> list[str]:
    heads = [f"accepts/s, callers: {width}" for width in WIDTHS]
    heads += [f"overhead a job, at once: {width}" for width in WIDTHS]
    rows = [f"{SURVIVES[survives]}; medians of {size[0]} rounds of {size[1]} jobs:", ""]
    rows += [f"| queue, one worker process | {' | '.join(heads)} |", "|---|---|---|---|---|"]
    ours = found["ours"]
    for name, one in found.items():
        cells = []
        for width in WIDTHS:
            cells.append(f"{statistics.median(one.accepts[width]):,.0f}")
            if one is not ours:
                cells[-1] += f" (ours {_ratio(ours.accepts[width], one.accepts[width]):.1f} x)"
        for width in WIDTHS:
            cells.append(f"{statistics.median(one.overhead_us[width]):,.0f} us")
            if one is not ours:
                times = _ratio(one.overhead_us[width], ours.overhead_us[width])
                cells[-1] += f" ({times:.1f} x ours)"
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _ratio(above: list[float], below: list[float]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _goals(found: dict[str, Found]) -> list[Goal]:
    goals, ours = [], found["ours"]
    for name, one in found.items():
        if name == "ours" or "loses" in name:  # which is not the same work
            continue
        for width in WIDTHS:
            faster = {
                f"accepts/s, callers: {width}": _ratio(ours.accepts[width], one.accepts[width]),
                f"overhead a job, at once: {width}": _ratio(
                    one.overhead_us[width], ours.overhead_us[width]
                ),
            }
            for what, times in faster.items():
                goal = Goal(f"{what}: times better than {name}", ATLEAST, True, "x")
                goal.found.append(times)
                goals.append(goal)
    return goals


# With many jobs in the queue


async def _many(folder: Path) -> tuple[list[str], list[Goal]]:
    """An empty queue and one with 100 000 jobs take turns; then that one is opened anew."""
    empty, full = (LmdbBacklog(folder / name) for name in ("empty", "full"))
    await empty.open()
    await full.open()
    await _fill(full, QUEUED)
    rates: dict[str, list[list[float]]] = {"accepts/s": [[], []], "dequeues/s": [[], []]}
    sides = [(0, empty), (1, full)]
    for _ in range(TURNS):
        for side, backlog in sides:
            rates["accepts/s"][side].append(await _fill(backlog, SAMPLE))
            rates["dequeues/s"][side].append(await _drain(backlog, SAMPLE))
        sides.reverse()
    await empty.close()
    await full.close()
    began = time.perf_counter()
    await full.open()
    counts = await full.counts()
    restart_s = time.perf_counter() - began
    await full.close()
    assert counts.all == QUEUED, counts
    rows = [
        f"| our queue, {TURNS} turns of {SAMPLE:,} jobs | empty | with {QUEUED:,} jobs |",
        "|---|---|---|",
    ]
    goals = []
    for name, (before, after) in rates.items():
        rows.append(
            f"| {name} | {statistics.median(before):,.0f} | {statistics.median(after):,.0f} |"
        )
        goal = Goal(f"{name} with {QUEUED:,} jobs, of those of an empty queue", 0.8, True, "x")
        goal.found.append(_ratio(after, before))
        goals.append(goal)
    restart = Goal(f"restart with {QUEUED:,} jobs, until they are counted", 2.0, unit="s")
    restart.found.append(restart_s)
    return rows, [*goals, restart]


def _job(number: int) -> Job:
    name = f"job{number}"
    return Job(name, name, 0.0, 1e12, 900.0, f"s3://out/{name}", "", f"s3://in/{name}")


async def _fill(backlog: Backlog, count: int) -> float:
    """Jobs put a second by 500 callers at a time."""
    began = time.perf_counter()
    for first in range(0, count, 500):
        await asyncio.gather(*(backlog.put(_job(first + each)) for each in range(500)))
    return count / (time.perf_counter() - began)


async def _drain(backlog: Backlog, count: int) -> float:
    """Jobs done a second, at most four at once."""
    began, done = time.perf_counter(), 0

    async def work(lease: Lease) -> None:
        assert await backlog.decide(lease, Outcome("Completed"))
        assert await backlog.finish(lease)

    while done < count:
        leases = await backlog.take(min(4, count - done))
        await asyncio.gather(*(work(lease) for lease in leases))
        done += len(leases)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write("\n".join(queue(Path(place))) + "\n")
