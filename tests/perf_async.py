"""What the asynchronous option's queue costs, beside two well-known ones: ``make perf ARGS=async``.

Each queue does the same: jobs are put one after the other by one caller, each durable before the
next; then one worker does them all, and each is gone only when it is done (huey cannot do that: it
takes a job off the queue first, and loses it when killed). The work itself is nothing, so what is
left is the queue's own cost. Celery and huey live in an environment of their own, thrown away
afterwards.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from servers.backlog import Backlog, Job, Outcome
from servers.sqlite_backlog import SqliteBacklog

JOBS, ROUNDS = 2000, 3
QUEUED = 100_000
WORKER_S = 60
"""How long a peer's worker may take for all."""
PEERS = ("celery[redis]==5.6.*", "huey==3.*")
DEBIAN = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "liblua5.1-0", "libatomic1")

_CELERY = """
import sys, time
from celery import Celery
app = Celery(broker="redis://127.0.0.1:PORT/0")
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=4)

@app.task
def work(number):
    if number == JOBS - 1:
        open(FOLDER + "/done", "w").write(str(time.time()))

def put():
    began = time.perf_counter()
    for number in range(JOBS):
        work.delay(number)
    print(JOBS / (time.perf_counter() - began))
"""
_HUEY = """
import sys, time
from huey import SqliteHuey
huey = SqliteHuey(filename=FOLDER + "/huey.db", results=False)

@huey.task()
def work(number):
    if number == JOBS - 1:
        open(FOLDER + "/done", "w").write(str(time.time()))

def put():
    began = time.perf_counter()
    for number in range(JOBS):
        work(number)
    print(JOBS / (time.perf_counter() - began))
"""

Rates = tuple[float, float]
"""Jobs put a second, and microseconds a job from the worker's first to its last."""


class Missing(Exception):
    """A peer cannot be had here; the text says why."""


def queue(folder: Path) -> list[str]:
    """Rates beside Celery and huey, with few and with many jobs in the queue, and a restart."""
    rows = ["| queue, one caller, one worker | accepts/s | overhead a job | against ours |"]
    rows += ["|---|---|---|---|"]
    ours = [asyncio.run(_ours(folder / f"ours{number}")) for number in range(ROUNDS)]
    accepts, overhead = (statistics.median(each) for each in zip(*ours, strict=True))
    rows.append(f"| ours (SQLite, leases, two-step end) | {accepts:,.0f} | {overhead:,.0f} us | |")
    for name, measure in (("Celery + Redis", _celery), ("huey + SQLite", _huey)):
        try:
            peer = measure(folder)
        except (Missing, OSError, subprocess.SubprocessError) as error:
            rows.append(f"| {name} | not measured: {str(error).splitlines()[0][:150]} | | |")
            continue
        ratio = f"accepts {accepts / peer[0]:.1f} x, overhead {peer[1] / overhead:.1f} x less"
        rows.append(f"| {name} | {peer[0]:,.0f} | {peer[1]:,.0f} us | {ratio} |")
    return [*rows, "", *asyncio.run(_many(folder / "many"))]


def _job(number: int) -> Job:
    name = f"job{number}"
    return Job(name, name, 0.0, 1e12, 900.0, f"s3://out/{name}", "", f"s3://in/{name}")


async def _ours(folder: Path) -> Rates:
    backlog = SqliteBacklog(folder / "backlog.db", "perf")
    await backlog.open()
    began = time.perf_counter()
    for number in range(JOBS):
        await backlog.put(_job(number))
    accepts = JOBS / (time.perf_counter() - began)
    took_s = await _drain(backlog, JOBS)
    await backlog.close()
    return accepts, took_s / JOBS * 1e6


async def _drain(backlog: Backlog, count: int) -> float:
    """Seconds until ``count`` jobs are done, at most as many at once as Celery prefetches."""
    began, done = time.perf_counter(), 0

    async def work(lease: object) -> None:
        assert await backlog.decide(lease, Outcome("Completed"))  # type: ignore[arg-type]
        assert await backlog.finish(lease)  # type: ignore[arg-type]

    while done < count:
        leases = await backlog.take(min(4, count - done))
        await asyncio.gather(*(work(lease) for lease in leases))
        done += len(leases)
    return time.perf_counter() - began


async def _many(folder: Path) -> list[str]:
    """The same rates with an empty queue and with 100 000 jobs in it, by turns of one kind."""
    backlog = SqliteBacklog(folder / "backlog.db", "perf")
    await backlog.open()

    async def fill(count: int) -> float:
        began = time.perf_counter()
        for first in range(0, count, 500):
            await asyncio.gather(*(backlog.put(_job(first + each)) for each in range(500)))
        return count / (time.perf_counter() - began)

    async def rates() -> list[Rates]:
        return [(await fill(5000), 5000 / await _drain(backlog, 5000)) for _ in range(ROUNDS)]

    empty = await rates()
    await fill(QUEUED)
    full = await rates()
    await backlog.close()
    began = time.perf_counter()
    backlog = SqliteBacklog(folder / "backlog.db", "perf")
    await backlog.open()
    counts = await backlog.counts()
    restart_s = time.perf_counter() - began
    await backlog.close()
    assert counts.all == QUEUED, counts
    rows = [f"| our queue | empty | with {QUEUED:,} jobs | ratio |", "|---|---|---|---|"]
    for index, name in enumerate(("accepts/s", "dequeues/s")):
        before, after = (statistics.median(each[index] for each in side) for side in (empty, full))
        rows.append(f"| {name} | {before:,.0f} | {after:,.0f} | {after / before:.2f} |")
    return [*rows, f"| restart, until it is counted | | {restart_s:.3f} s | |"]


def _celery(folder: Path) -> Rates:
    python = _environment(folder)
    with _redis(folder) as port:
        program = _CELERY.replace("PORT", str(port))
        command = [str(python), "-m", "celery", "-A", "program", "worker"]
        command += ["-P", "solo", "--without-gossip", "--without-mingle", "-l", "error"]
        return _peer(python, folder / "celery", program, command)


def _huey(folder: Path) -> Rates:
    python = _environment(folder)
    command = [str(python.parent / "huey_consumer"), "program.huey", "-w", "1", "-d", "0.01"]
    return _peer(python, folder / "huey", _HUEY, command)


def _peer(python: Path, folder: Path, program: str, worker: list[str]) -> Rates:
    """Put all jobs with no worker, then start the worker and wait for the last.

    What the worker's start takes is measured with one job alone, and left out.
    """
    took_s, accepts = [], 0.0
    for number, jobs in enumerate((1, JOBS)):
        place = folder / str(number)
        place.mkdir(parents=True)
        text = program.replace("FOLDER", repr(str(place))).replace("JOBS", str(jobs))
        (place / "program.py").write_text(text)
        command = [str(python), "-c", "import program; program.put()"]
        put = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
        accepts = float(put.stdout)
        began = time.time()
        process = subprocess.Popen(
            worker, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while not (place / "done").exists() or not (place / "done").read_text():
                if process.poll() is not None or time.time() > began + WORKER_S:
                    raise Missing("its worker does not finish")
                time.sleep(0.01)
            took_s.append(float((place / "done").read_text()) - began)
        finally:
            process.terminate()
            process.wait()
    return accepts, (took_s[1] - took_s[0]) / (JOBS - 1) * 1e6


def _environment(folder: Path) -> Path:
    """The Python of a new environment with the peers."""
    home = folder / "peers"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *PEERS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(home)
            raise Missing(f"pip install {' '.join(PEERS)}: {done.stderr.strip().splitlines()[-1]}")
    return python


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[int]:
    """The port of a Redis that keeps its jobs in an append-only file."""
    program, variables = _redis_program(folder / "debian")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "redis").mkdir(exist_ok=True)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes"]
    command += ["--dir", str(folder / "redis")]
    process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise Missing("redis-server does not start")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _redis_program(folder: Path) -> tuple[str, dict[str, str]]:
    """The installed one, or Debian's packages unpacked without installing them."""
    if found := shutil.which("redis-server"):
        return found, {}
    if not shutil.which("apt-get"):
        raise Missing("there is no redis-server, and no apt-get to get one")
    folder.mkdir(exist_ok=True)
    for name in DEBIAN:
        command = ["apt-get", "download", name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"apt-get download {name}: {done.stderr.strip().splitlines()[-1]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package.name, "root"], cwd=folder, check=True)
    libraries = {str(path.parent) for path in (folder / "root").rglob("*.so*")}
    program = folder / "root" / "usr" / "bin" / "redis-check-rdb"
    if not program.exists():
        raise Missing("Debian's package holds no redis-server")
    server = folder / "redis-server"
    server.symlink_to(program.resolve())
    return str(server), {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(json.dumps(queue(Path(place)), indent=1) + "\n")
