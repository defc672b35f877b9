"""Autoscaling decided: a metric's datapoints in, the wanted count out. No clock, no instances.

Follows Application Auto Scaling. A policy is asked once for each new datapoint:

    state = State(desired=1)
    state = decide(policy, values, Moment(now_s, capacity, Bounds(1, 4)), state)

``values`` are the metric's datapoints, one a period, oldest first, and zero where nothing came.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.scaling import PERIODS_S, Scaling, StepAlarm, TargetTracking

LONG_AGO_S = -math.inf


@dataclass(frozen=True)
class Bounds:
    """The fewest and the most that may be wanted."""

    least: int
    most: int

    def hold(self, count: int) -> int:
        """``count``, or the bound that it passes."""
        return max(self.least, min(self.most, count))


@dataclass(frozen=True)
class Alarm:
    """Rings while the last ``points`` datapoints are all beyond ``threshold``."""

    threshold: float
    points: int
    above: bool = True

    def rings(self, values: Sequence[float]) -> bool:
        """Whether it rings after these datapoints; with fewer than it needs it does not."""
        last = values[-self.points :]
        if len(last) < self.points:
            return False
        return all(v > self.threshold if self.above else v < self.threshold for v in last)


@dataclass(frozen=True)
class Tracking:
    """Target tracking: a high and a low alarm around a target, capacity in proportion."""

    target: float
    high: Alarm
    low: Alarm | None
    """None: never scales in."""
    out_cooldown_s: float
    in_cooldown_s: float


@dataclass(frozen=True)
class Stepping:
    """Step scaling: one alarm, and a change for each range of its breach."""

    alarm: Alarm
    steps: tuple[tuple[float, float], ...]
    """``(distance beyond the threshold where the range begins, change)``, ascending."""
    adjustment: Literal["change", "percent", "exact"]
    cooldown_s: float
    min_change: int = 1


Policy = Tracking | Stepping


@dataclass(frozen=True)
class Moment:
    """When it is, and what is in service: a metric "per instance" was divided by ``capacity``."""

    now_s: float
    capacity: int
    bounds: Bounds


@dataclass(frozen=True)
class State:
    """What is wanted, and what a policy remembers of its last changes."""

    desired: int
    out_s: float = LONG_AGO_S
    """When it last scaled out."""
    out_from: int = 0
    """The capacity before that: what was added since counts towards the next change."""
    in_s: float = LONG_AGO_S
    reason: str = ""
    """Why ``desired`` is what it is; empty while nothing has changed it."""


@dataclass(frozen=True)
class Windows:
    """How long target tracking watches before it acts."""

    out_points: int
    """Datapoints above the target."""
    in_s: float
    """Time below ``in_share`` of the target."""
    in_share: float


def tracking(
    target: float, period_s: float, windows: Windows, cooldowns_s: tuple[float, float]
) -> Tracking:
    """Target tracking with the alarms that AWS makes; ``cooldowns_s`` are out and in."""
    low = Alarm(target * windows.in_share, max(1, round(windows.in_s / period_s)), above=False)
    return Tracking(target, Alarm(target, windows.out_points), low, *cooldowns_s)


def policies_of(scaling: Scaling, windows: Windows) -> tuple[Policy, ...]:
    """What `decide_all` takes, from what the user wrote."""
    if isinstance(scaling, TargetTracking):
        cooldowns_s = scaling.scale_out_cooldown_s, scaling.scale_in_cooldown_s
        period_s = PERIODS_S[scaling.metric]
        policy = tracking(scaling.target_value, period_s, windows, cooldowns_s)
        return (replace(policy, low=None) if scaling.disable_scale_in else policy,)
    return tuple(_stepping(alarm) for alarm in scaling.alarms)


def _stepping(alarm: StepAlarm) -> Stepping:
    return Stepping(
        Alarm(alarm.threshold, alarm.points, above=alarm.when == "above"),
        tuple(sorted((step.from_, step.change) for step in alarm.steps)),
        alarm.adjustment,
        alarm.cooldown_s,
        alarm.min_change,
    )


def decide(policy: Policy, values: Sequence[float], moment: Moment, state: State) -> State:
    """The state after these datapoints; the same one when nothing is to change."""
    state = replace(state, desired=moment.bounds.hold(state.desired))
    if isinstance(policy, Tracking):
        wanted, reason = _tracked(policy, values, moment.capacity)
        out_cooldown_s, in_cooldown_s = policy.out_cooldown_s, policy.in_cooldown_s
    else:
        wanted, reason = _stepped(policy, values, moment.capacity)
        out_cooldown_s = in_cooldown_s = policy.cooldown_s
    if wanted is None or wanted == moment.capacity:
        return state
    if wanted > moment.capacity:
        return _out(state, wanted, moment, (out_cooldown_s, reason))
    resting = moment.now_s < state.in_s + in_cooldown_s
    wanted = moment.bounds.hold(wanted)
    if resting or wanted >= state.desired:
        return state
    return replace(state, desired=wanted, in_s=moment.now_s, reason=reason)


def decide_all(
    readings: Sequence[tuple[Policy, Sequence[float]]], moment: Moment, states: Sequence[State]
) -> list[State]:
    """Several policies of one target, each with its datapoints and its state.

    The largest scale-out wins; none is removed unless every target tracking that may scale in
    wants so. All states come back with the one count that was decided.
    """
    before = states[0].desired
    after = [
        decide(policy, values, moment, state)
        for (policy, values), state in zip(readings, states, strict=True)
    ]
    outs = [state for state in after if state.desired > before]
    ins = [state for state in after if state.desired < before]
    stays = any(
        isinstance(policy, Tracking) and policy.low is not None and state.desired >= before
        for (policy, _), state in zip(readings, after, strict=True)
    )
    if outs:
        chosen = max(outs, key=lambda state: state.desired)
    elif ins and not stays:
        chosen = max(ins, key=lambda state: state.desired)
    else:
        return [replace(state, desired=before) for state in states]
    # A policy whose wish was not followed has not acted: its cool-down does not begin.
    acted = [state.desired == chosen.desired for state in after]
    return [
        replace(new if did else old, desired=chosen.desired, reason=chosen.reason)
        for new, old, did in zip(after, states, acted, strict=True)
    ]


def _out(state: State, wanted: int, moment: Moment, rest: tuple[float, str]) -> State:
    """Scale out; during the cool-down only by what goes beyond the earlier addition."""
    cooldown_s, reason = rest
    resting = moment.now_s < state.out_s + cooldown_s
    base = state.out_from if resting else moment.capacity
    desired = moment.bounds.hold(base + wanted - moment.capacity)
    if desired <= state.desired:
        return state
    # A scale-out ends the rest after a scale-in.
    return State(desired, moment.now_s, base, LONG_AGO_S, reason)


def _tracked(policy: Tracking, values: Sequence[float], capacity: int) -> tuple[int | None, str]:
    if policy.high.rings(values):
        wanted = math.ceil(capacity * values[-1] / policy.target)
        return max(wanted, capacity), f"{values[-1]:g} is above the target of {policy.target:g}"
    if policy.low is not None and policy.low.rings(values):
        # The largest of the window: what is left must hold it without scaling out again.
        largest = max(values[-policy.low.points :])
        wanted = math.ceil(capacity * largest / policy.target)
        reason = f"{largest:g} is the most of {policy.low.points} points, below "
        return min(wanted, capacity), reason + f"{policy.low.threshold:g}"
    return None, ""


def _stepped(policy: Stepping, values: Sequence[float], capacity: int) -> tuple[int | None, str]:
    alarm = policy.alarm
    if not alarm.rings(values):
        return None, ""
    breach = (values[-1] - alarm.threshold) * (1 if alarm.above else -1)
    changes = [change for begins, change in policy.steps if breach >= begins]
    if not changes:
        return None, ""
    side = "above" if alarm.above else "below"
    reason = f"{values[-1]:g} is {side} the threshold of {alarm.threshold:g}"
    return _adjusted(policy, changes[-1], capacity), reason


def _adjusted(policy: Stepping, change: float, capacity: int) -> int:
    match policy.adjustment:
        case "exact":
            return int(change)
        case "percent":
            # Rounded as AWS does: away from zero below one, towards zero above.
            exact = capacity * change / 100
            whole = math.trunc(exact) if abs(exact) >= 1 else int(math.copysign(1, exact))
            if change and abs(whole) < policy.min_change:
                whole = int(math.copysign(policy.min_change, change))
            return capacity + whole
        case "change":
            return capacity + int(change)
