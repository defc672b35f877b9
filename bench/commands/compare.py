"""``weighbridge compare`` and ``weighbridge index``: several runs on one page."""

from pathlib import Path

import click
import msgspec
from rich.table import Table

from bench.commands.common import PATH, plain_console, prices_from
from bench.documents import write_json
from bench.errors import ConfigError
from bench.session import finished_runs

MOST_RUNS = 40


@click.command()
@click.argument("folders", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option("--out", type=PATH, default="compare.html", show_default=True, help="The page.")
@click.option("--prices", type=PATH, help="Your own price table (TOML).")
def compare(folders: tuple[Path, ...], out: Path, prices: Path | None) -> None:
    """Set runs side by side: models, sizes, options or days.

    RUN is a folder of one option or of a whole bench. Each figure has its interval within the
    run. The page is --out; beside it lies the same as JSON.
    """
    from reports.answer import finite
    from reports.compare import compare as compared
    from reports.compare import sheet
    from reports.markup import write_whole
    from reports.sheet import html

    runs = [run for folder in folders for run in finished_runs(folder)]
    if len(runs) < 2:
        raise ConfigError("A comparison needs at least two runs. Name folders under runs/.")
    if len(runs) > MOST_RUNS:
        raise ConfigError(f"{len(runs)} runs are more than the {MOST_RUNS} that fit on a page.")
    found = compared(runs, prices_from(prices))
    page = sheet(found)
    write_whole(html(page), out)
    write_json(out.with_suffix(".json"), finite(msgspec.to_builtins(found)))
    console = plain_console()
    columns = {"": 0, "Objective": 2, "In time": 3, "p50": 4, "p95": 5, "p99": 6, "A month": 9}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name)
    for number, row in enumerate(page.parts[0].rows, 1):
        console.print(f"{row[0].text}: {row[1].text} ({row[1].note})", soft_wrap=True)
        cells = [f"{row[i].text}\n{row[i].note.replace('; ', chr(10))}" for i in columns.values()]
        table.add_row(f"{number}.", *cells[1:])
    console.print()
    console.print(table)
    for doubt in found.doubts:
        console.print(doubt)
    console.print(f"Page: {out}", soft_wrap=True)


@click.command()
@click.argument("runs", type=PATH, default="runs")
def index(runs: Path) -> None:
    """Write an index page of all benches in a folder, with trends.

    RUNS is the folder that holds them; the page is index.html in it.
    """
    from reports.markup import write_whole
    from reports.overview import sheet
    from reports.sheet import html

    page = sheet(runs)
    target = write_whole(html(page), runs / "index.html")
    console = plain_console()
    console.print(page.facts)
    for doubt in page.doubts:
        console.print(doubt)
    console.print(f"Page: {target}", soft_wrap=True)
