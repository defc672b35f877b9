"""How instances are held to their memory and CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from servers.limits import PREFIX, Caps, Cgroups, Group, Limiter, Rlimits, find_limiter

BUSY = """
import sys, time
sys.stdin.readline()
began = time.monotonic()
while time.monotonic() - began < 1.0:
    pass
print(time.process_time())
"""
HUNGRY = """
import sys
sys.stdin.readline()
print(len(bytearray(400 * 2**20)))
"""

needs_groups = pytest.mark.skipif(
    isinstance(find_limiter(), Rlimits), reason="no control groups may be made here"
)


def run(program: str, limiter: Limiter, caps: Caps, *arguments: str) -> tuple[str, int, bool]:
    """What the capped program printed, its exit status, whether memory ran out."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        group = limiter.hold(process.pid, caps)
        said, _ = process.communicate("go\n", timeout=60)
    killed = group.out_of_memory()
    group.release()
    return said, process.returncode, killed


@needs_groups
@pytest.mark.slow
def test_cpu_time_is_held_to_the_share() -> None:
    """A process that would use a whole core for a second gets three tenths of one."""
    said, _, _ = run(BUSY, find_limiter(), Caps(vcpus=0.3))
    assert 0.1 < float(said) < 0.5


@needs_groups
@pytest.mark.slow
def test_a_process_beyond_its_memory_is_killed_and_it_shows() -> None:
    """400 MB do not fit into 256, as they would not on SageMaker; they do into 1024."""
    said, status, killed = run(HUNGRY, find_limiter(), Caps(memory_mb=256))
    assert (said, status, killed) == ("", -9, True)
    said, status, killed = run(HUNGRY, find_limiter(), Caps(memory_mb=1024))
    assert (said.strip(), status, killed) == (str(400 * 2**20), 0, False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_without_control_groups_private_memory_is_capped() -> None:
    """The program gets a MemoryError of its own."""
    said, status, _ = run(HUNGRY, Rlimits(), Caps(memory_mb=256))
    assert (said, status) == ("", 1)


MAPPED = """
import mmap, sys, time
sys.stdin.readline()
with open(sys.argv[1], "rb") as file:
    weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    sum(weights[at] for at in range(0, len(weights), 4096))
    print("read", flush=True)
    time.sleep(60)
"""
IN_A_CHILD = """
import subprocess, sys, time
sys.stdin.readline()
hungry = "import time; kept = b'x' * (300 * 2**20); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", hungry]).wait()
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_the_watchdog_sees_mapped_weights(tmp_path: Path) -> None:
    """RLIMIT_DATA does not count a mapped file; the process is killed, and it shows."""
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(300 * 2**20))
    said, status, killed = run(MAPPED, Rlimits(), Caps(memory_mb=128), str(weights))
    assert (status, killed) == (-9, True), said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_the_watchdog_counts_what_a_process_starts() -> None:
    """300 MB in a child of its own are too many for 128."""
    _, status, killed = run(IN_A_CHILD, Watching(), Caps(memory_mb=128))
    assert (status, killed) == (-9, True)


class Watching(Rlimits):
    """The watchdog alone, as on a system that has no RLIMIT_DATA of running processes."""

    def hold(self, pid: int, caps: Caps) -> Group:
        return self._watchdog.watch(pid, (caps.memory_mb or 0) * 2**20)


@pytest.fixture
def made_by_hand(tmp_path: Path) -> Path:
    """Folders that stand for control groups."""
    (tmp_path / "groups").mkdir()
    return tmp_path / "groups"


@pytest.mark.parametrize(
    ("version", "files"),
    [
        (2, {"memory.max": str(1024 * 2**20), "cpu.max": "58000 100000"}),
        (
            1,
            {
                "memory.limit_in_bytes": str(1024 * 2**20),
                "cpu.cfs_period_us": "100000",
                "cpu.cfs_quota_us": "58000",
            },
        ),
    ],
)
def test_both_versions_write_their_own_files(
    made_by_hand: Path, version: int, files: dict[str, str]
) -> None:
    """Limits first, then the process is moved in."""
    Cgroups(version, made_by_hand, made_by_hand).hold(4711, Caps(1024, 0.58))
    [group] = made_by_hand.iterdir()
    written = {file.name: file.read_text() for file in group.iterdir()}
    assert written == {**files, "cgroup.procs": "4711"}


def test_what_a_killed_process_left_is_removed(made_by_hand: Path) -> None:
    """Groups of processes that are gone go; those of a living one stay."""
    (made_by_hand / f"{PREFIX}999999999-abc").mkdir()
    (made_by_hand / f"{PREFIX}{os.getpid()}-abc").mkdir()
    Cgroups(2, made_by_hand, made_by_hand)
    assert [group.name for group in made_by_hand.iterdir()] == [f"{PREFIX}{os.getpid()}-abc"]


def test_a_share_above_the_machines_cores_is_said() -> None:
    """It cannot be given, and the words lead to a doubt in the report."""
    cores = os.cpu_count() or 1
    said = Cgroups(2, Path("/nowhere"), Path("/nowhere")).describe(Caps(6144, cores + 1))
    assert said["cpu"] == f"not enforced: {cores + 1:.2f} vCPU, but this machine has {cores} cores"


def test_a_machine_without_groups_falls_back(tmp_path: Path) -> None:
    """Nothing to be found there: what a plain process can do remains."""
    found = find_limiter(tmp_path / "sys", tmp_path / "proc")
    assert isinstance(found, Rlimits)
    assert found.describe(Caps(1024, 0.58))["cpu"] == "CPU time is not capped"
