"""The figures of money: what a month costs, where the answer turns, what moves it."""

from reports import moneyplots
from reports.bill import Cost
from reports.drawn import Drawn, both, frames, sentence
from reports.option import EXCLUDED, MEETS, UNDECIDED, Option
from reports.regions import Region, patchwork, regions
from reports.report import Report
from reports.words import count, mode, significant, size, usd
from reports.worlds import turned

WIDEST = 1e7

_BARS = ("cost", "A month of this traffic")
_VOLUME = ("volume", "Cost against volume")
_MAP = ("map", "The cheapest option by traffic and payload")
_TORNADO = ("tornado", "What moves the answer")


def money(report: Report) -> list[Drawn | None]:
    """Every figure of money that there is data for."""
    return [_bars(report), _volume(report), _map(report), _tornado(report)]


def _priced(report: Report) -> list[Option]:
    return [option for option in report.options if option.cost.priced]


def _rivals(report: Report) -> list[Option]:
    """Those that meet the objective or may; all that no limit excludes, where fewer than two do."""
    verdicts = {s.mode: s.verdict for s in report.recommendation.standings}
    priced = _priced(report)
    able = [option for option in priced if verdicts[option.mode] in (MEETS, UNDECIDED)]
    if len(able) > 1:
        return able
    return [option for option in priced if verdicts[option.mode] != EXCLUDED]


def _bars(report: Report) -> Drawn | None:
    costs = [option.cost for option in _priced(report)]
    if not costs:
        return None
    parts = [f"{mode(cost.mode)} {usd(cost.month_usd)} a month" for cost in costs]
    return Drawn(
        slug=_BARS[0],
        title=_BARS[1],
        basis="modelled from measured use",
        svg=both(_BARS, moneyplots.cost_bars, costs, parts, frames(30 + 34 * len(costs))),
        how_to_read="The longer the bar, the more a month of the same traffic costs.",
        shows=sentence(parts),
    )


def _volume(report: Report) -> Drawn | None:
    costs = [option.cost for option in _rivals(report) if option.cost.requests]
    if len(costs) < 2:
        return None
    now = costs[0].requests_a_month
    found = regions(costs, max(1.0, now / WIDEST), now * WIDEST)
    reach = moneyplots.reach_of(costs, [region.from_requests for region in found[1:]])
    shown = regions(costs, *reach)
    parts = [f"this traffic is {count(now)} requests a month", *_turns(costs, shown, now)]
    data = moneyplots.Volume(tuple(costs), shown, now, reach)
    left = _left_out(report, costs)
    return Drawn(
        slug=_VOLUME[0],
        title=_VOLUME[1],
        basis="modelled from measured service times",
        svg=both(_VOLUME, moneyplots.cost_curves, data, parts, frames(290, 270)),
        how_to_read=(
            "The lowest line is the cheapest option at that many requests a month, and the band "
            "below repeats which one it is; the dashed upright line is this traffic, a diamond a "
            "volume at which the cheapest changes." + left
        ),
        shows=sentence(parts),
    )


def _turns(costs: list[Cost], found: tuple[Region, ...], now: float) -> list[str]:
    here = next((region.mode for region in found if region.to_requests >= now), costs[0].mode)
    return [f"{mode(here)} is the cheapest there", *(region.because for region in found[1:])]


def _left_out(report: Report, costs: list[Cost]) -> str:
    shown = {cost.mode for cost in costs}
    missing = [mode(option.mode) for option in report.options if option.mode not in shown]
    return f" Not drawn: {', '.join(missing)}." if missing else ""


def _map(report: Report) -> Drawn | None:
    rivals = _rivals(report)
    found = patchwork(rivals) if len(rivals) > 1 else None  # one alone takes the whole map
    if found is None:
        return None
    present = [each for row in found.modes for each in row if each]
    if not present:
        return None
    area = {name: present.count(name) / len(present) for name in dict.fromkeys(present)}
    widest = max(area, key=lambda name: area[name])
    parts = [
        f"this traffic is {count(found.here[0])} requests a month of up to {size(found.here[1])}",
        f"{mode(widest)} takes the largest part of the map",
    ]
    return Drawn(
        slug=_MAP[0],
        title=_MAP[1],
        basis="modelled",
        svg=both(_MAP, moneyplots.cost_map, found, parts, frames(290, 280)),
        how_to_read=(
            "Each place is a number of requests a month and a size of payload; its pattern names "
            "the cheapest of the options that take such a payload. The ringed dot is this "
            "traffic. The model is taken to need the same time whatever the payload. Memory is no "
            "axis: at another size the model takes another time, which only a measurement tells; "
            "a sweep over memory_mb gives the costs by traffic and memory."
        ),
        shows=sentence(parts),
    )


def _tornado(report: Report) -> Drawn | None:
    found = report.sensitivity
    if found is None:
        return None
    moving = [swing for swing in found.swings if swing.moves or found.flips(swing)]
    still = [swing.name for swing in found.swings if swing not in moving]
    if not moving:
        return None
    parts = [
        f"{mode(found.rival)} costs {significant(found.ratio, 2)} times as much as "
        f"{mode(found.winner)}"
    ]
    if not found.rival_meets:
        parts[0] += ", but misses the objective"
    flips = [f"{s.name}: {turned(found, s)}" for s in found.swings if found.flips(s)]
    parts += flips or ["none of these constants turns the answer"]
    if still:
        parts.append(f"no effect: {', '.join(still)}")
    ends = "; ".join(f"{swing.name}: {swing.ends[0]} to {swing.ends[1]}" for swing in moving)
    return Drawn(
        slug=_TORNADO[0],
        title=_TORNADO[1],
        basis="modelled",
        svg=both(_TORNADO, moneyplots.tornado, found, parts, frames(55 + 26 * len(moving))),
        how_to_read=(
            "Each bar moves one assumed constant while all others stay; the solid line is where "
            "things are now, the dashed one where both cost the same. A hatched bar turns the "
            "answer by itself; a diamond turns it without a change of cost, because requests would "
            f"be answered too late. The ranges: {ends}."
        ),
        shows=sentence(parts),
    )
