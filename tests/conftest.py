"""What several test files share: the trained digits model, and tiny models made from a program."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from servers.digits.build import build
from tests.serving import close_clients

CACHE = Path(__file__).parent.parent / ".cache"
"""Stands for the user's own cache folder (XDG_CACHE_HOME)."""


@pytest.fixture(autouse=True)
def _connections_end() -> Iterator[None]:
    """No test leaves a connection to a server for the garbage collector to find in another."""
    yield
    close_clients()


@pytest.fixture(scope="session")
def digits_archive() -> Path:
    """The digits model's archive, trained once and kept for later runs of the tests."""
    return build(CACHE / "weighbridge")


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[str], Path]:
    """Writes ``<tmp_path>/model`` with the given program and returns the folder."""

    def write(program: str) -> Path:
        folder = tmp_path / "model"
        (folder / "code").mkdir(parents=True, exist_ok=True)
        (folder / "code" / "inference.py").write_text(textwrap.dedent(program), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def trace(tmp_path: Path) -> Callable[..., str]:
    """Writes lines to a file of a name and returns its path."""

    def write(lines: Sequence[str], name: str = "trace.csv") -> str:
        path = tmp_path / name
        path.write_bytes("".join(line + "\n" for line in lines).encode())
        return str(path)

    return write
