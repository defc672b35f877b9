"""The set-up: what it decides about torch, when it refuses, when it has nothing to do."""

import ast
import sys
from pathlib import Path

import pytest

from bench import bootstrap
from bench.bootstrap import Facts, Offer, SetupError, decide
from bench.errors import INTERRUPTED, USAGE

CPU = Offer("2.13.0+cpu", cuda=False)
PLAIN = Offer("2.13.0", cuda=False)
CUDA = Offer("2.13.0", cuda=True)
INDEX = "https://torch.example/whl/cpu"


@pytest.mark.parametrize(
    ("facts", "torch", "system_site", "index"),
    [
        # An installed torch that is new enough wins, whatever pip is offered.
        (Facts("auto", "2.13.0", "2.6.0", CUDA), "torch==2.6.0", True, None),
        (Facts("auto", "2.13.0", "2.10.1+cu128", None), "torch==2.10.1+cu128", True, None),
        (Facts("installed", "2.13.0", "3.0.0", CPU), "torch==3.0.0", True, None),
        # One that is too old, or that could not be imported, does not.
        (Facts("auto", "2.13.0", "2.5.1", CPU), "torch==2.13.0+cpu", False, None),
        (Facts("auto", "2.13.0", None, CPU), "torch==2.13.0+cpu", False, None),
        # Without a CPU build, auto takes what there is.
        (Facts("auto", "2.13.0", None, PLAIN), "torch==2.13.0", False, None),
        (Facts("auto", "2.13.0", None, CUDA), "torch==2.13.0", False, None),
        # The other wishes ignore an installed one.
        (Facts("cpu", "2.13.0", "2.12.0", CPU), "torch==2.13.0+cpu", False, None),
        (Facts("cpu", "2.13.0", None, PLAIN), "torch==2.13.0", False, None),
        (Facts("default", "2.13.0", "2.12.0", CUDA), "torch==2.13.0", False, None),
        (Facts(INDEX, "2.13.0", "2.12.0", CPU), "torch==2.13.0+cpu", False, INDEX),
    ],
)
def test_the_wish_and_the_offer_decide(
    facts: Facts, torch: str, system_site: bool, index: str | None
) -> None:
    """The plan follows from the facts alone."""
    plan = decide(facts)
    assert (plan.torch, plan.system_site, plan.index) == (torch, system_site, index)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            Facts("cpu", "2.13.0", None, CUDA),
            "TORCH=cpu, but pip is offered torch 2.13.0 with CUDA",
        ),
        (Facts("installed", "2.13.0", None, CPU), "has no torch; 2.6 or newer is needed"),
        (Facts("installed", "2.13.0", "2.5.9", CPU), "has torch 2.5.9; 2.6 or newer is needed"),
        (Facts("auto", "2.13.0", None, None), "pip is offered no torch 2.13.0"),
        (Facts(INDEX, "2.13.0", "2.12.0", None), "pip is offered no torch 2.13.0"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(facts: Facts, sentence: str) -> None:
    """The refusal says what was wished, what was found and what to do."""
    with pytest.raises(SetupError, match=r"TORCH=|PYTHON=") as refused:
        decide(facts)
    assert sentence in str(refused.value)


def test_gigabytes_are_announced() -> None:
    """A torch with CUDA is called large beforehand, with the way round it; a small one is not."""
    large, small = (
        decide(Facts("auto", "2.13.0", None, CUDA)),
        decide(Facts("cpu", "2.13.0", None, CPU)),
    )
    assert any("about 3 GB" in note and "TORCH=" in note for note in large.notes)
    assert not any("WARNING" in note for note in small.notes)
    assert large.disk_gb > 3 * small.disk_gb


def test_an_installed_torch_costs_nothing() -> None:
    """With the base interpreter's torch only the rest is downloaded."""
    assert decide(Facts("auto", "2.13.0", "2.9.0")).download_gb == bootstrap.BASE_GB[0]


def test_a_cpu_build_is_asked_for_by_name() -> None:
    """pip would prefer a CUDA build where both are offered."""
    assert bootstrap.requirements_to_try("auto", "2.13.0") == ("torch==2.13.0+cpu", "torch==2.13.0")
    assert bootstrap.requirements_to_try("default", "2.13.0") == ("torch==2.13.0",)


@pytest.mark.parametrize(
    ("requirement", "system", "machine", "expected"),
    [
        ("nvidia-cublas==13.1; platform_system == 'Linux'", "Linux", "x86_64", True),
        ("nvidia-nccl; platform_machine == 'x86_64'", "Linux", "x86_64", True),
        ("nvidia-nccl; platform_machine == 'x86_64'", "Linux", "aarch64", False),
        ("cuda-bindings>=13", "Linux", "x86_64", True),
        ("triton==3.7; platform_system == 'Linux'", "Darwin", "arm64", False),
        ("sympy>=1.13.3", "Linux", "x86_64", False),
        ("tritonclient", "Linux", "x86_64", False),
    ],
)
def test_cuda_is_seen_in_the_dependencies(
    requirement: str, system: str, machine: str, expected: bool
) -> None:
    """A torch that brings NVIDIA's libraries to this machine is the large one."""
    assert bootstrap.needs_cuda(["filelock", requirement], system, machine) is expected


@pytest.mark.parametrize("wish", ["auto", "cpu", "default", "installed", INDEX])
def test_a_known_wish_is_taken(wish: str) -> None:
    """The words and any address of an index are wishes."""
    bootstrap.check_wish(wish)


def test_an_unknown_wish_is_refused() -> None:
    """A typing error is named, with what would do."""
    with pytest.raises(SetupError, match=r"TORCH=gpu is not known\. Use one of auto, cpu"):
        bootstrap.check_wish("gpu")


def test_an_old_interpreter_is_refused() -> None:
    """Python 3.10 gets a sentence with the remedy."""
    with pytest.raises(SetupError, match=r"needs Python 3\.11 .*3\.10.*make setup PYTHON="):
        bootstrap.check_python((3, 10), [])


def test_an_old_interpreter_can_read_the_file() -> None:
    """The sentence is useless if Python 3.8 stops at a syntax error."""
    source = Path(bootstrap.__file__).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))
    with pytest.raises(SyntaxError):
        ast.parse("match 1:\n    case _: pass", feature_version=(3, 8))


def test_debian_without_ensurepip_is_told_which_package() -> None:
    """Debian splits venv off, under the interpreter's own version."""
    with pytest.raises(SetupError, match=r"ensurepip missing.*apt install python3\.12-venv"):
        bootstrap.check_python((3, 12), ["ensurepip"])


def test_a_good_interpreter_passes() -> None:
    """The oldest supported one is good enough."""
    bootstrap.check_python((3, 11), [])


def test_a_full_disk_is_seen_beforehand() -> None:
    """The sentence names the place, the need and what is free."""
    here, there = Path("/here"), Path("/there")
    problem = bootstrap.shortage({here: 1.0, there: 2.5}, {here: 1.5, there: 2.0})
    assert problem is not None
    assert problem.startswith("The set-up needs about 2.5 GB in /there, and 2.0 GB are free.")
    assert bootstrap.shortage({here: 1.0}, {here: 1.0}) is None


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("NewConnectionError(...) ERROR: No matching distribution found", "cannot be reached"),
        ("ERROR: No matching distribution found for numpy==2.4.6", "does not offer that version"),
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "damaged"),
        ("error: metadata-generation-failed", "Remove .venv"),
    ],
)
def test_a_failed_pip_has_a_remedy(output: str, remedy: str) -> None:
    """What pip said decides what the user is told to do."""
    assert remedy in bootstrap.remedy_for(output)


def test_the_fingerprint_follows_what_it_is_made_of(tmp_path: Path) -> None:
    """A changed file or wish means another set-up; the same means none."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("", encoding="utf-8")
    first = bootstrap.fingerprint("auto", tmp_path)
    assert bootstrap.fingerprint("auto", tmp_path) == first
    assert bootstrap.fingerprint("cpu", tmp_path) != first
    (tmp_path / "constraints.txt").write_text("numpy==2", encoding="utf-8")
    assert bootstrap.fingerprint("auto", tmp_path) != first


def test_a_stamp_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The wish outlives a set-up that was not finished; rubbish counts as no stamp."""
    assert bootstrap.read_stamp(tmp_path) == {}
    bootstrap.write_stamp(tmp_path, "cpu", "")
    assert bootstrap.read_stamp(tmp_path) == {"torch": "cpu", "finished": ""}
    (tmp_path / "weighbridge-setup.json").write_text('{"torch": ', encoding="utf-8")
    assert bootstrap.read_stamp(tmp_path) == {}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with a finished set-up whose last wish was cpu."""
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.delenv("TORCH", raising=False)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("", encoding="utf-8")
    command = tmp_path / ".venv" / "bin" / "weighbridge"
    command.parent.mkdir(parents=True)
    command.touch()
    finished = bootstrap.fingerprint("cpu", tmp_path)
    bootstrap.write_stamp(tmp_path / ".venv", "cpu", finished)
    return tmp_path


@pytest.mark.usefixtures("tree")
def test_a_finished_set_up_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a wish the last one stands, so nothing is to be done and nothing is said."""
    assert bootstrap.main() == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("damage", ["wish", "command", "stamp", "constraints"])
def test_a_set_up_that_does_not_fit_is_done_again(
    tree: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another wish, a missing command, an unfinished set-up or new pins start it."""
    done = []
    monkeypatch.setattr(bootstrap, "set_up", lambda wish, venv: done.append((wish, venv)))
    if damage == "wish":
        monkeypatch.setenv("TORCH", "default")
    elif damage == "command":
        (tree / ".venv" / "bin" / "weighbridge").unlink()
    elif damage == "stamp":
        bootstrap.write_stamp(tree / ".venv", "cpu", "")
    else:
        (tree / "constraints.txt").write_text("numpy==2", encoding="utf-8")
    assert bootstrap.main() == 0
    assert done == [("default" if damage == "wish" else "cpu", tree / ".venv")]


@pytest.mark.usefixtures("tree")
def test_a_refusal_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence on stderr and the exit code of a wrong usage."""
    monkeypatch.setenv("TORCH", "gpu")
    assert bootstrap.main() == USAGE
    assert capsys.readouterr().err.startswith("weighbridge set-up: TORCH=gpu is not known")


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    """The set-up cannot import them, so this holds them together."""
    assert (bootstrap.USAGE, bootstrap.INTERRUPTED) == (USAGE, INTERRUPTED)


def test_an_environment_made_elsewhere_is_not_used(tmp_path: Path) -> None:
    """The scripts of a copied environment would run the original."""
    settings = tmp_path / "pyvenv.cfg"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/bin/true")
    version = ".".join(map(str, sys.version_info[:3]))
    settings.write_text(f"version = {version}\ncommand = … -m venv {tmp_path}", encoding="utf-8")
    assert bootstrap.Environment(tmp_path).is_usable()
    settings.write_text(f"version = {version}\ncommand = … -m venv /other", encoding="utf-8")
    assert not bootstrap.Environment(tmp_path).is_usable()
    settings.write_text(f"version = 3.1.0\ncommand = … -m venv {tmp_path}", encoding="utf-8")
    assert not bootstrap.Environment(tmp_path).is_usable()


def test_the_pinned_torch_carries_no_build() -> None:
    """Which build to take is decided on each machine."""
    text = (bootstrap.ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "+" not in bootstrap.pinned_torch(text)
    with pytest.raises(SetupError, match="pins no torch"):
        bootstrap.pinned_torch("numpy==2.4.6\n")
