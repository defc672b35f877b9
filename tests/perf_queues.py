"""The queues that ``tests/perf_async.py`` compares: ours, Celery on Redis and huey on SQLite.

Each is two programs: in one so many callers put jobs, each in turn, then one process works them
off, so many at once. A job notes its number and the moment in a file, by one ``write``; nothing
else, so what is left is the queue's own cost. Peers are set as their documentation says for many
short tasks that are acknowledged when they are done. They live in an environment of their own.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PEERS = ("celery[redis]==5.6.*", "redis[hiredis]", "huey==3.*")
DEBIAN = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "liblua5.1-0", "libatomic1")
ROOM = Path(__file__).parent.parent

Survives = Literal["kill", "power"]
"""What an accepted job survives: the end of any process, or of the machine's power."""

_WORK = """
import os, time
NOTES = os.open(FOLDER + "/done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def work(number):
    os.write(NOTES, b"%d %d\\n" % (number, time.monotonic_ns()))

def rate(jobs, enqueue):
    "Jobs put a second by WIDTH callers."
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import nullcontext
    with ThreadPoolExecutor(WIDTH) if WIDTH > 1 else nullcontext() as pool:
        began = time.perf_counter()
        for _ in (pool.map if WIDTH > 1 else map)(enqueue, range(jobs)):
            pass
        return jobs / (time.perf_counter() - began)
"""
_OURS = """
import asyncio
from pathlib import Path
from servers.backlog import Job, Outcome
from servers.lmdb_backlog import LmdbBacklog

backlog = LmdbBacklog(Path(FOLDER) / "queue", sync=SYNC)

def job(number):
    name = str(number)
    return Job(name, name, 0.0, 1e12, 900.0, "s3://out/" + name, "", "s3://in/" + name)

async def put_all(jobs):
    await backlog.open()
    numbers = iter(range(jobs))

    async def call():
        for number in numbers:
            await backlog.put(job(number))

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(WIDTH)))
    print(jobs / (time.perf_counter() - began))
    await backlog.close()

def put(jobs):
    asyncio.run(put_all(jobs))

class Worker:
    "As the endpoint does it: whoever ends makes room for the next, which is taken then."
    free, pumping, again = WIDTH, False, False

    async def pump(self):
        self.again = True
        if self.pumping:
            return
        self.pumping = True
        while self.again:
            self.again = False
            while self.free and (leases := await backlog.take(self.free)):
                self.free -= len(leases)
                for lease in leases:
                    tasks.add(asyncio.create_task(self.bring(lease)))
        self.pumping = False

    async def bring(self, lease):
        work(int(lease.job.id))
        assert await backlog.decide(lease, Outcome("Completed"))
        assert await backlog.finish(lease)
        tasks.discard(asyncio.current_task())
        self.free += 1
        await self.pump()

tasks = set()

async def serve():
    await backlog.open()
    worker = Worker()
    while True:
        await worker.pump()
        await asyncio.sleep(0.01)
"""
_CELERY = """
from celery import Celery
app = Celery(broker="redis://127.0.0.1:PORT/0")
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_serializer="json",
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    task_send_sent_event=False,
)
task = app.task(work, name="work")

def put(jobs):
    print(rate(jobs, task.delay))
"""
_HUEY = """
from huey import SqliteHuey
huey = SqliteHuey(filename=FOLDER + "/huey.db", results=False, fsync=SYNC)
task = huey.task()(work)

def put(jobs):
    print(rate(jobs, task))
"""


_ACKNOWLEDGED = """
from huey import SqliteHuey
huey = SqliteHuey(filename=FOLDER + "/huey.db", results=False, fsync=SYNC)

@huey.task()
def task(number):
    work(number)
    huey.get("unacknowledged-%d" % number)  # which forgets it

def enqueue(number):
    huey.put("unacknowledged-%d" % number, number)
    task(number)

def put(jobs):
    print(rate(jobs, enqueue))
"""


class Missing(Exception):
    """A peer cannot be had here; the text says why."""


@dataclass(frozen=True)
class Contender:
    """A queue, ready to be measured: its Python, its module and the command of its worker."""

    name: str
    python: str
    program: str
    """Text of a module; FOLDER, SYNC and WIDTH in it stand for what a round says."""
    worker: tuple[str, ...]
    port: int = 0

    def prepare(self, folder: Path, survives: Survives, width: int) -> None:
        """Write its module into ``folder``."""
        values = {"FOLDER": repr(str(folder)), "WIDTH": str(width), "PORT": str(self.port)}
        full = survives == "power"
        values["SYNC"] = str(full) if self.name.startswith("huey") else _OUR_SYNC[survives]
        text = _WORK + self.program
        for name, value in values.items():
            text = text.replace(name, value)
        folder.mkdir(parents=True)
        (folder / "program.py").write_text(text)

    def command(self, width: int) -> list[str]:
        """What starts one worker process, which does ``width`` jobs at once."""
        command = [self.python, *(part.replace("WIDTH", str(width)) for part in self.worker)]
        # A pool of threads only costs where one job is done at a time.
        return [*command, "-P", "solo" if width == 1 else "threads"] if self.port else command


_OUR_SYNC = {"kill": repr("normal"), "power": repr("full")}
OURS = Contender(
    "ours", sys.executable, _OURS, ("-c", "import program as p; p.asyncio.run(p.serve())")
)


def _huey(name: str, program: str, folder: Path) -> Contender:
    worker = ("-m", "huey.bin.huey_consumer", "program.huey", "-w", "WIDTH", "-d", "0.01", "-n")
    return Contender(name, str(environment(folder)), program, (*worker, "-C", "-q"))


@contextlib.contextmanager
def huey(folder: Path, survives: Survives) -> Iterator[Contender]:
    """Acknowledged after the work by its own store: what is noted there is to be put again."""
    del survives  # its module says it
    yield _huey("huey + SQLite, acknowledged", _ACKNOWLEDGED, folder)


@contextlib.contextmanager
def huey_alone(folder: Path, survives: Survives) -> Iterator[Contender]:
    """As it is: a job leaves the queue before the work, and a killed worker has lost it."""
    del survives
    yield _huey("huey + SQLite, loses jobs", _HUEY, folder)


@contextlib.contextmanager
def celery(folder: Path, survives: Survives) -> Iterator[Contender]:
    """With a Redis of its own, whose append-only file is synced each second or at each write."""
    python = str(environment(folder))
    worker = ("-m", "celery", "-A", "program", "worker", "-c", "WIDTH", "-l", "error")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    with _redis(folder, "always" if survives == "power" else "everysec") as port:
        yield Contender("Celery + Redis", python, _CELERY, (*worker, *quiet), port)


def environment(folder: Path) -> Path:
    """The Python of a new environment with the peers; made once a folder."""
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
def _redis(folder: Path, sync: str) -> Iterator[int]:
    """The port of a new Redis that keeps its jobs in an append-only file."""
    program, variables = _redis_program(folder / "debian")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    place = folder / f"redis-{sync}"
    place.mkdir(exist_ok=True)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place)]
    command += ["--appendonly", "yes", "--appendfsync", sync]
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
    server = folder / "redis-server"
    if not server.exists():
        _unpack(folder, server)
    libraries = {str(path.parent) for path in (folder / "root").rglob("*.so*")}
    return str(server), {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}


def _unpack(folder: Path, server: Path) -> None:
    for name in DEBIAN:
        command = ["apt-get", "download", name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"apt-get download {name}: {done.stderr.strip().splitlines()[-1]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package.name, "root"], cwd=folder, check=True)
    program = folder / "root" / "usr" / "bin" / "redis-check-rdb"
    if not program.exists():
        raise Missing("Debian's package holds no redis-server")
    server.symlink_to(program.resolve())
