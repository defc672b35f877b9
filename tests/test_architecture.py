"""The rules of ARCHITECTURE.md that no linter holds: who imports whom, sizes, names, targets."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("servers", "scenarios", "reports")
PACKAGES = ("bench", *ROOMS)

NOUNS = {
    f"bench.{name}"
    for name in (
        *("errors", "arrivals", "workload", "target", "record"),
        *("deployment", "plan", "events", "run", "clock", "process", "config", "capacity"),
        *("loops", "payload", "stock", "bodies", "clients", "units"),
        *("scaling", "documents"),
    )
}
"""What a room may import of bench; the bare package, for the version, goes without saying."""

STANDARD_NAMES_ALLOWED = {
    "servers/profile.py": "servers start with `python -m servers`, which never puts this folder "
    "on the path, and nothing here uses the standard library's old profiler",
}

MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 400
MAX_PARAMETERS = 5

Sources = dict[str, str]
"""Text by path from the root, such as ``bench/run.py``."""


@pytest.fixture(scope="module")
def sources() -> Sources:
    """Every Python file of the four packages and the tests."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in (*PACKAGES, "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def module_name(path: str) -> str:
    """``bench/run.py`` is ``bench.run``; ``bench/__init__.py`` is ``bench``."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: str, sources: Sources) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, inside functions too."""
    modules = {module_name(each) for each in sources}
    for node in ast.walk(ast.parse(sources[path])):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = PurePosixPath(path).parts[: -node.level] if node.level else ()
            base = ".".join((*package, *([node.module] if node.module else [])))
            for alias in node.names:
                # `from bench import run` imports a module, `from bench import __version__` not.
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in modules else base


def why_forbidden(importer: str, imported: str) -> str | None:
    """The rule that this import breaks, in words; None when it may stand."""
    room, target = importer.split(".")[0], imported.split(".")[0]
    if target in ("locust", "gevent") and room != "scenarios":
        return "only scenarios import Locust and gevent, for these patch the interpreter"
    if room == "tests" or target not in PACKAGES:
        return None
    command = _is_command_line(importer)
    if _is_command_line(imported) and not command and importer != "bench.__main__":
        return "nothing imports the command line but bench.__main__"
    if command or target == room:
        return None
    if room == "bench":
        return "only the command line knows the rooms"
    if target != "bench":
        return f"{room} does not know {target}; they meet in the run folder"
    if imported not in NOUNS | {"bench"}:
        return f"{room} may import these of bench only: {', '.join(sorted(NOUNS))}"
    return None


def _is_command_line(module: str) -> bool:
    return module == "bench.cli" or f"{module}.".startswith("bench.commands.")


def broken_imports(sources: Sources) -> list[str]:
    """One line for each import that goes the wrong way."""
    return [
        f"{path}:{line}: imports {imported}; {reason}"
        for path in sources
        for line, imported in imports(path, sources)
        if (reason := why_forbidden(module_name(path), imported))
    ]


def oversized(sources: Sources) -> list[str]:
    """One line for each file or function that is too long or takes too much."""
    found = []
    for path, text in sources.items():
        if (lines := len(text.splitlines())) > MAX_FILE_LINES:
            found.append(f"{path}:{lines}: {lines} lines, at most {MAX_FILE_LINES}")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            where = f"{path}:{node.lineno}: {node.name}"
            if (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES:
                found.append(f"{where} has {lines} lines, at most {MAX_FUNCTION_LINES}")
            if (count := parameter_count(node)) > MAX_PARAMETERS:
                found.append(f"{where} has {count} parameters, at most {MAX_PARAMETERS}")
    return found


def parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many values a caller can give by name or place."""
    given = function.args
    every = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(every) - (every[:1] in (["self"], ["cls"]))


def borrowed_names(sources: Sources) -> list[str]:
    """One line for each module that hides one of the standard library."""
    return [
        f"{path}:1: hides the standard library's {PurePosixPath(path).stem} "
        "whenever its folder is on the path"
        for path in sources
        if PurePosixPath(path).stem in sys.stdlib_module_names
        and not path.startswith("tests/")
        and path not in STANDARD_NAMES_ALLOWED
    ]


def not_phony(makefile: str, folders: set[str]) -> list[str]:
    """One line for each target or folder that make could take for a file that is up to date."""
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)).split())
    targets = {
        target: number
        for number, line in enumerate(makefile.splitlines(), start=1)
        if (found := re.match(r"([a-z][a-z -]*):(?!=)", line))
        for target in found[1].split()
    }
    wrong = [f"Makefile:{targets[each]}: {each} is not phony" for each in targets.keys() - phony]
    wrong += [f"Makefile:1: the folder {each} is not phony" for each in folders - phony]
    return sorted(wrong)


def test_imports_go_one_way(sources: Sources) -> None:
    """Rooms know the nouns and themselves, and only the command line knows the rooms."""
    wrong = broken_imports(sources)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "line", "reason"),
    [
        ("servers/new.py", "from reports import page", "servers does not know reports"),
        ("servers/new.py", "def f():\n    import scenarios.bursts", "does not know scenarios"),
        ("scenarios/new.py", "from bench import cli", "nothing imports the command line"),
        ("reports/new.py", "from bench.cli import main", "nothing imports the command line"),
        ("reports/new.py", "from bench import bootstrap", "may import these of bench only"),
        ("bench/new.py", "from servers.wire import x", "only the command line knows the rooms"),
        ("bench/new.py", "from . import cli", "nothing imports the command line"),
        ("bench/new.py", "import gevent.monkey", "patch the interpreter"),
        ("tests/test_new.py", "from locust import task", "patch the interpreter"),
    ],
)
def test_a_wrong_import_is_found(path: str, line: str, reason: str) -> None:
    """Each rule about imports can fail, and says where and why."""
    known = {f"bench/{name}.py": "" for name in ("cli", "bootstrap", "run")}
    (message,) = broken_imports({**known, path: line})
    assert message.startswith(f"{path}:{1 + line.count(chr(10))}: ")
    assert reason in message


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("servers/new.py", "from bench import clock\nfrom servers import wire"),
        ("reports/new.py", "from bench import __version__\nfrom bench.run import read_run"),
        ("scenarios/new.py", "from locust import task\nimport gevent"),
        ("bench/cli.py", "import reports.page\nfrom servers import wire"),
        ("bench/__main__.py", "from bench.cli import main"),
        ("tests/test_new.py", "from bench.cli import main\nimport reports.page"),
    ],
)
def test_a_right_import_stands(path: str, line: str) -> None:
    """What the design allows is not reported."""
    known = {f"bench/{name}.py": "" for name in ("cli", "clock", "run")}
    assert broken_imports({**known, path: line}) == []


def test_functions_and_files_fit_on_a_screen_and_in_a_sitting(sources: Sources) -> None:
    """No function over 70 lines or five parameters, no file over 400 lines."""
    wrong = oversized(sources)
    assert not wrong, "\n".join(wrong)


def test_what_is_too_large_is_found() -> None:
    """Each rule about size can fail."""
    long_function = "def long():\n" + "    x = 1\n" * 70
    wide_function = "class C:\n    async def wide(self, a, b, /, c, *, d, e, f): ..."
    long_file = "x = 1\n" * 401
    bad = {"bench/a.py": long_function, "bench/b.py": wide_function, "bench/c.py": long_file}
    assert oversized(bad) == [
        "bench/a.py:1: long has 71 lines, at most 70",
        "bench/b.py:2: wide has 6 parameters, at most 5",
        "bench/c.py:401: 401 lines, at most 400",
    ]


def test_the_limits_themselves_are_allowed() -> None:
    """70 lines, five parameters beside self, and 400 lines may stand."""
    function = "def f(self, a, b, c, d, e, *args, **kwargs):\n" + "    x = 1\n" * 69
    assert oversized({"bench/a.py": function + "x = 1\n" * 330}) == []


def test_no_module_hides_one_of_the_standard_library(sources: Sources) -> None:
    """`locust -f` and the set-up put a room's folder first on the path."""
    wrong = borrowed_names(sources)
    assert not wrong, "\n".join(wrong)


def test_a_hidden_standard_module_is_found() -> None:
    """The rule about names can fail."""
    (message,) = borrowed_names({"reports/statistics.py": "", "reports/summary.py": ""})
    assert message.startswith("reports/statistics.py:1: ")


def test_each_exception_is_still_needed(sources: Sources) -> None:
    """An exception for a file that is gone is removed."""
    assert STANDARD_NAMES_ALLOWED.keys() <= sources.keys()


def test_every_target_is_phony() -> None:
    """A folder named like a target must not make it look up to date."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name in PACKAGES}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not_phony(makefile, folders | {"tests"}) == []


def test_a_target_that_is_not_phony_is_found() -> None:
    """The rule about targets can fail."""
    makefile = ".PHONY: test\nVERSION := 1\ntest: setup ## run\n\techo\nsetup:\n\techo\n"
    assert not_phony(makefile, {"bench"}) == [
        "Makefile:1: the folder bench is not phony",
        "Makefile:5: setup is not phony",
    ]


def make(*arguments: str) -> str:
    """What make prints."""
    command = ["make", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_help_is_the_default_and_lists_every_command() -> None:
    """`make` alone says what there is."""
    listed = set(re.findall(r"^  make ([a-z-]+) ", make(), re.MULTILINE))
    expected = "help setup bench test lint types check soak perf perf-gpu report up clean"
    assert listed == set(expected.split())


def test_make_bench_runs_although_a_folder_is_called_bench() -> None:
    """`make bench SCENARIO=…` sets up and then runs that scenario."""
    planned = make("--dry-run", "bench", "SCENARIO=steady", "ARGS=--seed 0").splitlines()
    assert planned[0].endswith("bench/bootstrap.py")
    assert planned[1].strip() == '.venv/bin/weighbridge run "steady" --seed 0'
