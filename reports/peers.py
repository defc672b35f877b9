"""Servers that were measured for comparison: Triton, or one that the user named by its address.

They are no options of SageMaker's: nothing here is recommended, and a price is given only for an
instance type that the user named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.documents import write_json
from bench.run import Run
from bench.target import PEERS
from reports.costs import Prices
from reports.option import Option
from reports.summary import Summary, summarise, write_summary
from reports.words import NOTHING, count, mode, seconds, share, usd

HEAD = ("server", "requests", "failed", "p50", "p90", "p99", "in time", "price")


@dataclass(frozen=True)
class Peer:
    """Such a server, measured."""

    run: Run
    summary: Summary
    month_usd: float | None

    @property
    def name(self) -> str:
        """What was measured, as a reader knows it."""
        return name_of(self.run)

    @property
    def cells(self) -> tuple[str, ...]:
        """What `HEAD` names."""
        price = NOTHING if self.month_usd is None else f"{usd(self.month_usd)} a month"
        return _cells(self.name, self.summary, price)


def is_peer(run: Run) -> bool:
    """Whether the run measured such a server."""
    return run.mode in PEERS


def peers_of(runs: Sequence[Run], prices: Prices) -> list[Peer]:
    """Those of ``runs`` that measured such a server."""
    return [Peer(run, summarise(run), _month_usd(run, prices)) for run in runs if is_peer(run)]


def cells_of(option: Option) -> tuple[str, ...]:
    """The same cells for an option, to be read beside."""
    price = f"{usd(option.cost.month_usd)} a month" if option.cost.priced else NOTHING
    return _cells(mode(option.mode).capitalize(), option.summary, price)


def write_peers(peers: Sequence[Peer], folder: Path) -> tuple[Table, bool]:
    """Write ``peers.json`` and each run's summary; a table of them, and whether all are valid."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("compared with", *HEAD[1:]):
        table.add_column(column, justify="left" if column == "compared with" else "right")
    for peer in peers:
        write_summary(peer.summary, peer.run.folder / "summary.json")
        table.add_row(*peer.cells)
    write_json(folder / "peers.json", {"peers": [_row(peer) for peer in peers]})
    return table, all(peer.summary.valid for peer in peers)


def name_of(run: Run) -> str:
    """What was measured, as a reader knows it."""
    address = run.manifest["target"].get("address")
    return f"{mode(run.mode)} {address}" if address else mode(run.mode)


def _cells(name: str, summary: Summary, price: str) -> tuple[str, ...]:
    return (
        name,
        count(summary.sent),
        share(summary.error_rate),
        *(seconds(summary.latency_s.at(q)) for q in (0.5, 0.9, 0.99)),
        share(summary.within.share),
        price,
    )


def _row(peer: Peer) -> dict[str, Any]:
    summary = peer.summary
    return {
        "mode": peer.run.mode,
        "name": peer.name,
        "folder": peer.run.folder.name,
        "requests": summary.sent,
        "error_rate": summary.error_rate,
        "latency_s": {str(each.q): each.value_s for each in summary.latency_s.quantiles},
        "within_objective": summary.within.share,
        "month_usd": peer.month_usd,
        "doubts": [doubt.text for doubt in summary.doubts],
    }


def _month_usd(run: Run, prices: Prices) -> float | None:
    price = prices.instance_hour.get(run.manifest["target"].get("instance_type") or "")
    return None if price is None else price.usd * prices.hours_a_month
