"""``weighbridge report``: the page and the answer, from run folders."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.commands.common import PATH, PRICES_HELP, SPEED_HELP, plain_console, prices_from
from bench.commands.searching import is_search, write_capacity_report
from bench.commands.sweeping import write_sweep_report
from bench.errors import FAILED, INVALID, PASSED, ConfigError
from bench.run import Run, note_verdict
from bench.session import finished_runs
from bench.sweep import read_sweep


@click.command()
@click.argument("folders", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option("--out", type=PATH, help="Folder for the page. Default: the first RUN.")
@click.option("--prices", type=PATH, help=PRICES_HELP)
@click.option("--speed-factor", type=float, help=SPEED_HELP)
@click.option(
    "--capacity", type=PATH, help="Folder of a capacity search: count the instances needed."
)
@click.option("--requests-csv", is_flag=True, help="Write every request as CSV too.")
@click.option("--mlflow", metavar="URI", help="Log to MLflow, for example sqlite:///mlflow.db.")
def report(
    folders: tuple[Path, ...],
    out: Path | None,
    requests_csv: bool,
    mlflow: str | None,
    **given: Any,
) -> None:
    """Make the report again from run folders.

    Beside the page lie recommendation.json, summary.md, options.csv and costs.csv.
    """
    prices = prices_from(given["prices"], given["speed_factor"])
    if (sweep := read_sweep(folders[0])) is not None:
        sys.exit(write_sweep_report(sweep, folders[0], plain_console(), prices))
    if is_search(folders[0]):
        sys.exit(write_capacity_report(folders[0], plain_console(), prices))
    runs = [run for folder in folders for run in finished_runs(folder)]
    if not runs:
        raise ConfigError(f"{folders[0]} holds no runs. Name a folder under runs/.")
    target = out or folders[0]
    target.mkdir(parents=True, exist_ok=True)
    console = plain_console()
    if given["capacity"] is not None:
        _adopt(runs, given["capacity"])
    code = write_report(runs, target, console, prices)
    if requests_csv:
        for run in runs:
            path = target / f"requests-{run.folder.name}.csv"
            run.requests().to_csv(path, index=False)
            console.print(f"Requests: {path}", soft_wrap=True)
    if mlflow is not None:
        _log(runs, target, prices, mlflow)
        console.print(f"Logged to {mlflow}", soft_wrap=True)
    sys.exit(code)


def _adopt(runs: Sequence[Run], search: Path) -> None:
    from reports.curve import FILE, adopt

    taken = [adopt(run, search) for run in runs]  # all of them, not only the first
    if not any(taken):
        raise ConfigError(
            f"{search} holds no {FILE} of these options. Search first: weighbridge run FILE.toml "
            "with a table [search]."
        )


def _log(runs: Sequence[Run], folder: Path, prices: Any, uri: str) -> None:
    from reports.report import make_report
    from reports.tracking import log

    files = [folder / name for name in ("report.html", "recommendation.json", "summary.md")]
    log(make_report(runs, prices), files, uri)


def write_report(runs: Sequence[Run], folder: Path, console: Console, prices: Any) -> int:
    """Write the page and the answer into ``folder``, print both; the exit code."""
    from reports.answer import write_answer
    from reports.files import write_files
    from reports.page import write_page
    from reports.peers import is_peer, peers_of, write_peers
    from reports.peers_page import write_peers_page
    from reports.report import make_report
    from reports.summary import write_summary
    from reports.text import render
    from reports.verdict import verdict

    peers = peers_of(runs, prices)
    if peers:
        table, good = write_peers(peers, folder)
        console.print()
        console.print(table)
        runs = [run for run in runs if not is_peer(run)]
        if not runs:
            page = write_peers_page(peers, folder / "report.html")
            console.print(f"Report: {page}", soft_wrap=True)
            return PASSED if good else INVALID
    report = make_report(runs, prices)
    for option in report.options:
        write_summary(option.summary, option.run.folder / "summary.json")
        note_verdict(option.run, verdict(option.summary))
    write_answer(report, folder / "recommendation.json")
    write_files(report, folder)
    page = write_page(report, folder / "report.html", peers)
    console.print()
    console.print(render(report))
    console.print(f"Report: {page}", soft_wrap=True)
    if not report.valid:
        return INVALID
    return PASSED if report.met else FAILED
