"""The command line: what each command does, in the order it does it."""

import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class
from rich.console import Console
from rich.table import Table

import bench
import scenarios
from bench.arrivals import due_times
from bench.config import Experiment, read_experiment, scenario_path
from bench.deployment import Deployment, Endpoint
from bench.doctor import findings
from bench.errors import (
    FAILED,
    INTERRUPTED,
    INVALID,
    PASSED,
    ConfigError,
    WeighbridgeError,
)
from bench.measure import Model, check_disk
from bench.progress import Progress
from bench.replay import Replay
from bench.run import Run
from bench.session import (
    Session,
    finished_runs,
    measure_all,
    new_folder,
    payload_files,
    sample_files,
)
from bench.settings import settings
from bench.target import TARGETS
from bench.up import keep_up

SCENARIOS = Path(scenarios.__file__).parent


class Commands(click.Group):
    """Prints our own errors as one message, with the exit code that belongs to each."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WeighbridgeError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bench.__version__, prog_name="weighbridge")
def cli() -> None:
    """Put real traffic on SageMaker's inference options, on this machine, and say which to deploy.

    \b
    Start with    weighbridge run intermittent
    and then      weighbridge run sustained
                  weighbridge run replay --trace FILE
                  weighbridge up          endpoints for boto3 and curl
                  weighbridge settings    every key that --set takes

    \b
    Exit codes    0  passed                1  no option meets the objective
                  2  wrong usage           4  the measurement is invalid
                  130  interrupted
    """


def main() -> None:
    """The command ``weighbridge``."""
    # A CI system that cancels a job sends SIGTERM: it ends like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli(prog_name="weighbridge")


def _scenario_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    names = sorted(file.stem for file in SCENARIOS.glob("*.toml"))
    return [name for name in names if name.startswith(incomplete)]


@dataclass(frozen=True)
class RunOptions:
    """The options of ``weighbridge run``, as click gives them."""

    scenario: str
    modes: str
    model: Path | None
    payload: Path | None
    trace: Path | None
    changes: tuple[str, ...]
    out: Path
    prices: Path | None


_PATH = click.Path(path_type=Path)
_MODEL_HELP = "A model.tar.gz or folder in SageMaker's layout. Default: the built-in digits model."


@cli.command()
@click.argument("scenario", shell_complete=_scenario_names)
@click.option("--modes", default=",".join(TARGETS), show_default=True, help="Options to measure.")
@click.option("--model", type=_PATH, help=_MODEL_HELP)
@click.option(
    "--payload",
    type=_PATH,
    help="A file or folder of request bodies. Default: the samples that the model brings.",
)
@click.option(
    "--trace",
    type=_PATH,
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
    "--out", type=_PATH, default="runs", show_default=True, help="Folder that takes the runs."
)
@click.option("--prices", type=_PATH, help="Your own price table (TOML).")
def run(**given: Any) -> None:
    """Measure each option and write the report.

    SCENARIO is a name (intermittent, sustained, replay) or a .toml file.
    """
    options = RunOptions(**given)
    console = _console()
    experiment = read_experiment(
        scenario_path(options.scenario, SCENARIOS),
        list(options.changes),
        SCENARIOS,
        options.trace,
    )
    modes = _checked_modes(options.modes, experiment)
    prices = _prices(options.prices)
    check_disk(options.out)
    model = _model(options.model, console)
    configured = experiment.workload.payload.path
    payload = options.payload or (Path(configured) if configured else None)
    samples = [] if payload else _samples(model)
    files = payload_files(payload) if payload else []
    folder = new_folder(options.out, experiment.workload.name)
    session = Session(
        experiment,
        modes,
        model,
        files or sample_files(samples, folder / "payloads"),
        folder,
        _command(),
    )
    sys.exit(_measure_and_report(session, console, prices))


def _console() -> Console:
    """Prints texts as they are: what a user named [bold] stays that."""
    return Console(highlight=False, markup=False)


def _checked_modes(text: str, experiment: Experiment) -> list[str]:
    """The options to measure, in order; ConfigError when one is unknown or breaks a limit."""
    from servers.profile import profile_for

    modes = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [mode for mode in modes if mode not in TARGETS]
    if unknown or not modes:
        raise ConfigError(
            f"--modes {text}: choose from {', '.join(TARGETS)}, separated by commas. "
            "Asynchronous and batch are judged by the rules but not measured yet."
        )
    for mode in modes:
        profile_for(experiment.targets[mode])
    return modes


def _prices(path: Path | None) -> Any:
    from reports.costs import read_prices

    return read_prices(path)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "weighbridge"


def _model(path: Path | None, console: Console) -> Model:
    """The user's model, checked, or the built-in one, trained if need be."""
    from servers.archive import check_model, fingerprint
    from servers.digits.build import archive_in, build

    if path is None:
        if not archive_in(_cache()).is_file():
            console.print("Training the built-in digits model (once, a few seconds) …")
        path = build(_cache())
        return Model("digits", path, fingerprint(path))
    check_model(path)
    name = path.resolve().name.removesuffix(".gz").removesuffix(".tar")
    return Model(name, path, fingerprint(path))


def _samples(model: Model) -> list[bytes]:
    from servers.samples import samples

    bodies = samples(model.path)
    if not bodies:
        raise ConfigError(
            f"The model {model.path} brings no samples.json, so there is nothing to send. "
            "Name a file or a folder of request bodies with --payload."
        )
    return bodies


def _command() -> str:
    return shlex.join(["weighbridge", *sys.argv[1:]])


def _measure_and_report(session: Session, console: Console, prices: Any) -> int:
    """Measure, then report on what there is; the exit code."""
    workload = session.experiment.workload
    scheduled = len(due_times(workload.arrivals, workload.duration_s, workload.seed))
    progress = Progress(console, workload.duration_s, scheduled)
    console.print(
        f"{workload.title}: {scheduled} requests, served by {session.model.name}.", soft_wrap=True
    )
    if isinstance(workload.arrivals, Replay):
        console.print(workload.arrivals.sentence(), markup=False, soft_wrap=True)
    interrupted = False
    try:
        measure_all(session, progress)
    except KeyboardInterrupt:
        interrupted = True
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # the rest is short and must be whole
    finally:
        progress.close()
    runs = finished_runs(session.folder)
    if interrupted:
        console.print(
            "Interrupted. Every process is stopped; "
            + (f"what was measured is in {session.folder}." if runs else "nothing was measured."),
            soft_wrap=True,
        )
    code = _report(runs, session.folder, console, prices) if runs else PASSED
    return INTERRUPTED if interrupted else code


def _report(runs: Sequence[Run], folder: Path, console: Console, prices: Any) -> int:
    """Write the page and the answer into ``folder``, print both; the exit code."""
    from reports.answer import write_answer
    from reports.page import write_page
    from reports.report import make_report
    from reports.summary import write_summary
    from reports.text import render

    report = make_report(runs, prices)
    for option in report.options:
        write_summary(option.summary, option.run.folder / "summary.json")
    write_answer(report, folder / "recommendation.json")
    page = write_page(report, folder / "report.html")
    console.print()
    console.print(render(report))
    console.print(f"Report: {page}", soft_wrap=True)
    if not report.valid:
        return INVALID
    return PASSED if report.met else FAILED


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=_PATH, metavar="RUN...")
@click.option("--out", type=_PATH, help="Folder for the page. Default: the first RUN.")
@click.option("--prices", type=_PATH, help="Your own price table (TOML).")
def report(folders: tuple[Path, ...], out: Path | None, prices: Path | None) -> None:
    """Make the report again from run folders."""
    runs = [run for folder in folders for run in finished_runs(folder)]
    if not runs:
        raise ConfigError(f"{folders[0]} holds no runs. Name a folder under runs/.")
    target = out or folders[0]
    target.mkdir(parents=True, exist_ok=True)
    sys.exit(_report(runs, target, _console(), _prices(prices)))


@cli.command()
@click.option("--model", type=_PATH, help=_MODEL_HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="As for `run`.")
def up(model: Path | None, host: str, port: int, changes: tuple[str, ...]) -> None:
    """Run the endpoints, for boto3 and curl.

    They share one address and stay until Ctrl-C.
    """
    console = _console()
    experiment = read_experiment(scenario_path("sustained", SCENARIOS), list(changes), SCENARIOS)
    _checked_modes(",".join(TARGETS), experiment)
    ready = _model(model, console)
    endpoints = [
        Endpoint(f"{_endpoint_name(ready)}-{mode}", target, str(ready.path.resolve()))
        for mode, target in experiment.targets.items()
    ]
    keep_up(Deployment(endpoints, host=host, port=port), console.print)


def _endpoint_name(model: Model) -> str:
    """The model's name as the API lets an endpoint be called."""
    return "-".join(re.findall("[a-zA-Z0-9]+", model.name))[:50].strip("-") or "model"


@cli.command("settings")
def list_settings() -> None:
    """List every key that --set takes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for setting in settings():
        table.add_row(setting.key, setting.default, setting.meaning)
    _console().print(table)


@cli.group()
def profile() -> None:
    """Limits and delays that an option follows."""


@profile.command("show")
@click.argument("mode", type=click.Choice(list(TARGETS)))
def show_profile(mode: str) -> None:
    """Print each value of MODE with what it rests on and its source."""
    from servers.profile import read_profile

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "value", "basis", "meaning", "source"):
        table.add_column(column, overflow="fold")
    for entry in read_profile(mode).ledger():
        value = f"{entry['value']} {entry['unit']}"
        cells = (entry["name"], value, entry["basis"], entry["meaning"], entry["source"])
        table.add_row(*cells)
    _console().print(table)


@cli.command()
def doctor() -> None:
    """Tell what this machine can do."""
    console = _console()
    from servers.limits import Caps, find_limiter

    limits = find_limiter().describe(Caps(memory_mb=1024, vcpus=0.5))
    for name, text in limits.items():
        console.print(f"{'!!  ' if 'not ' in text else 'ok  '}{name:<13}of serverless: {text}")
    for finding in findings():
        mark = {True: "ok  ", False: "!!  ", None: "    "}[finding.good]
        console.print(f"{mark}{finding.name:<13}{finding.text}")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script.

    For example: eval "$(weighbridge completion bash)"
    """
    found = get_completion_class(shell)
    assert found is not None, "the choices are those that click knows"
    click.echo(found(cli, {}, "weighbridge", "_WEIGHBRIDGE_COMPLETE").source())
