"""The tables of the page and of the terminal, as texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reports.costs import is_dataset
from reports.option import Option
from reports.report import Report
from reports.sizes import answered_by_size
from reports.summary import Spread, needed_for
from reports.words import (
    NOTHING,
    count,
    mode,
    quantile,
    rate,
    seconds,
    share,
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


@dataclass(frozen=True)
class LimitRow:
    """One hard limit of one option against what was asked."""

    mode: str
    name: str
    asked: str
    allowed: str
    exceeded: bool
    known: bool
    source: str


_LIMIT_NAMES = {
    "payload_max_bytes": "payload",
    "invocation_timeout_s": "processing, p99",
    "memory_max_bytes": "memory",
}


def limit_rows(report: Report) -> tuple[LimitRow, ...]:
    """Every hard limit of all options."""
    return tuple(
        LimitRow(
            mode=bound.mode,
            name=_LIMIT_NAMES[bound.name],
            asked=NOTHING if bound.asked is None else bound.in_words(bound.asked),
            allowed=bound.in_words(bound.limit),
            exceeded=bound.exceeded,
            known=bound.asked is not None,
            source=bound.source,
        )
        for bound in report.recommendation.limits
    )


def option_rows(report: Report) -> tuple[Row, ...]:
    """The figures of every option, side by side."""
    lower = "measured"
    mixed = "measured; placement modelled"
    first = report.options[0]
    month = "a month, once a day" if is_dataset(first.run) else "a month"
    plan: tuple[tuple[str, str, Callable[[Option], Cell]], ...] = (
        ("Objective", lower, lambda option: _verdict(report, option)),
        ("Answered in time", lower, _in_time),
        *((f"Latency {quantile(q)}", mixed, _latency(q)) for q in (0.5, 0.95, 0.99)),
        ("Slowest", mixed, lambda option: Cell(seconds(option.summary.latency_s.max_s))),
        ("Started cold", lower, _cold),
        ("Cold start, median", mixed, lambda option: _at(option.summary.cold.unhindered_s, 0.5)),
        ("Failed", lower, _failed),
        *(_of_size(label, cells) for label, cells in answered_by_size(report.options)),
        (f"Cost of {first.period}", "modelled", lambda o: Cell(usd(o.cost.amount_usd))),
        (f"Cost of {month}", "modelled", lambda option: Cell(usd(option.cost.month_usd))),
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


def _of_size(
    label: str, found: Mapping[str, tuple[float, str]]
) -> tuple[str, str, Callable[[Option], Cell]]:
    def cell(option: Option) -> Cell:
        if option.mode not in found:
            return Cell(NOTHING)
        answered, reason = found[option.mode]
        return Cell(share(answered), reason)

    return f"Answered, bodies of {label}", "measured", cell


def _failed(option: Option) -> Cell:
    summary = option.summary
    throttled = f"{count(summary.throttled)} throttled" if summary.throttled else ""
    return Cell(share(summary.error_rate), throttled)
