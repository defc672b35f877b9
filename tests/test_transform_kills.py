"""Batch jobs whose processes are killed: what comes out is what an undisturbed run gives.

``WEIGHBRIDGE_KILLS=100`` is the nightly form.
"""

import contextlib
import itertools
import os
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from bench.children import start_servers, wait_for_servers
from tests.serving import Serving
from tests.transforming import Transforming, deployment, write_model

KILLS = int(os.environ.get("WEIGHBRIDGE_KILLS", "10"))
OBJECTS, LINES = 8, 12
DEADLINE_S = 60 + 20 * KILLS
AT_MOST_S = 0.4
"""Seconds of undisturbed work between two kills."""
DECK = ("server", "container", "agent", "container", "agent")
"""What is killed, in a random order: a server takes longest to come back."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(DEADLINE_S)]


def content(number: int) -> bytes:
    return b"".join(b"slow %d of %d\n" % (line, number) for line in range(LINES))


def victims(server: Serving) -> dict[str, list[psutil.Process]]:
    """The processes of a job by kind."""
    kinds: dict[str, list[psutil.Process]] = {"server": [psutil.Process(server.child.pid)]}
    for process in psutil.Process(server.child.pid).children():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if "model_server" in command:
                kinds.setdefault("container", []).append(process)
            elif "spawn_main" in command:
                kinds.setdefault("agent", []).append(process)
    return kinds


@dataclass
class Killing:
    """What is to be killed yet, and how often what was."""

    chance: random.Random
    left: int = KILLS
    killed: Counter[str] = field(default_factory=Counter)
    _deck: list[str] = field(default_factory=list)

    def kill(self, server: Serving) -> str:
        """Kill one kind of process; which."""
        if not self._deck:
            self._deck = self.chance.sample(DECK, len(DECK))
        kind = self._deck.pop()
        for process in victims(server).get(kind, []):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                self.killed[kind] += 1
                self.left -= 1
        return kind


def test_killed_jobs_give_what_undisturbed_ones_do(tmp_path: Path) -> None:
    """Server, agents and containers are killed at random moments; not one byte differs."""
    killing = Killing(random.Random(KILLS))
    config = deployment(write_model(tmp_path / "model"), tmp_path, max_restarts=1000)
    (tmp_path / "server").mkdir()
    deadline = time.monotonic() + DEADLINE_S
    jobs, status = itertools.count(1), ""
    name = f"job-{next(jobs)}"
    while killing.left > 0 or not status:
        assert time.monotonic() < deadline, f"{name} did not end; {killing}"
        child = start_servers(config, tmp_path / "server")
        try:
            ready = wait_for_servers(child)
            site = Transforming(Serving(ready["address"], ready, child), tmp_path / "buckets")
            while status := disturb(site, name, killing):
                assert status == "Completed"
                check(tmp_path, name)
                if killing.left <= 0:
                    break
                name = f"job-{next(jobs)}"
        finally:
            child.stop()
    assert set(killing.killed) == set(DECK), killing


def disturb(site: Transforming, name: str, killing: Killing) -> str:
    """Work on the job, killing now and then, until it ends or the server is killed: then none."""
    client = site.client()
    if not client.list_transform_jobs(NameContains=name)["TransformJobSummaries"]:
        for number in range(OBJECTS):
            site.put(f"data/{name}/in/{number}", content(number))
        site.run(name, wait=False, BatchStrategy="SingleRecord", MaxConcurrentTransforms=2)
    while True:
        until = time.monotonic() + killing.chance.random() * AT_MOST_S
        while time.monotonic() < until:
            status: str = client.describe_transform_job(TransformJobName=name)["TransformJobStatus"]
            if status != "InProgress":
                return status
        if killing.left > 0 and killing.kill(site.server) == "server":
            return ""


def check(folder: Path, name: str) -> None:
    """Every output is whole, and nothing else is there."""
    outputs = folder / "buckets" / "data" / name / "out"
    assert {path.name for path in outputs.iterdir()} == {f"{n}.out" for n in range(OBJECTS)}
    for number in range(OBJECTS):
        expected = b"".join(b"[%s]\n" % line for line in content(number).splitlines())
        assert (outputs / f"{number}.out").read_bytes() == expected
    done = (folder / "data" / "jobs" / name / "done.jsonl").read_bytes().splitlines()
    assert len(done) == OBJECTS, "a finished object was done again"
    shutil.rmtree(outputs)
