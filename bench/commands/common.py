"""What several commands need: the model made ready, the options checked, the prices read."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

import scenarios
from bench.arrivals import Arrivals
from bench.config import Experiment
from bench.errors import ConfigError
from bench.loops import Closed, Users
from bench.measure import Model
from bench.target import DEFAULT_MODES, TARGETS, Triton, Url
from bench.together import Together

SCENARIOS = Path(scenarios.__file__).parent
PATH = click.Path(path_type=Path)
PRICES_HELP = "Your own price table (TOML), whole or only what differs."
SPEED_HELP = "Model time on AWS over model time here, see `calibrate`. Default: the price table's."
MODEL_HELP = "A model.tar.gz or folder in SageMaker's layout. Default: the built-in digits model."


ANSWERING = ("realtime", "serverless")
"""The options that answer POST /invocations, as an ordinary Locust file expects it."""


def plain_console() -> Console:
    """Prints texts as they are: what a user named [bold] stays that."""
    return Console(highlight=False, markup=False)


DEVICE_HELP = "Where models with an accelerator compute: auto, cpu, cuda or cuda:N. Default: auto."


def device_settings(device: str | None) -> tuple[str, ...]:
    """The settings that ``--device`` stands for."""
    if device is None:
        return ()
    return tuple(f"{mode}.device={device}" for mode in ("realtime", "triton"))


def peers_of(
    names: tuple[str, ...], address: str | None, experiment: Experiment, console: Console
) -> Experiment:
    """The experiment with the peers that are asked for made ready; ConfigError if one cannot be."""
    targets = dict(experiment.targets)
    if address is not None:
        targets["url"] = msgspec.structs.replace(targets["url"], address=address)
    if "triton" in names:
        from servers.triton.environment import default_environment, ready_environment

        triton = targets["triton"]
        assert isinstance(triton, Triton)
        if not triton.environment:
            folder = ready_environment(
                default_environment(cache_folder()), lambda text: console.print(text)
            )
            targets["triton"] = msgspec.structs.replace(triton, environment=str(folder))
    return replace(experiment, targets=targets)


def checked_modes(text: str, experiment: Experiment) -> list[str]:
    """The options to measure, in order; ConfigError when one is unknown or breaks a limit.

    Without a ``text`` it is those that fit: a dataset is a batch job; requests that each need an
    answer are no batch job, unless they are asked to be.
    """
    from servers.profile import profile_for

    text = text or ",".join(_fitting(experiment))
    modes = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [mode for mode in modes if mode not in TARGETS]
    if unknown or not modes:
        raise ConfigError(f"--modes {text}: choose from {', '.join(TARGETS)}, separated by commas.")
    _check_loops(modes, experiment.workload.arrivals)
    for mode in modes:
        target = experiment.targets[mode]
        assert not isinstance(target, Triton | Url)
        profile_for(target)
    return modes


def _check_loops(modes: list[str], arrivals: Arrivals) -> None:
    """ConfigError for users that an option cannot serve."""
    if isinstance(arrivals, Closed) and "batch" in modes:
        raise ConfigError(
            "--modes batch: users of a closed loop wait for each answer before they send again, so "
            "their requests cannot be gathered into jobs. Leave batch out, or change arrivals."
        )
    waiting = [mode for mode in modes if mode not in ANSWERING]
    if isinstance(arrivals, Users) and waiting:
        raise ConfigError(
            f"--modes {','.join(waiting)}: a Locust file of one's own waits for each answer, so it "
            f"can be measured with {' and '.join(ANSWERING)} only."
        )


def _fitting(experiment: Experiment) -> list[str]:
    if isinstance(experiment.workload.arrivals, Together):
        return ["batch"]
    if isinstance(experiment.workload.arrivals, Users):
        return [mode for mode in DEFAULT_MODES if mode in ANSWERING]
    needs_answer = experiment.workload.needs_answer
    if isinstance(experiment.workload.arrivals, Closed):
        needs_answer = True
    return [mode for mode in DEFAULT_MODES if mode != "batch" or not needs_answer]


def prices_from(path: Path | None, speed_factor: float | None = None) -> Any:
    from reports.pricing import read_prices

    return read_prices(path, speed_factor)


def cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "weighbridge"


def ready_model(path: Path | None, console: Console) -> Model:
    """The user's model, checked, or the built-in one, trained if need be."""
    from servers.archive import check_model, fingerprint
    from servers.digits.build import archive_in, build

    if path is None:
        if not archive_in(cache_folder()).is_file():
            console.print("Training the built-in digits model (once, a few seconds) …")
        path = build(cache_folder())
        return Model("digits", path, fingerprint(path))
    check_model(path)
    name = path.resolve().name.removesuffix(".gz").removesuffix(".tar")
    return Model(name, path, fingerprint(path))


def samples_of(model: Model) -> list[bytes]:
    from servers.samples import samples

    bodies = samples(model.path)
    if not bodies:
        raise ConfigError(
            f"The model {model.path} brings no samples.json, so there is nothing to send. "
            "Name a file or a folder of request bodies with --payload."
        )
    return bodies
