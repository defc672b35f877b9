"""``weighbridge run``: measure each option and write the report."""

import json
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.arrivals import scheduled_count
from bench.commands.common import (
    DEVICE_HELP,
    MODEL_HELP,
    PATH,
    PRICES_HELP,
    SCENARIOS,
    SPEED_HELP,
    checked_modes,
    device_settings,
    peers_of,
    plain_console,
    prices_from,
    ready_model,
    samples_of,
)
from bench.commands.report import write_report
from bench.commands.searching import is_search, write_capacity_report
from bench.commands.sweeping import experiments_of, measure_sweep, write_sweep_report
from bench.config import Experiment, read_experiment, scenario_path
from bench.errors import INTERRUPTED, PASSED, ConfigError
from bench.loops import Closed, Users
from bench.measure import check_disk
from bench.payload import CONTENT_TYPES
from bench.progress import Progress
from bench.replay import Replay
from bench.session import (
    Session,
    finished_runs,
    measure_all,
    new_folder,
    payload_files,
    sample_files,
    search_all,
)
from bench.sweep import parse_sweep
from bench.target import TARGETS
from bench.together import Together
from bench.workload import Workload


def _scenario_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    names = sorted(file.stem for file in SCENARIOS.glob("*.toml"))
    return [name for name in names if name.startswith(incomplete)]


@dataclass(frozen=True)
class RunOptions:
    """The options of ``weighbridge run``, as click gives them."""

    scenario: str
    modes: str | None
    peers: tuple[str, ...]
    target_url: str | None
    device: str | None
    model: Path | None
    payload: Path | None
    trace: Path | None
    changes: tuple[str, ...]
    out: Path
    prices: Path | None
    speed_factor: float | None
    sweep: str | None
    workers: int


@click.command()
@click.argument("scenario", shell_complete=_scenario_names)
@click.option(
    "--modes",
    help=f"Options to measure, of {','.join(TARGETS)}. Default: those that fit the scenario.",
)
@click.option(
    "--target",
    "peers",
    multiple=True,
    type=click.Choice(["triton"]),
    help="Measure this server under the same traffic, alone or beside --modes.",
)
@click.option(
    "--target-url",
    metavar="URL",
    help="The same for a server that runs: its /invocations, or /v2/models/NAME.",
)
@click.option("--device", help=DEVICE_HELP)
@click.option("--model", type=PATH, help=MODEL_HELP)
@click.option(
    "--payload",
    type=PATH,
    help="A file or folder of request bodies, or for offline a dataset. Default: the samples that "
    "the model brings.",
)
@click.option(
    "--trace",
    type=PATH,
    metavar="FILE",
    help="Requests to replay: CSV, JSONL, Parquet, or an access log of ALB or nginx.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting; may be repeated. `weighbridge settings` lists them.",
)
@click.option(
    "--out", type=PATH, default="runs", show_default=True, help="Folder that takes the runs."
)
@click.option("--prices", type=PATH, help=PRICES_HELP)
@click.option("--speed-factor", type=float, help=SPEED_HELP)
@click.option(
    "--sweep",
    metavar="KEY=V1,V2",
    help="Try several values of a setting of serverless or lambda: memory_mb=1024,2048.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that share the load, for more than one can send. Each needs a core.",
)
def run(**given: Any) -> None:
    """Measure each option and write the report.

    SCENARIO is a name (intermittent, sustained, nightly, offline, replay, large_payload,
    huge_payload, capacity), a .toml file, or a Locust file of your own (.py).
    """
    options = RunOptions(**given)
    console = plain_console()
    experiment = _read(options, [])
    if options.workers > 1 and experiment.workload.fast_forward:
        raise ConfigError(
            f"--workers {options.workers}: time is skipped with one worker only, and this workload "
            "skips silence. Leave --workers out, or add --set fast_forward=false."
        )
    peers = [*options.peers, *(["url"] if options.target_url else [])]
    only_peers = peers and not options.modes
    modes = [] if only_peers else checked_modes(options.modes or "", experiment)
    if isinstance(experiment.workload.arrivals, Users) and options.workers > 1:
        raise ConfigError("--workers: a Locust file of one's own runs in one process.")
    experiment = peers_of(options.peers, options.target_url, experiment, console)
    prices = prices_from(options.prices, options.speed_factor)
    sweep = parse_sweep(options.sweep, modes) if options.sweep else None
    swept = experiments_of(sweep, partial(_read, options)) if sweep else {}
    check_disk(options.out)
    model = ready_model(options.model, console)
    settings = experiment.workload.payload
    payload = options.payload or (Path(settings.path) if settings.path else None)
    payload = None if settings.records else payload
    # Nothing is needed of the model's samples where something else is sent.
    elsewhere = payload or settings.records or isinstance(experiment.workload.arrivals, Users)
    samples = [] if elsewhere else samples_of(model)
    files = payload_files(payload) if payload else []
    folder = new_folder(options.out, experiment.workload.name)
    session = Session(
        experiment,
        [*modes, *peers],
        model,
        files or (sample_files(samples, folder / "payloads") if samples else []),
        folder,
        _command(),
        options.workers,
    )
    if experiment.workload.search is not None:
        plan = Plan(
            partial(search_all, session),
            lambda: write_capacity_report(folder, console, prices),
        )
    elif sweep is None:
        plan = Plan(
            partial(measure_all, session),
            lambda: write_report(finished_runs(folder), folder, console, prices),
        )
    else:
        plan = Plan(
            partial(measure_sweep, sweep, swept, session),
            lambda: write_sweep_report(sweep, folder, console, prices),
        )
    sys.exit(_measure_and_report(session, console, plan))


def _read(options: RunOptions, more: list[str]) -> Experiment:
    """What the options ask for, with more settings."""
    path = scenario_path(options.scenario, SCENARIOS)
    changes = [*options.changes, *device_settings(options.device), *more]
    experiment = read_experiment(path, changes, SCENARIOS, options.trace)
    together = isinstance(experiment.workload.arrivals, Together)
    if together and options.payload and options.payload.suffix.lower() in CONTENT_TYPES:
        changes.append(f"payload.records={json.dumps(str(options.payload))}")
        return read_experiment(path, changes, SCENARIOS, options.trace)
    return experiment


@dataclass(frozen=True)
class Plan:
    """How to measure and how to report."""

    measure: Callable[[Progress], object]
    report: Callable[[], int]


def _amount(workload: Workload, scheduled: int | None) -> str:
    arrivals = workload.arrivals
    if workload.search is not None:
        return f"rate after rate, from {workload.search.start_rps:g} requests a second"
    if isinstance(arrivals, Closed | Users):
        return f"{arrivals.users} users for {workload.duration_s:g} s"
    return f"{scheduled} requests"


def _command() -> str:
    return shlex.join(["weighbridge", *sys.argv[1:]])


def _measure_and_report(session: Session, console: Console, plan: Plan) -> int:
    """Measure, then report on what there is; the exit code."""
    workload = session.experiment.workload
    scheduled = scheduled_count(workload.arrivals, workload.duration_s, workload.seed)
    progress = Progress(console)
    console.print(
        f"{workload.title}: {_amount(workload, scheduled)}, served by {session.model.name}.",
        soft_wrap=True,
    )
    if isinstance(workload.arrivals, Replay):
        console.print(workload.arrivals.sentence(), markup=False, soft_wrap=True)
    interrupted = False
    try:
        plan.measure(progress)
    except KeyboardInterrupt:
        interrupted = True
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # the rest is short and must be whole
    finally:
        progress.close()
    runs = finished_runs(session.folder) or is_search(session.folder)
    if interrupted:
        console.print(
            "Interrupted. Every process is stopped; "
            + (f"what was measured is in {session.folder}." if runs else "nothing was measured."),
            soft_wrap=True,
        )
    code = plan.report() if runs else PASSED
    return INTERRUPTED if interrupted else code
