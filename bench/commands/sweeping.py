"""``weighbridge run --sweep``: one option at several values of one setting, side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.config import Experiment
from bench.documents import write_json
from bench.errors import FAILED, INVALID, PASSED, ConfigError
from bench.measure import Order, Watcher, measure
from bench.session import Session
from bench.sweep import Sweep, sweep_runs, write_sweep
from bench.target import Peer


def experiments_of(sweep: Sweep, read: Callable[[list[str]], Experiment]) -> dict[int, Experiment]:
    """What is measured for each value; ConfigError when one breaks a limit."""
    from servers.profile import profile_for

    found = {value: read([sweep.settings(value)]) for value in sweep.values}
    for experiment in found.values():
        target = experiment.targets[sweep.mode]
        assert not isinstance(target, Peer), "a sweep is of an option"
        profile_for(target)
    return found


def measure_sweep(
    sweep: Sweep, experiments: dict[int, Experiment], session: Session, watcher: Watcher
) -> None:
    """Measure each value into a folder of its own, with the same requests and modelled delays."""
    write_sweep(sweep, session.folder)
    for value, experiment in experiments.items():
        watcher.phase(sweep.mode, f"{sweep.key} = {value}")
        order = Order(
            experiment.workload,
            experiment.targets[sweep.mode],
            session.model,
            session.payloads,
            session.command,
        )
        measure(order, session.folder / sweep.folder(value), watcher)


def write_sweep_report(sweep: Sweep, folder: Path, console: Console, prices: Any) -> int:
    """Write the page and the answer into ``folder``, print both; the exit code."""
    from reports.sweep import answer, make_sweep
    from reports.sweep_page import render_sweep, write_sweep_page

    runs = sweep_runs(sweep, folder)
    if not runs:
        raise ConfigError(f"{folder} holds no runs of the sweep. Measure again.")
    report = make_sweep(sweep.key, runs, prices)
    write_json(folder / "sweep-answer.json", answer(report))
    page = write_sweep_page(report, folder / "report.html")
    console.print()
    console.print(render_sweep(report))
    console.print(f"Report: {page}", soft_wrap=True)
    if not report.valid:
        return INVALID
    return PASSED if report.met else FAILED
