import subprocess
import sys

import pytest

from bench.process import die_with_parent, peak_memory_bytes

CHILD = """
import os, sys
from bench.process import die_with_parent, peak_memory_bytes
die_with_parent(int(sys.argv[1]) or os.getppid())
sys.stdout.write("alive")
sys.stdout.flush()
sys.stdin.read()
"""
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {CHILD!r}, "0"], stdin=subprocess.PIPE)
"""


def test_nothing_happens_when_nobody_asked() -> None:
    """Without a parent's id the process stays its own master."""
    die_with_parent(None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_a_child_dies_with_its_parent() -> None:
    """When the parent is killed the kernel ends the child, the last writer of its output."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.read(5) == b"alive"
        parent.kill()
        assert parent.stdout.read() == b""  # end of file only once the child has gone, too


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_a_child_of_another_parent_ends_at_once() -> None:
    """A process whose starter is gone already does not stay behind."""
    done = subprocess.run([sys.executable, "-c", CHILD, "1"], stdin=subprocess.PIPE, check=False)
    assert done.returncode == -9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_the_memory_of_whoever_started_a_process_is_not_its_own() -> None:
    """Started from a process of more than 200 MB, a small one says that it is small."""
    held = bytearray(b"x") * (200 * 2**20)
    code = "from bench.process import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(done.stdout) < len(held) / 2 < peak_memory_bytes() / 2
