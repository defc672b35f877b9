"""An environment that holds a real Triton: its server comes inside the wheel of nvidia-pytriton.

Triton's Python backend runs one build of Python, of which it needs the shared library; that is the
system's own Python here, not the one that Weighbridge runs under.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from bench.errors import ConfigError

PYTHON = "/usr/bin/python3"
PYTRITON = "nvidia-pytriton==0.7.0"
"""Triton 2.51 (24.10). Newer wheels of it are not published."""

_IMAGE = (
    "Or run NVIDIA's image, `docker run -p 8000:8000 -v REPOSITORY:/models "
    "nvcr.io/nvidia/tritonserver:25.10-py3 tritonserver --model-repository=/models`, and name it "
    "with --target-url."
)


def default_environment(cache: Path) -> Path:
    """Where the environment of these versions is kept, whether it is there yet or not."""
    wanted = "\0".join((PYTHON, *_packages()))
    return cache / f"triton-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"


def ready_environment(folder: Path, say: Callable[[str], None]) -> Path:
    """``folder``, made now if need be: minutes, and more than a gigabyte with torch.

    ConfigError with pip's own last words when it cannot be made. Two callers make it once.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").is_file():
            return folder
        if not Path(PYTHON).exists():
            raise ConfigError(f"Triton needs {PYTHON}, which is not here. {_IMAGE}")
        say("Making an environment for Triton (once, some minutes) …")
        shutil.rmtree(folder, ignore_errors=True)
        _run([PYTHON, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *_packages()])
        _place_stub(folder)
        (folder / "complete").touch()
    return folder


def server_of(folder: Path) -> Path:
    """The folder of the server inside the environment; ConfigError when there is none."""
    found = sorted(folder.glob("lib/python3.*/site-packages/pytriton/tritonserver"))
    if not found:
        raise ConfigError(f"{folder} holds no nvidia-pytriton. Name another, or leave it to us.")
    return found[0]


def variables(folder: Path) -> dict[str, str]:
    """What the server's process needs in its environment."""
    packages = server_of(folder).parent.parent
    return {
        "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PYTHONPATH": str(packages),
    }


def _packages() -> list[str]:
    # The model is to meet the same torch as in our own server.
    return [
        PYTRITON,
        "numpy<2",
        "setuptools<81",
        f"safetensors=={version('safetensors')}",
        f"torch=={version('torch').partition('+')[0]}",
    ]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in errors if line.startswith("ERROR")), (errors or ["?"])[-1])
        raise ConfigError(f"No environment for Triton: `{' '.join(command)}`: {said}. {_IMAGE}")


def _place_stub(folder: Path) -> None:
    """Put the backend's program for this Python where the server looks for it."""
    server = server_of(folder)
    release = server.parent.parent.parent.name.removeprefix("python")
    stub = server / "python_backend_stubs" / release / "triton_python_backend_stub"
    if not stub.is_file():
        raise ConfigError(f"{PYTRITON} brings no backend for Python {release}. {_IMAGE}")
    placed = server / "backends" / "python" / stub.name
    shutil.copyfile(stub, placed)
    placed.chmod(0o755)
