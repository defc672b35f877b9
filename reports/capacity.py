"""What a search for the highest rate found, in words and as a table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from bench.capacity import INVALID, MISSES, Capacity, Step
from bench.errors import ConfigError
from bench.run import Run, read_run
from reports.curve import FILE
from reports.words import mode, quantile, seconds, share, significant


@dataclass(frozen=True)
class Found:
    """What the search found for one option, and the run at the first rate."""

    mode: str
    capacity: Capacity
    run: Run


def read_findings(folder: Path) -> list[Found]:
    """What the search in ``folder`` found, option by option; ConfigError when it is no search."""
    found = []
    for path in sorted(folder.glob(f"*/{FILE}")):
        first = path.parent / "01"
        if not (first / "manifest.json").exists():
            continue
        try:
            capacity = msgspec.convert(json.loads(path.read_text(encoding="utf-8")), Capacity)
        except (ValueError, msgspec.ValidationError) as error:
            raise ConfigError(f"{path} is no capacity: {error}. Search again.") from None
        found.append(Found(path.parent.name, capacity, read_run(first)))
    if not found:
        raise ConfigError(f"{folder} holds no search for the capacity. Search again.")
    return found


class Findings:
    """The capacity of each option, for a terminal."""

    def __init__(self, found: Mapping[str, Capacity]) -> None:
        self._found = found

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        for name, capacity in self._found.items():
            yield Text(sentence(name, capacity), style="bold")
            yield _table(capacity)
        yield Text("Measured on this machine, not AWS: the load generator shares its cores.")


def sentence(name: str, found: Capacity) -> str:
    """The result for the option ``name``, in one sentence or two."""
    who = mode(name).capitalize()
    what = f"{quantile(found.quantile)} within {seconds(found.objective_s)}"
    if found.highest_rps is None:
        return f"{who} met {what} at no rate that was tried."
    rate = significant(found.highest_rps, 3)
    text = f"{who} meets {what} up to {rate} requests a second"
    if not found.bounded:
        text += ", or more: no higher rate missed it"
        if any(step.verdict == INVALID for step in found.steps):
            text += ", because the load generator could not keep a higher one"
    if found.knee_rps is not None:
        text += f"; latency begins to climb at about {significant(found.knee_rps, 2)}"
    return f"{text}."


def reason(found: Capacity) -> str:
    """The two rates between which it turns, with what was measured at each."""
    q = quantile(found.quantile)
    below = [step for step in found.steps if step.rate_rps == found.highest_rps]
    above = [
        step
        for step in found.steps
        if step.verdict == MISSES and step.rate_rps > (found.highest_rps or 0.0)
    ]
    texts = []
    if below:
        texts.append(f"At {_rate(below[0].rate_rps)}, {q} was {_latency(below[0].latency_s)}")
    if above:
        step = above[0]
        failed = f"{share(step.error_rate)} failed"
        if step.latency_s is not None:
            it = "it" if texts else q
            more = f" and {failed}" if step.error_rate else ""
            failed = f"{it} was {_latency(step.latency_s)}{more}"
        texts.append(f"{'at' if texts else 'At'} {_rate(step.rate_rps)} {failed}")
    return "; ".join(texts) + "." if texts else ""


def head(found: Capacity) -> tuple[str, ...]:
    """The names of what `cells` gives."""
    return ("rate", "answered", "p50", quantile(found.quantile), "failed", "requests", "verdict")


def _table(found: Capacity) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head(found):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for step in found.steps:
        table.add_row(*cells(step))
    return table


def _rate(rate_rps: float) -> str:
    return f"{significant(rate_rps, 3)} requests a second"


def cells(step: Step) -> tuple[str, ...]:
    """One rate, and how it went."""
    return (
        f"{significant(step.rate_rps, 3)}/s",
        f"{significant(step.achieved_rps, 3)}/s",
        _latency(step.median_s),
        _latency(step.latency_s),
        share(step.error_rate),
        f"{step.requests:,}",
        f"{step.verdict}. {step.because}" if step.because else step.verdict,
    )


def _latency(value_s: float | None) -> str:
    return "none" if value_s is None else seconds(value_s)
