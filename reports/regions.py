"""Which option is cheapest at which traffic and payload; modelled from what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from reports.bill import Cost, bisected
from reports.bounds import PAYLOAD, known_limits
from reports.option import Option
from reports.words import count, mode

GRID = 361


@dataclass(frozen=True)
class Region:
    """A range of requests a month in which one option is cheapest."""

    mode: str
    from_requests: float
    to_requests: float
    because: str
    """Why it begins here; empty at the start."""


def cheapest(costs: Sequence[Cost], requests: float) -> Cost:
    """The cheapest at so many requests a month; of equals the first."""
    return min(costs, key=lambda cost: cost.monthly_usd(requests))


def regions(costs: Sequence[Cost], low: float, high: float) -> tuple[Region, ...]:
    """The cheapest option from ``low`` to ``high`` requests a month, with the reason of each turn.

    Costs rise in steps where another instance is needed, so an option may lose and win again; the
    reason then names the instance.
    """
    priced = [cost for cost in costs if cost.priced]
    if not priced or not 0 < low < high:
        return ()
    found: list[Region] = []
    start, holder, because = low, cheapest(priced, low), ""
    for end in np.geomspace(low, high, GRID)[1:]:
        at = float(end)
        while (now := cheapest(priced, at)) is not holder:
            last = found[-1].to_requests if found else low
            left = max(start, last)
            edge = _edge(priced, holder, left, at)
            found.append(Region(holder.mode, start, edge, because))
            following = cheapest(priced, edge)
            if following is holder:
                following = now
            because = _reason(holder, following, edge)
            start, holder = edge, following
    found.append(Region(holder.mode, start, high, because))
    return tuple(found)


def _edge(costs: Sequence[Cost], holder: Cost, low: float, high: float) -> float:
    """Where ``holder`` stops being the cheapest."""
    return bisected(lambda requests: cheapest(costs, requests) is holder, low, high)


def _reason(loser: Cost, winner: Cost, at: float) -> str:
    before, after = (loser.instances(at * factor) for factor in (1 - 1e-6, 1 + 1e-6))
    if loser.fleet is not None and after > before * 1.001 + 1e-9 and float(after).is_integer():
        return (
            f"from {count(at)} requests a month {mode(loser.mode)} needs {after:.0f} instances "
            f"instead of {before:.3g}"
        )
    text = f"at {count(at)} requests a month {mode(winner.mode)} becomes cheaper"
    if winner.fleet is not None and winner.fleet.least == 0:
        full = winner.instances(at) >= winner.fleet.most * (1 - 1e-9)
        if full and winner.fleet.most < inf:
            text += ": its instances run all the time by then, so more requests cost little more"
    return text


@dataclass(frozen=True)
class Patchwork:
    """The cheapest option over traffic and payload; None: no option takes that payload."""

    requests: tuple[float, ...]  # a month, the edges of the columns
    payload_bytes: tuple[float, ...]  # the edges of the rows
    modes: tuple[tuple[str | None, ...], ...]  # a row for each payload, smallest first
    here: tuple[float, float]


def patchwork(options: Sequence[Option]) -> Patchwork | None:
    """The map for ``options``, all of which meet the objective; None without any price.

    The time in the model is taken to stay the same, whatever the payload.
    """
    priced = [option for option in options if option.cost.priced]
    if not priced:
        return None
    now = max(option.cost.requests_a_month for option in priced)
    payload = max(option.largest_payload_bytes for option in priced)
    x = np.geomspace(max(1.0, now / 1e4), max(1e4, now * 1e4), 61)
    y = np.geomspace(min(1e3, max(10.0, payload / 3)), 2e9, 41)
    limits = {option.mode: known_limits().get(option.mode, {}).get(PAYLOAD) for option in priced}
    rows = []
    for bytes_ in np.sqrt(y[1:] * y[:-1]):
        takes = [
            option
            for option in priced
            if (limit := limits[option.mode]) is None or bytes_ <= limit.value
        ]
        costs = [_with_payload(option, float(bytes_)) for option in takes]
        rows.append(
            tuple(
                cheapest(costs, float(each)).mode if costs else None
                for each in np.sqrt(x[1:] * x[:-1])
            )
        )
    return Patchwork(
        tuple(map(float, x)), tuple(map(float, y)), tuple(rows), (now, max(payload, 10.0))
    )


def _with_payload(option: Option, bytes_: float) -> Cost:
    """The cost if each request carried so many bytes: data and storage grow with them."""
    used, cost = option.summary.billable, option.cost
    total = used.request_bytes + used.response_bytes
    by_size = sum(i.amount_usd for i in cost.items if i.unit in ("GB", "GB-month"))
    each = max(1, cost.requests)
    rate = by_size / total if total else 0.0
    more = rate * (bytes_ - used.request_bytes / each)
    return Cost(**{**vars(cost), "per_request_usd": max(0.0, cost.per_request_usd + more)})
