"""One ``weighbridge run``: the model and the payloads made ready, each option measured in turn."""

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.capacity import Capacity
from bench.capacity_search import find_capacity
from bench.config import Experiment
from bench.errors import ConfigError
from bench.measure import Model, Order, Watcher, measure
from bench.payload import MAX_BODY_BYTES
from bench.run import Run, read_run

MAX_PAYLOADS = 1000


@dataclass(frozen=True)
class Session:
    """What to measure, and the folder that takes it."""

    experiment: Experiment
    modes: list[str]
    model: Model
    payloads: list[Path]
    folder: Path
    command: str
    workers: int = 1
    """Processes that share the load."""


def measure_all(session: Session, watcher: Watcher) -> list[Run]:
    """Measure each mode, one after the other, into a folder of its own.

    KeyboardInterrupt is passed on when the processes have ended; `finished_runs` gives what is
    there.
    """
    return [
        measure(_order(session, mode), session.folder / mode, watcher) for mode in session.modes
    ]


def search_all(session: Session, watcher: Watcher) -> dict[str, Capacity]:
    """Look for the highest rate of each mode, one after the other; what was found so far is kept.

    Each mode's folder holds ``capacity.json`` and a run folder for each rate that was tried.
    """
    return {
        mode: find_capacity(_order(session, mode), session.folder / mode, watcher)
        for mode in session.modes
    }


def _order(session: Session, mode: str) -> Order:
    return Order(
        session.experiment.workload,
        session.experiment.targets[mode],
        session.model,
        session.payloads,
        session.command,
        session.workers,
    )


def finished_runs(folder: Path) -> list[Run]:
    """The runs in ``folder``, or the run that ``folder`` is; those with records only."""
    if (folder / "manifest.json").exists():
        return [read_run(folder)]
    parts = sorted(path.parent for path in folder.glob("*/requests.parquet"))
    return [read_run(part) for part in parts]


def new_folder(runs: Path, name: str) -> Path:
    """A folder for a session, named after its moment; ``latest`` beside it leads there."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = runs / f"{stamp}-{name}-{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True)
        link = runs / f".latest-{os.getpid()}"
        link.symlink_to(folder.name)
        os.replace(link, runs / "latest")
    except OSError as error:
        raise ConfigError(
            f"Cannot write to {runs}: {error.strerror}. Choose another place with --out."
        ) from error
    return folder


def payload_files(path: Path) -> list[Path]:
    """The files at ``path``, whose contents are sent; ConfigError when none, or too many."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ConfigError(f"--payload {path}: there is no such file, or the folder is empty.")
    largest = max(file.stat().st_size for file in files)
    if len(files) > MAX_PAYLOADS or largest > MAX_BODY_BYTES:
        raise ConfigError(
            f"--payload {path}: {len(files)} files of up to {largest:,} bytes; at most "
            f"{MAX_PAYLOADS} files of {MAX_BODY_BYTES:,} bytes each. Choose some of them."
        )
    return files


def sample_files(bodies: list[bytes], folder: Path) -> list[Path]:
    """The model's own samples written to ``folder``, a file each."""
    folder.mkdir(parents=True)
    files = [folder / f"{number:04}.json" for number in range(len(bodies[:MAX_PAYLOADS]))]
    for file, body in zip(files, bodies, strict=False):
        file.write_bytes(body)
    return files
