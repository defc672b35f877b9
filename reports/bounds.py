"""What each option refuses: hard limits, which no price and no measurement overrules."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from reports.words import mode, seconds, size

MODES = ("realtime", "serverless", "async", "batch")
PAYLOAD, PROCESSING, MEMORY = "payload_max_bytes", "invocation_timeout_s", "memory_max_bytes"
_FILE = Path(__file__).with_name("limits.toml")


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One limit, with where it was read and how sure that is."""

    value: float
    source: str
    confidence: str


@dataclass(frozen=True)
class Demand:
    """What this traffic asks of an option; None: not known."""

    payload_bytes: float
    processing_s: float | None  # at p99
    memory_bytes: float | None  # of one instance, at its peak


@dataclass(frozen=True)
class Bound:
    """A limit and what is asked of it."""

    mode: str
    name: str
    asked: float | None
    limit: float
    source: str

    @property
    def exceeded(self) -> bool:
        """Whether the option is out."""
        return self.asked is not None and self.asked > self.limit

    @property
    def reason(self) -> str:
        """One sentence with both values."""
        asked, limit = self.in_words(self.asked), self.in_words(self.limit)
        name = mode(self.mode)
        if self.name == PAYLOAD:
            return f"The largest payload is {asked}; {name} takes {limit}."
        if self.name == PROCESSING:
            return f"Processing takes {asked} at p99; {name} allows {limit}."
        return f"The model needs {asked} of memory; {name} gives {limit}."

    def in_words(self, value: float | None) -> str:
        """``value`` in the limit's unit."""
        return seconds(value) if self.name == PROCESSING else size(value or 0.0)


def known_limits() -> dict[str, dict[str, Limit]]:
    """The limits of every option that has some."""
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return msgspec.convert(table, dict[str, dict[str, Limit]], strict=False)


def bounds(name: str, demand: Demand, profile: Sequence[dict[str, Any]] = ()) -> tuple[Bound, ...]:
    """Every limit of the option ``name`` against ``demand``; ``profile`` is what its run held to.

    The memory a run was configured with is not a limit here: more can be configured.
    """
    asked = {
        PAYLOAD: demand.payload_bytes,
        PROCESSING: demand.processing_s,
        MEMORY: demand.memory_bytes,
    }
    held = {str(item["name"]): item for item in profile}
    found = []
    table = known_limits().get(name, {})
    for limit_name in (PAYLOAD, PROCESSING, MEMORY):
        if limit_name in held and limit_name != MEMORY:
            value = float(held[limit_name]["value"])
            source = f"the run's profile: {held[limit_name]['source']}"
        elif limit_name in table:
            value = table[limit_name].value
            source = f"{table[limit_name].source} ({table[limit_name].confidence})"
        else:
            continue
        found.append(Bound(name, limit_name, asked[limit_name], value, source))
    return tuple(found)


def excluded(found: Sequence[Bound]) -> str | None:
    """Why the option is out; None when it is not."""
    return next((bound.reason for bound in found if bound.exceeded), None)
