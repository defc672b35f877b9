"""One setting tried at several values: ``--sweep memory_mb=1024,2048``."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.documents import write_json
from bench.errors import ConfigError
from bench.run import Run, read_run
from bench.target import Lambda, Serverless

MODES = {"serverless": Serverless, "lambda": Lambda}
FILE = "sweep.json"
MOST_VALUES = 20


@dataclass(frozen=True)
class Sweep:
    """The option, its setting and the values, in ascending order."""

    mode: str
    key: str
    values: tuple[int, ...]

    def settings(self, value: int) -> str:
        """As ``--set`` takes it."""
        return f"{self.mode}.{self.key}={value}"

    def folder(self, value: int) -> str:
        """The name of the folder that takes the run of ``value``."""
        return f"{self.mode}-{self.key}-{value:05}"


def parse_sweep(text: str, modes: list[str]) -> Sweep:
    """The sweep that ``KEY=V1,V2`` asks for; ConfigError when it is none, or of no such option.

    ``modes`` are the options asked for; the sweep is of the one that it can be of.
    """
    wanted = [mode for mode in modes if mode in MODES]
    if len(wanted) != 1:
        raise ConfigError(
            f"--sweep {text}: a sweep is of one option. Choose --modes serverless or lambda."
        )
    mode = wanted[0]
    key, equals, listed = text.partition("=")
    key = key.strip().removeprefix(f"{mode}.")
    if key not in ("memory_mb", "max_concurrency", "provisioned_concurrency"):
        raise ConfigError(
            f"--sweep {text}: choose memory_mb, max_concurrency or provisioned_concurrency, for "
            "example --sweep memory_mb=1024,2048."
        )
    try:
        values = sorted({int(part) for part in listed.split(",") if part.strip()})
    except ValueError:
        values = []
    if not equals or not 2 <= len(values) <= MOST_VALUES:
        raise ConfigError(
            f"--sweep {text}: give from 2 to {MOST_VALUES} whole numbers, for example "
            f"{key}=1024,2048."
        )
    return Sweep(mode, key, tuple(values))


def write_sweep(sweep: Sweep, folder: Path) -> None:
    """Note in the session's folder what it is, so that its report can be made again."""
    write_json(folder / FILE, asdict(sweep))


def read_sweep(folder: Path) -> Sweep | None:
    """The sweep whose runs are in ``folder``; None when it holds something else."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Sweep(str(found["mode"]), str(found["key"]), tuple(map(int, found["values"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no sweep: {error!r}. Measure again.") from None


def sweep_runs(sweep: Sweep, folder: Path) -> list[tuple[int, Run]]:
    """Each value with its run, as far as they were measured."""
    return [
        (value, read_run(folder / sweep.folder(value)))
        for value in sweep.values
        if (folder / sweep.folder(value) / "requests.parquet").exists()
    ]
