"""Sets up ``.venv`` for the Makefile, once: ``python bench/bootstrap.py``.

It runs before anything is installed, so it needs the standard library only, and it is written so
that Python 3.8 can still read it: an old interpreter gets a sentence instead of a syntax error.
What to do about torch is decided in `decide`, from facts; the rest of the file carries it out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 6)
OLDEST_PIP = "25.3"  # the first with both --group and --build-constraint
USAGE = 2  # `bench.errors.USAGE`, which cannot be imported yet
INTERRUPTED = 130

WISHES = ("auto", "cpu", "default", "installed")
CPU_REMEDY = (
    "For a small one, run `make setup TORCH=<address>` with the CPU index address that PyTorch's "
    "install page shows."
)

# Rough sizes in GB, to say beforehand and to check the disk: downloads, then disk once unpacked.
BASE_GB = (0.4, 1.4)
CPU_TORCH_GB = (0.2, 0.9)
CUDA_TORCH_GB = (3.0, 7.0)


class SetupError(Exception):
    """A reason why the set-up cannot go on, with its remedy, for the user."""


@dataclass(frozen=True)
class Offer:
    """The torch that pip would install."""

    version: str
    cuda: bool  # it brings NVIDIA's libraries along


@dataclass(frozen=True)
class Facts:
    """All that the choice of a torch depends on."""

    wish: str  # the variable TORCH
    pinned: str  # the version in constraints.txt
    installed: str | None = None  # torch of the base interpreter
    offer: Offer | None = None  # what pip would install


@dataclass(frozen=True)
class Plan:
    """What to install torch from, and what the whole set-up costs."""

    torch: str  # the exact requirement that holds for everything installed afterwards
    system_site: bool  # the environment sees the base interpreter's packages
    index: str | None  # take torch from this package index
    download_gb: float
    disk_gb: float
    notes: tuple[str, ...]  # to be said before anything is downloaded


def uses_installed(wish: str, installed: str | None) -> bool:
    """Whether the base interpreter's torch is the one to use."""
    if wish == "auto":
        return fits(installed)
    if wish != "installed":
        return False
    if not fits(installed):
        found = f"torch {installed}" if installed else "no torch"
        raise SetupError(
            f"TORCH=installed, but {sys.executable} has {found}; 2.6 or newer is needed. "
            "Install one there, name another interpreter with PYTHON=…, or leave TORCH unset."
        )
    return True


def fits(version: str | None) -> bool:
    """Whether this torch is new enough."""
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST_TORCH


def requirements_to_try(wish: str, pinned: str) -> tuple[str, ...]:
    """What to ask pip for, in this order; the first that it offers is installed."""
    plain = f"torch=={pinned}"
    # Where several builds are offered pip prefers the CUDA ones: "cu128" sorts after "cpu".
    return (f"{plain}+cpu", plain) if wish in ("auto", "cpu") else (plain,)


def decide(facts: Facts) -> Plan:
    """What to do about torch; SetupError where the wish cannot be met."""
    if uses_installed(facts.wish, facts.installed):
        note = f"Torch: {facts.installed}, which {sys.executable} already has."
        return Plan(f"torch=={facts.installed}", True, None, *BASE_GB, (note,))
    offer = facts.offer
    if offer is None:
        raise SetupError(
            f"pip is offered no torch {facts.pinned} for {platform.platform(terse=True)} and "
            f"Python {platform.python_version()}. Install torch 2.6 or newer for this interpreter "
            "and run `make setup TORCH=installed`, or name another interpreter with PYTHON=…."
        )
    if offer.cuda and facts.wish == "cpu":
        raise SetupError(
            f"TORCH=cpu, but pip is offered torch {offer.version} with CUDA only. {CPU_REMEDY}"
        )
    index = facts.wish if facts.wish not in WISHES else None
    torch_download, torch_disk = CUDA_TORCH_GB if offer.cuda else CPU_TORCH_GB
    download_gb, disk_gb = BASE_GB[0] + torch_download, BASE_GB[1] + torch_disk
    notes = [f"Torch: {offer.version}, {'with CUDA' if offer.cuda else 'for the CPU'}."]
    if offer.cuda:
        notes.append(
            f"WARNING: torch with CUDA is about {torch_download:.0f} GB to download and "
            f"{torch_disk:.0f} GB on disk, and Weighbridge does not need it. {CPU_REMEDY}"
        )
    return Plan(f"torch=={offer.version}", False, index, download_gb, disk_gb, tuple(notes))


def needs_cuda(requirements: list[str], system: str, machine: str) -> bool:
    """Whether a torch with these dependencies brings NVIDIA's libraries to this machine."""
    return system == "Linux" and any(
        re.match(r"(nvidia|cuda|triton)\b", requirement)
        and ("platform_machine" not in requirement or machine in requirement)
        for requirement in requirements
    )


def check_wish(wish: str) -> None:
    """SetupError unless ``wish`` is a known word or the address of a package index."""
    if wish not in WISHES and not wish.startswith(("http://", "https://", "file://")):
        raise SetupError(
            f"TORCH={wish} is not known. Use one of {', '.join(WISHES)}, "
            "or the address of a package index."
        )


def check_python(version: tuple[int, int], missing: list[str]) -> None:
    """SetupError when the interpreter is too old or lacks what makes an environment."""
    name = "python{}.{}".format(*version)
    if version < OLDEST_PYTHON:
        raise SetupError(
            f"Weighbridge needs Python 3.11 or newer; {sys.executable} is {name}. "
            "Install one, or name one that is there: `make setup PYTHON=python3.11`."
        )
    if missing:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments ({', '.join(missing)} missing). "
            f"On Debian and Ubuntu: `apt install {name}-venv`."
        )


def shortage(needs_gb: dict[Path, float], free_gb: dict[Path, float]) -> str | None:
    """A sentence about the first place that has too little room; None when all have enough."""
    for place, need in needs_gb.items():
        if free_gb[place] < need:
            return (
                f"The set-up needs about {need:.1f} GB in {place}, and {free_gb[place]:.1f} GB are "
                "free. Make room there (TMPDIR moves the temporary files), and run it again."
            )
    return None


REMEDIES = (
    ("No space left", "The disk is full. Make room and run the same command again."),
    (
        "(?i)NewConnection|name resolution|Max retries|timed? ?out|ProxyError|SSLError|unreachable",
        "The package index cannot be reached. Check the network, the proxy (HTTPS_PROXY) and "
        "pip's own settings (`pip config list`), and run the same command again.",
    ),
    (
        "No matching distribution|Could not find a version",
        "The package index does not offer that version for this interpreter. Another one may do: "
        "`make setup PYTHON=python3.11`.",
    ),
    ("(?i)match the hashes", "A download was damaged. Run the same command again."),
)


def remedy_for(output: str) -> str:
    """What to do about a failed pip that said ``output``."""
    for pattern, remedy in REMEDIES:
        if re.search(pattern, output):
            return remedy
    return "Remove .venv and run the same command again; the log holds all that pip said."


def fingerprint(wish: str, root: Path) -> str:
    """Changes whenever a finished set-up would come out differently."""
    parts = [(root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    # The path is part of it because the scripts of an environment hold it.
    parts += [wish.encode(), sys.version.encode(), sys.executable.encode(), bytes(root)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def read_stamp(venv: Path) -> dict[str, str]:
    """What the last set-up noted: the wish, and the fingerprint if it was finished."""
    try:
        found = json.loads((venv / "weighbridge-setup.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_stamp(venv: Path, wish: str, finished: str) -> None:
    """Note the wish, and the fingerprint of a finished set-up (empty: not finished)."""
    text = json.dumps({"torch": wish, "finished": finished})
    (venv / "weighbridge-setup.json").write_text(text, encoding="utf-8")


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def base_torch() -> str | None:
    """The version of the torch that the base interpreter can import."""
    # A venv made from inside a venv sees the packages of the interpreter below, so ask that one.
    python = getattr(sys, "_base_executable", sys.executable)
    command = [python, "-c", "import torch; print(torch.__version__)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


class Environment:
    """The virtual environment, and pip inside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.log = folder / "setup.log"

    def make(self, system_site: bool) -> None:
        """Create the environment, or keep the one that is there if it is of use."""
        command = [sys.executable, "-m", "venv", str(self.folder)]
        command += ["--system-site-packages"] if system_site else []
        if self.folder.exists() and not self.is_usable():
            say(f"Replacing {self.folder}: it is broken, moved or of another Python.")
            command.append("--clear")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupError(
                f"{self.folder} cannot be created:\n{(done.stdout + done.stderr).strip()}\n"
                f"Check that {self.folder.parent} can be written to and that there is room."
            )

    def is_usable(self) -> bool:
        """Whether it was made here, by this version of Python, and its pip answers."""
        try:
            settings = (self.folder / "pyvenv.cfg").read_text(encoding="utf-8")
        except OSError:
            return False
        made_here = str(self.folder) in settings
        same_version = re.search(r"version = {}\.{}\b".format(*sys.version_info), settings)
        if not (made_here and same_version and self.python.exists()):
            return False
        command = [str(self.python), "-m", "pip", "--version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def pip(self, *arguments: str) -> None:
        """Run pip, show its large downloads; SetupError with its last lines when it fails."""
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments]
        last: deque[str] = deque(maxlen=15)
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with process, self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            for line in process.stdout or ():
                log.write(line)
                last.append(line)
                if re.search(r"Downloading .*\((\d\d+\.\d MB|.* GB)\)", line):
                    say("  " + line.strip())
                elif line.startswith("Installing collected packages"):
                    say(f"  Installing; packages: {line.count(',') + 1}")
        if process.returncode:
            output = "".join(last)
            raise SetupError(f"pip failed:\n{output}\n{remedy_for(output)}\nLog: {self.log}")

    def offer(self, requirement: str, index: str | None) -> Offer | None:
        """What pip would install for ``requirement``; None when it is offered nothing."""
        command = [str(self.python), "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--no-deps", "--quiet", "--retries", "1", "--report", "-", requirement]
        command += ["--index-url", index] if index else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            remedy = remedy_for(done.stderr)
            if "cannot be reached" in remedy:
                raise SetupError(f"pip failed:\n{done.stderr.strip()[-1500:]}\n{remedy}")
            return None
        found = json.loads(done.stdout)["install"][0]["metadata"]
        requirements = found.get("requires_dist", [])
        cuda = needs_cuda(requirements, platform.system(), platform.machine())
        return Offer(found["version"], cuda)


def check_room(plan: Plan, venv: Path) -> None:
    """SetupError when the disk cannot hold what ``plan`` will write."""
    there_gb = sum(file.lstat().st_size for file in venv.rglob("*")) / 1e9
    needs = {venv.parent: max(plan.disk_gb - there_gb, 0.0)}
    temporary = Path(tempfile.gettempdir())  # pip unpacks only when all is downloaded
    same_disk = temporary.stat().st_dev == venv.parent.stat().st_dev
    place = venv.parent if same_disk else temporary
    needs[place] = needs.get(place, 0.0) + (plan.download_gb if there_gb < 1 else 0.0)
    problem = shortage(needs, {place: shutil.disk_usage(place).free / 1e9 for place in needs})
    if problem:
        raise SetupError(problem)


def pinned_torch(constraints: str) -> str:
    """The version of torch in the text of constraints.txt."""
    found = re.search(r"^torch==(\S+)$", constraints, re.MULTILINE)
    if found is None:
        raise SetupError("constraints.txt pins no torch; add a line such as torch==2.13.0.")
    return found[1]


def install(environment: Environment, plan: Plan, constraints: str) -> None:
    """Install what ``plan`` says into the environment."""
    pins = environment.folder / "constraints.txt"
    pins.write_text(
        re.sub(r"^torch==.*$", plan.torch, constraints, flags=re.MULTILINE), encoding="utf-8"
    )
    if plan.index:
        # On its own, so that nothing else comes from an index that the user named for torch only.
        environment.pip("install", "--no-deps", "--index-url", plan.index, plan.torch)
    environment.pip(
        *("install", "-c", str(pins), "--build-constraint", str(pins)),
        *("--group", "dev", "-e", "."),
    )


def set_up(wish: str, venv: Path) -> None:
    """Make the environment what pyproject.toml, constraints.txt and ``wish`` ask for."""
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = pinned_torch(constraints)
    say(f"Setting up {venv} with {sys.executable} (once; a few minutes).")
    installed = base_torch() if wish in ("auto", "installed") else None
    environment = Environment(venv)
    environment.make(uses_installed(wish, installed))
    write_stamp(venv, wish, "")
    environment.log.write_text("", encoding="utf-8")
    environment.pip("install", "--retries", "2", f"pip>={OLDEST_PIP}")
    offer = None
    if not uses_installed(wish, installed):
        index = wish if wish not in WISHES else None
        asked = requirements_to_try(wish, pinned)
        offer = next(filter(None, (environment.offer(each, index) for each in asked)), None)
    plan = decide(Facts(wish, pinned, installed, offer))
    for note in plan.notes:
        say(note)
    check_room(plan, venv)
    say(
        f"Installing the versions of constraints.txt: up to {plan.download_gb:.1f} GB to download, "
        f"{plan.disk_gb:.1f} GB on disk, all of it in {venv}."
    )
    install(environment, plan, constraints)
    write_stamp(venv, wish, fingerprint(wish, ROOT))
    say("Set up.")


def main() -> int:
    """Set up what is missing; the exit code."""
    venv = ROOT / ".venv"
    try:
        missing = [name for name in ("venv", "ensurepip") if not importlib.util.find_spec(name)]
        check_python(sys.version_info[:2], missing)
        stamp = read_stamp(venv)
        # Without a wish the last one stands, or `make test` would undo `make setup TORCH=cpu`.
        wish = os.environ.get("TORCH") or stamp.get("torch") or "auto"
        check_wish(wish)
        finished = stamp.get("finished") == fingerprint(wish, ROOT)
        if not (finished and (venv / "bin" / "weighbridge").exists()):
            set_up(wish, venv)
    except SetupError as error:
        print(f"weighbridge set-up: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("weighbridge set-up: interrupted; run it again to go on.", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
