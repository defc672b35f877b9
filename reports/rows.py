"""The tables of the page and of the terminal, as texts."""

from collections.abc import Callable
from dataclasses import dataclass

from reports.option import Option
from reports.report import Report
from reports.summary import Spread, needed_for
from reports.words import (
    NOTHING,
    count,
    mode,
    quantile,
    rate,
    seconds,
    share,
    significant,
    units,
    usd,
)

ICONS = {
    "meets": "✓ met",
    "misses": "✕ missed",
    "undecided": "◆ undecided",
    "invalid": "▲ invalid",
    "excluded": "✕ ruled out",
}


@dataclass(frozen=True)
class Cell:
    """One value; ``kind`` is a verdict, ``best`` or empty."""

    text: str
    note: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """One figure for every option."""

    label: str
    basis: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Line:
    """One line of the bill."""

    name: str
    quantity: str
    rate: str
    amount: str
    basis: str


def option_rows(report: Report) -> tuple[Row, ...]:
    """The figures of every option, side by side."""
    lower = "measured"
    mixed = "measured; placement modelled"
    period = seconds(report.options[0].summary.simulated_s)
    plan: tuple[tuple[str, str, Callable[[Option], Cell]], ...] = (
        ("Objective", lower, lambda option: _verdict(report, option)),
        ("Answered in time", lower, _in_time),
        *((f"Latency {quantile(q)}", mixed, _latency(q)) for q in (0.5, 0.95, 0.99)),
        ("Slowest", mixed, lambda option: Cell(seconds(option.summary.latency_s.max_s))),
        ("Started cold", lower, _cold),
        ("Cold start, median", mixed, lambda option: _at(option.summary.cold.unhindered_s, 0.5)),
        ("Failed", lower, _failed),
        (f"Cost of {period}", "modelled", lambda o: Cell(usd(o.cost.amount_usd))),
        ("Cost of a month", "modelled", lambda option: Cell(usd(option.cost.month_usd))),
        ("Cost of a million requests", "modelled", lambda o: Cell(usd(o.cost.per_million_usd))),
    )
    return tuple(
        Row(label, basis, tuple(make(option) for option in report.options))
        for label, basis, make in plan
    )


def bill(report: Report) -> tuple[Line, ...]:
    """Every line of every bill."""
    return tuple(
        Line(
            name=f"{mode(option.mode).capitalize()}: {item.name}",
            quantity=units(item.quantity, item.unit),
            rate=f"{rate(item.rate_usd)} per {item.unit}",
            amount=usd(item.amount_usd),
            basis=item.basis,
        )
        for option in report.options
        for item in option.cost.items
    )


def again(report: Report) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What is needed to make the measurement again."""
    manifests = [option.run.manifest for option in report.options]
    first = manifests[0]
    tool, model = first.get("tool", {}), first.get("model", {})
    commit = tool.get("git_sha") or "unknown commit"
    changed = ", with local changes" if tool.get("git_dirty") else ""
    machine = {str(key): str(value) for key, value in first.get("machine", {}).items()}
    hardware = [machine.pop(key, "") for key in ("cpu_model", "cpu_count", "kernel")]
    memory = machine.pop("memory_bytes", "")
    versions = [f"{name} {version}" for name, version in machine.items() if name != "fingerprint"]
    host = f"{hardware[0]}, {hardware[1]} cores, kernel {hardware[2]}"
    if memory.isdigit():
        host += f", {significant(int(memory) / 1e9)} GB"
    commands = dict.fromkeys(str(manifest.get("command", "")) for manifest in manifests)
    return (
        ("Command", tuple(commands)),
        ("Seed", (str(report.workload.seed),)),
        ("Weighbridge", (f"{tool.get('version', 'unknown')} ({commit}{changed})",)),
        ("Machine", (host,)),
        ("Versions", (", ".join(versions) or NOTHING,)),
        ("Model", (str(model.get("name", NOTHING)),)),
        ("Model hash", (f"sha256 {model.get('sha256', NOTHING)}",)),
        ("Folders", tuple(str(option.run.folder) for option in report.options)),
        ("Files", ("manifest.json, requests.parquet, samples.parquet, events.jsonl in each",)),
    )


def _verdict(report: Report, option: Option) -> Cell:
    standing = next(s for s in report.recommendation.standings if s.mode == option.mode)
    return Cell(ICONS[standing.verdict], kind=standing.verdict)


def _in_time(option: Option) -> Cell:
    within = option.summary.within
    return Cell(share(within.share), f"{share(within.low)} to {share(within.high)}")


def _latency(q: float) -> Callable[[Option], Cell]:
    return lambda option: _at(option.summary.latency_s, q)


def _at(spread: Spread, q: float) -> Cell:
    value = spread.at(q)
    if value is None:
        return Cell(NOTHING)
    few = "" if spread.supports(q) else f"{count(spread.n)} of {needed_for(q)} needed"
    return Cell(seconds(value), few)


def _cold(option: Option) -> Cell:
    cold = option.summary.cold
    return Cell(share(cold.share), f"{count(cold.count)} requests" if cold.count else "")


def _failed(option: Option) -> Cell:
    summary = option.summary
    throttled = f"{count(summary.throttled)} throttled" if summary.throttled else ""
    return Cell(share(summary.error_rate), throttled)
