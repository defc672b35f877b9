import subprocess
import sys

import pytest

from bench.process import die_with_parent

CHILD = """
import os, sys
from bench.process import die_with_parent
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
