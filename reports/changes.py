"""What would change the answer: the numbers at which another option wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from bench.workload import Workload
from reports.bill import Cost
from reports.option import EXCLUDED, INVALID, MEETS, MISSES, UNDECIDED, Option, Standing
from reports.regions import regions
from reports.words import count, mode, seconds, share, significant, times, usd

REACH = 1e6
"""How many times more or less traffic is looked at."""


@dataclass(frozen=True)
class Change:
    """One way in which the answer could turn."""

    name: str
    text: str
    basis: str  # measured, modelled or assumed
    flips: bool
    """Whether it would turn the answer, or only looks as if it might."""


def changes(
    workload: Workload,
    options: Sequence[Option],
    standings: Sequence[Standing],
    winner: str | None,
) -> tuple[Change, ...]:
    """The numbers at which the answer turns away from ``winner``."""
    known = {option.mode: option for option in options}
    verdicts = {standing.mode: standing.verdict for standing in standings}
    found = [_latency(workload, known, verdicts, winner)]
    # What no limit allows is not brought back by another keep-alive, nor by its price.
    if verdicts.get("serverless") not in (None, EXCLUDED, INVALID):
        found.append(_placement(workload, known["serverless"]))
        found.append(_keep_alive(workload, known["serverless"]))
    if {verdicts.get("realtime"), verdicts.get("serverless")} <= {MEETS, UNDECIDED}:
        pair = (known["realtime"], known["serverless"])
        found += [_setup(*pair), _speed(*pair)]
    found += _volume(_rivals(options, standings), winner, verdicts)
    return tuple(change for change in found if change)


def _rivals(options: Sequence[Option], standings: Sequence[Standing]) -> list[Cost]:
    """The costs to choose between: of those that meet the objective, if there are two, else all."""
    verdicts = {standing.mode: standing.verdict for standing in standings}
    able = [o.cost for o in options if verdicts[o.mode] in (MEETS, UNDECIDED)]
    if len(able) > 1:
        return able
    return [o.cost for o in options if verdicts[o.mode] not in (EXCLUDED, INVALID)]


def _latency(
    workload: Workload, known: dict[str, Option], verdicts: dict[str, str], winner: str | None
) -> Change | None:
    objective = workload.objective
    needed = share(objective.quantile)
    if winner and verdicts.get(winner) == MEETS:
        just = known[winner].summary.within.quantile_s
        if just is None:
            return None
        text = (
            f"Below a latency objective of {seconds(just)}, {mode(winner)} no longer answers "
            f"{needed} of requests in time (the objective is {seconds(objective.latency_s)})."
        )
        loser = _cheaper_loser(known, verdicts, winner)
        if loser and loser.summary.within.quantile_s is not None:
            eased = seconds(loser.summary.within.quantile_s)
            text += (
                f" From an objective of {eased} on, {mode(loser.mode)} would meet it too, "
                f"at {usd(loser.cost.month_usd)} a month."
            )
        return Change("latency objective", text, "measured", True)
    reached = [
        f"{mode(name)} {seconds(option.summary.within.quantile_s)}"
        for name, option in known.items()
        if option.summary.within.quantile_s is not None
    ]
    if not reached:
        return None
    text = f"The latency within which {needed} were answered: {', '.join(reached)}."
    return Change("latency objective", text, "measured", True)


def _cheaper_loser(
    known: dict[str, Option], verdicts: dict[str, str], winner: str
) -> Option | None:
    price = known[winner].cost.month_usd
    losers = [
        option
        for name, option in known.items()
        if verdicts.get(name) == "misses" and option.cost.month_usd < price
    ]
    return losers[0] if losers else None


def _volume(costs: Sequence[Cost], winner: str | None, verdicts: Mapping[str, str]) -> list[Change]:
    """Where the cheapest of ``costs`` changes with more traffic, and with less."""
    priced = [cost for cost in costs if cost.priced and cost.requests]
    if len(priced) < 2:
        return []
    now = priced[0].requests_a_month
    reach = (max(1.0, now / REACH), max(1e4, now * REACH))
    parts = regions(priced, *reach)
    here = next((i for i, part in enumerate(parts) if part.to_requests >= now), len(parts) - 1)
    found = []
    for way, index in (("Above", here + 1), ("Below", here - 1)):
        if not 0 <= index < len(parts):
            continue
        edge = parts[index].from_requests if way == "Above" else parts[index].to_requests
        ratio = edge / max(now, 1e-9)
        side = f"{times(ratio)} this traffic" if ratio >= 1 else f"{share(ratio)} of this traffic"
        reason = parts[max(index, here)].because
        text = (
            f"{way} {count(edge)} requests a month ({side}) {mode(parts[index].mode)} is cheaper "
            f"than {mode(parts[here].mode)}, if requests stay as they are."
        )
        if "instances" in reason:
            text += f" The reason: {reason}."
        text += _unchecked(priced, parts[index].mode)
        late = [part.mode for part in (parts[index], parts[here]) if verdicts[part.mode] == MISSES]
        if late:
            text += f" But {' and '.join(mode(name) for name in late)} missed the objective here."
        found.append(Change("request volume", text, "modelled", parts[here].mode == winner))
    return found


def _unchecked(costs: Sequence[Cost], name: str) -> str:
    fleet = next((cost.fleet for cost in costs if cost.mode == name), None)
    if fleet is not None and fleet.least > 0 and fleet.per_instance_rps == inf:
        return " Whether its instance carries that much was not checked."
    return ""


def _placement(workload: Workload, serverless: Option) -> Change | None:
    cold = serverless.summary.cold
    bearable, median_s = cold.bearable_placement, cold.placement_s
    if bearable is None or not median_s:
        return None
    text = (
        f"Finding a machine and pulling the image is modelled, {seconds(median_s)} at the median. "
        f"Serverless answers {share(workload.objective.quantile)} of requests in time as long as "
        f"it takes no more than {times(bearable)} that: {seconds(bearable * median_s)}."
    )
    return Change("placement", text, "assumed", True)


def _keep_alive(workload: Workload, serverless: Option) -> Change | None:
    summary, objective = serverless.summary, workload.objective
    traffic, cold = summary.traffic, summary.cold
    slow = cold.unhindered_s.at(0.95)
    keep = seconds(traffic.keep_alive_s)
    if not cold.count or slow is None:
        return None
    if slow <= objective.latency_s:
        text = (
            f"The assumed keep-alive of {keep} does not matter here: even cold starts "
            f"({seconds(slow)} at p95) meet the objective."
        )
        return Change("keep-alive", text, "assumed", False)
    bearable = traffic.bearable_keep_alive_s
    allowed = share(1 - objective.quantile)
    if not bearable:
        text = f"The assumed keep-alive of {keep} hardly matters: this traffic leaves no silence."
        return Change("keep-alive", text, "assumed", False)
    turn = "rise above" if traffic.after_keep_alive <= 1 - objective.quantile else "fall to"
    text = (
        f"{share(cold.share)} of requests started cold under an assumed keep-alive of {keep}. "
        f"If AWS kept idle environments for {seconds(bearable)}, that share would {turn} about "
        f"{allowed}, the share that may be slow."
    )
    return Change("keep-alive", text, "assumed", True)


def _setup(realtime: Option, serverless: Option) -> Change | None:
    cost = serverless.cost
    if not cost.setup_usd:
        return None
    scale = cost.month_s / max(cost.period_s, 1e-9)
    without = cost.month_usd - (cost.setup_usd * scale if cost.bill_setup else 0.0)
    billed = without + cost.setup_usd * scale
    other = realtime.cost.month_usd
    flips = (without < other) != (billed < other)
    end = "the cheaper option changes" if flips else "the cheaper option stays the same"
    text = (
        f"AWS does not say whether it bills set-up time. If it does, serverless costs "
        f"{usd(billed)} a month instead of {usd(without)}: {end}."
    )
    return Change("billing of set-up time", text, "assumed", flips)


def _speed(realtime: Option, serverless: Option) -> Change | None:
    model = next((item for item in serverless.cost.items if item.name == "model time"), None)
    if model is None or not model.amount_usd:
        return None
    scale = serverless.cost.month_s / max(serverless.cost.period_s, 1e-9)
    compute = model.amount_usd * scale
    ratio = (realtime.cost.month_usd - serverless.cost.month_usd + compute) / compute
    if ratio <= 0:
        return None
    median = serverless.summary.model_s.at(0.5)
    text = (
        f"The model took {seconds(median)} a request on this machine. The costs would be equal "
        f"if it took {significant(ratio, 2)} times as long on AWS."
    )
    return Change("speed of the machine", text, "modelled", True)
