"""Everything a report says, assembled from run folders."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bench.errors import ConfigError
from bench.run import Run
from bench.workload import Workload
from reports.bounds import MODES
from reports.costs import Prices, cost_of, read_prices
from reports.doubts import Doubt
from reports.ledger import Entry, ledger
from reports.option import INVALID, MEETS, UNDECIDED, Option
from reports.recommendation import Recommendation, recommend
from reports.summary import summarise
from reports.words import mode
from reports.worlds import Sensitivity, sensitivity


@dataclass(frozen=True)
class Report:
    """One workload, the options measured with it, and the answer."""

    workload: Workload
    options: tuple[Option, ...]
    recommendation: Recommendation
    ledger: tuple[Entry, ...]
    prices: Prices
    sensitivity: Sensitivity | None
    doubts: tuple[tuple[str, Doubt], ...]
    """The option's name, or nothing where a doubt is about all of them; invalid ones first."""

    @property
    def valid(self) -> bool:
        """Whether every option was measured well enough to be judged."""
        return all(standing.verdict != INVALID for standing in self.recommendation.standings)

    @property
    def met(self) -> bool:
        """Whether some option meets the objective, or may: nothing shows that none does."""
        return any(s.verdict in (MEETS, UNDECIDED) for s in self.recommendation.standings)

    def option(self, name: str) -> Option | None:
        """The measured option of that name."""
        return next((option for option in self.options if option.mode == name), None)


def make_report(runs: Sequence[Run], prices: Prices | None = None) -> Report:
    """The report on ``runs``, one for each option, all of one workload."""
    _check(runs)
    table = prices or read_prices()
    workload = _workload(runs[0])
    options = tuple(
        Option(run, summary, cost_of(run, summary, table))
        for run in sorted(runs, key=_place)
        for summary in [summarise(run)]
    )
    doubts = _of_options(options) + [("", doubt) for doubt in _between(runs)]
    doubts += [(option.mode, doubt) for option in options for doubt in _of_price(option)]
    recommendation = recommend(workload, options)
    return Report(
        workload=workload,
        options=options,
        recommendation=recommendation,
        sensitivity=sensitivity(workload, options, recommendation.standings),
        ledger=ledger(options, table),
        prices=table,
        doubts=tuple(sorted(doubts, key=lambda pair: not pair[1].invalid)),
    )


def _of_options(options: Sequence[Option]) -> list[tuple[str, Doubt]]:
    """The doubts about single options; one that all share is said once."""
    found = [(option.mode, doubt) for option in options for doubt in option.summary.doubts]
    shared = {
        doubt
        for doubt, n in Counter(doubt for _, doubt in found).items()
        if len(options) > 1 and n == len(options)
    }
    once = [("", doubt) for doubt in dict.fromkeys(d for _, d in found) if doubt in shared]
    who: dict[Doubt, list[str]] = {}
    for name, doubt in found:
        who.setdefault(doubt, []).append(name)
    return once + [(_together(names), d) for d, names in who.items() if d not in shared]


def _together(names: Sequence[str]) -> str:
    """One name as it is, several in words."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(mode(name) for name in names[:-1])} and {mode(names[-1])}"


def _workload(run: Run) -> Workload:
    try:
        return msgspec.convert(run.manifest["workload"], Workload)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"The workload in {run.folder / 'manifest.json'} is not one: {error}. Measure again."
        ) from None


def _place(run: Run) -> tuple[int, str]:
    """Known options in their order, others behind them."""
    return (MODES.index(run.mode) if run.mode in MODES else len(MODES), run.mode)


def _check(runs: Sequence[Run]) -> None:
    if not runs:
        raise ConfigError("A report needs at least one run. Name a folder under runs/.")
    twice = [name for name, n in Counter(run.mode for run in runs).items() if n > 1]
    if twice:
        folders = " and ".join(str(run.folder) for run in runs if run.mode == twice[0])
        raise ConfigError(
            f"{folders} both measured {mode(twice[0])}. Give one run for each option, "
            "or set two runs side by side with weighbridge compare."
        )
    first = runs[0]
    for run in runs[1:]:
        differing = _difference(first.manifest["workload"], run.manifest["workload"])
        if differing:
            raise ConfigError(
                f"{first.folder} and {run.folder} do not share a workload: {differing}. "
                "Only runs of the same workload can be compared."
            )


def _difference(one: Any, other: Any, path: str = "") -> str:
    """The first value that differs, with its path; empty when none does."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            inner = f"{path}.{key}" if path else str(key)
            found = _difference(one.get(key), other.get(key), inner)
            if found:
                return found
        return ""
    return "" if one == other else f"{path} is {one!r} in one and {other!r} in the other"


def _of_price(option: Option) -> list[Doubt]:
    found = []
    if option.cost.unpriced:
        found.append(Doubt(f"{option.cost.unpriced} It is listed without a price, after the rest."))
    capacity, fleet = option.cost.capacity, option.cost.fleet
    if capacity.needed and fleet and capacity.needed > fleet.most:
        text = (
            f"{capacity.text} The latencies are those of {fleet.most:g}; the cost of a month "
            f"counts {capacity.needed}."
        )
        found.append(Doubt(text))
    return found


def _between(runs: Sequence[Run]) -> list[Doubt]:
    found = []
    for key, text in (
        ("fingerprint", "The options were measured on different machines."),
        ("sha256", "The options were measured with different models."),
    ):
        part = "machine" if key == "fingerprint" else "model"
        if len({run.manifest.get(part, {}).get(key) for run in runs}) > 1:
            found.append(Doubt(text))
    return found
