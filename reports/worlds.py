"""What the answer would be if something that is assumed were otherwise; modelled throughout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.workload import Workload
from reports.bill import Cost
from reports.option import EXCLUDED, INVALID, MISSES, Option, Standing
from reports.timing import Floats
from reports.words import mode

MODEL_TIME = ("model time", "model time on it", "set-up time")


@dataclass(frozen=True)
class World:
    """Factors of what is taken now."""

    instance_price: float = 1.0
    serverless_price: float = 1.0
    speed: float = 1.0
    """Model time on AWS over the model time that the report counts with."""
    placement: float = 1.0
    setup: float = 1.0
    keep_alive: float = 1.0
    traffic: float = 1.0
    bill_setup: bool = False


@dataclass(frozen=True)
class Swing:
    """One assumed constant, moved down and up, and what that does."""

    name: str
    ends: tuple[str, str]
    ratios: tuple[float, float]
    """The rival's monthly cost over that of the answer, at both ends."""
    winners: tuple[str | None, str | None]
    basis: str

    @property
    def moves(self) -> bool:
        """Whether it changes anything that a chart can show."""
        low, high = self.ratios
        return abs(np.log(low / high)) > 0.005 if low > 0 and high > 0 else low != high


@dataclass(frozen=True)
class Sensitivity:
    """How far each assumed constant moves the answer."""

    winner: str
    rival: str
    rival_meets: bool
    ratio: float  # as things are taken now
    swings: tuple[Swing, ...]  # those that move it most first

    def flips(self, swing: Swing) -> bool:
        """Whether ``swing`` turns the answer at either end."""
        return any(name != self.winner for name in swing.winners)


_CONSTANTS: tuple[tuple[str, str, tuple[str, str], tuple[World, World]], ...] = (
    (
        "price of instances",
        "price table",
        ("20 % less", "25 % more"),
        (World(instance_price=0.8), World(instance_price=1.25)),
    ),
    (
        "price of serverless",
        "price table",
        ("20 % less", "25 % more"),
        (World(serverless_price=0.8), World(serverless_price=1.25)),
    ),
    (
        "model time on AWS",
        "assumed",
        ("half", "twice"),
        (World(speed=0.5), World(speed=2.0)),
    ),
    (
        "placement of a machine",
        "assumed",
        ("half", "twice"),
        (World(placement=0.5), World(placement=2.0)),
    ),
    (
        "set-up time on AWS",
        "assumed",
        ("half", "twice"),
        (World(setup=0.5), World(setup=2.0)),
    ),
    (
        "keep-alive",
        "assumed",
        ("half", "twice"),
        (World(keep_alive=0.5), World(keep_alive=2.0)),
    ),
    (
        "traffic",
        "what if",
        ("a tenth", "ten times"),
        (World(traffic=0.1), World(traffic=10.0)),
    ),
    (
        "billing of set-up time",
        "assumed",
        ("not billed", "billed"),
        (World(), World(bill_setup=True)),
    ),
)


def cost_in(cost: Cost, world: World) -> Cost:
    """``cost`` as it would be in ``world``, at the traffic that was measured."""
    if not cost.priced:
        return cost
    fleet = cost.fleet
    if fleet is not None:
        longer = world.speed if cost.mode == "batch" else 1.0
        fleet = replace(
            fleet,
            usd_hour=fleet.usd_hour * world.instance_price,
            mean=fleet.mean * longer,
            work_s=fleet.work_s * world.speed,
            per_instance_rps=fleet.per_instance_rps / world.speed,
        )
    if cost.mode != "serverless":
        return replace(cost, fleet=fleet)
    each = max(1, cost.requests)
    model = sum(i.amount_usd for i in cost.items if i.name in MODEL_TIME) / each
    per_request = cost.per_request_usd - model
    factor = world.speed * world.serverless_price
    per_request += model * factor
    if world.bill_setup and not cost.bill_setup:
        per_request += cost.setup_usd / each * factor * world.setup
    fixed = cost.fixed_month_usd * world.serverless_price
    return replace(cost, fixed_month_usd=fixed, per_request_usd=per_request)


def share_in_time(option: Option, latency_s: float, world: World) -> float:
    """The share of requests that would be answered within ``latency_s`` in ``world``."""
    timing = option.timing
    parts = timing.parts
    felt = timing.latency_s + (world.speed - 1) * parts["model_s"]
    felt = felt + (world.placement - 1) * parts["placement_s"]
    felt = felt + (world.setup - 1) * parts["setup_s"]
    if world.keep_alive != 1 and option.mode == "serverless":
        felt = felt + _kept(option, world)
    steady = timing.due_s >= option.summary.warm_up.until_s
    good = (timing.answered & (felt <= latency_s))[steady]
    return float(good.mean()) if len(good) else 0.0


def _kept(option: Option, world: World) -> Floats:
    """What another keep-alive adds to each latency: starts saved, and starts of their own."""
    timing, keep_s = option.timing, option.summary.traffic.keep_alive_s
    start = timing.parts["placement_s"] + timing.parts["setup_s"] + timing.wait_s
    silence = np.zeros(len(start))
    if len(start) > 1:
        busy = np.maximum.accumulate(np.fmax(timing.done_s, timing.due_s))
        silence[1:] = np.maximum(0.0, timing.due_s[1:] - busy[:-1])
    expired = timing.cold & (silence > keep_s)
    saved = expired & (silence <= keep_s * world.keep_alive)
    colder = ~timing.cold & (silence > keep_s * world.keep_alive)
    typical = float(np.median(start[timing.cold])) if timing.cold.any() else 0.0
    return np.where(saved, -start, 0.0) + np.where(colder, typical, 0.0)


@dataclass(frozen=True)
class Field:
    """The options that may be chosen from, and what is asked of them."""

    workload: Workload
    options: tuple[Option, ...]
    verdicts: dict[str, str]

    def able(self, world: World) -> list[Option]:
        """The options that would meet the objective in ``world``, cheapest first."""
        objective = self.workload.objective
        found = []
        for option in self.options:
            if self.verdicts[option.mode] in (EXCLUDED, INVALID) or not option.cost.priced:
                continue
            if option.summary.error_rate > objective.error_rate:
                continue
            share = share_in_time(option, objective.latency_s, world)
            if share >= objective.quantile and not _late(option, self):
                found.append(option)
        return sorted(found, key=lambda option: self.month_usd(option, world))

    def month_usd(self, option: Option, world: World) -> float:
        """What a month would cost in ``world``."""
        cost = cost_in(option.cost, world)
        return cost.monthly_usd(cost.requests_a_month * world.traffic)


def _late(option: Option, field: Field) -> bool:
    allowed = field.workload.objective.completion_s
    if allowed is None:
        return False
    return option.completed_s is None or option.completed_s > allowed


def sensitivity(
    workload: Workload, options: Sequence[Option], standings: Sequence[Standing]
) -> Sensitivity | None:
    """How far each assumed constant moves the answer; None when there is nothing to turn to."""
    field = Field(workload, tuple(options), {s.mode: s.verdict for s in standings})
    able = field.able(World())
    if not able:
        return None
    best = able[0]
    others = able[1:] or [
        o
        for o in sorted(options, key=lambda o: o.cost.month_usd)
        if o is not best and o.cost.priced and field.verdicts[o.mode] == MISSES
    ]
    if not others:
        return None
    rival = others[0]

    def ratio(world: World) -> float:
        return field.month_usd(rival, world) / max(field.month_usd(best, world), 1e-12)

    swings = []
    for name, basis, ends, worlds in _CONSTANTS:
        winners = [next((o.mode for o in field.able(world)), None) for world in worlds]
        low, high = (ratio(world) for world in worlds)
        swings.append(Swing(name, ends, (low, high), (winners[0], winners[1]), basis))
    ordered = sorted(
        swings, key=lambda s: -abs(np.log(max(s.ratios[0], 1e-12) / max(s.ratios[1], 1e-12)))
    )
    return Sensitivity(best.mode, rival.mode, bool(able[1:]), ratio(World()), tuple(ordered))


def turned(found: Sensitivity, swing: Swing) -> str:
    """What ``swing`` turns the answer to, in words; empty when it does not."""
    ends = [
        f"{end} makes it {mode(name)}"
        if name
        else f"{end} leaves no option that meets the objective"
        for end, name in zip(swing.ends, swing.winners, strict=True)
        if name != found.winner
    ]
    return "; ".join(ends)
