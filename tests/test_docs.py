"""The documents say what is there."""

import re
from pathlib import Path

import pytest

from bench.cli import cli
from bench.errors import FAILED, INCONCLUSIVE, INTERRUPTED, INVALID, PASSED, USAGE

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_in_the_readme(name: str) -> None:
    """A newcomer finds each of them, by itself or as a make target."""
    assert re.search(rf"(weighbridge|make) {name}\b", README)


@pytest.mark.parametrize("code", [PASSED, FAILED, USAGE, INCONCLUSIVE, INVALID, INTERRUPTED])
def test_every_exit_code_is_in_the_readme(code: int) -> None:
    """Each has a row of the table."""
    assert f"\n| {code} | " in README


DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
DOCUMENTS += [f"{room}/README.md" for room in ("servers", "scenarios", "reports")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    """Paths in backquotes and in links lead somewhere."""
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"`((?:bench|servers|scenarios|reports|tests)/[\w/.-]+)`", text)
    named += re.findall(r'open\("([^"]+)"', text)
    linked = re.findall(r"\]\(([\w./-]+)\)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [name for name in linked if not (ROOT / document).parent.joinpath(name).exists()]
    assert named + linked
    assert missing == []
