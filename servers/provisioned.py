"""Provisioned concurrency: environments kept initialised, and how many follows the load."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

import msgspec

from bench.target import ProvisionedScaling, Serverless
from servers.endpoint import Means
from servers.environments import Environment, Environments
from servers.instance import InstanceFailed
from servers.scaling import Bounds, Moment, State, Tracking, Windows, decide, tracking
from servers.timers import Timer

PERIOD_S = 60.0
"""Seconds between datapoints of ServerlessProvisionedConcurrencyUtilization."""

RETRY_S = 60.0
"""After a failed start; assumed."""


class Provisioned:
    """Keeps ``units`` environments ready; those at work are still part of them."""

    def __init__(self, units: int, environments: Environments, means: Means) -> None:
        self.units = units
        self.busy = 0
        self.version = 0
        self._renewals = 0
        self._idle: list[Environment] = []
        self._coming = 0
        self._environments = environments
        self._timers = means.timers
        self._retry: Timer | None = None

    @property
    def ready(self) -> int:
        """Those that are idle."""
        return len(self._idle)

    async def open(self) -> None:
        """Start all of them; InstanceFailed when one does not become healthy."""
        self._timers.note("provisioned", units=self.units)
        self._coming += self.units
        with self._timers.working():
            starts = [self._start(modelled=False) for _ in range(self.units)]
            outcomes = await asyncio.gather(*starts, return_exceptions=True)
        for failure in outcomes:
            if isinstance(failure, BaseException):
                raise failure

    def take(self) -> Environment | None:
        """One that is idle; None when all are at work or not ready yet."""
        while self._idle:
            environment = self._idle.pop()
            if environment.instance.alive:
                self.busy += 1
                return environment
            self._environments.ended(environment.instance, "ended by itself")
            self._fill()
        return None

    def give_back(self, environment: Environment, fit: bool) -> None:
        """Its request is over; unless ``fit`` it is replaced."""
        self.busy -= 1
        keep = fit and environment.version == self.version
        if keep and self.busy + len(self._idle) + self._coming < self.units:
            self._idle.append(environment)
        elif fit:
            reason = "fewer are provisioned" if keep else "endpoint updated"
            self._timers.start(self._environments.end(environment.instance, reason))
        self._fill()

    def resize(self, units: int, reason: str) -> None:
        """Keep ``units`` from now on."""
        if units == self.units:
            return
        self._timers.note("scaling", desired=units, before=self.units, reason=reason)
        self._timers.note("provisioned", units=units)
        self.units = units
        while self._idle and self.busy + len(self._idle) > units:
            gone = self._idle.pop(0)
            self._timers.start(self._environments.end(gone.instance, "fewer are provisioned"))
        self._fill()

    def renew(self, done: Callable[[], None]) -> None:
        """Start all of them anew; when they are ready the old ones go and ``done`` is called."""
        self._renewals += 1
        version, left = self._renewals, self.units
        fresh: list[Environment] = []

        async def start() -> None:
            nonlocal left
            with contextlib.suppress(InstanceFailed):
                fresh.append(await self._started(version, modelled=True))
            left -= 1
            if not left:
                self._switch(version, fresh)
                done()

        for _ in range(self.units):
            self._timers.start(start())
        if not left:
            self._switch(version, fresh)
            done()

    async def close(self) -> None:
        self.units = 0
        if self._retry is not None:
            self._retry.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(self._environments.end(each.instance, "closed") for each in idle))

    def _fill(self) -> None:
        """Start as many as are missing."""
        while self.busy + len(self._idle) + self._coming < self.units:
            self._coming += 1
            self._timers.start(self._replace())

    async def _replace(self) -> None:
        try:
            await self._start(modelled=True)
        except InstanceFailed:
            self._retry = self._timers.call_at(self._timers.now() + RETRY_S, self._fill)

    async def _start(self, modelled: bool) -> None:
        """One of those that are coming."""
        try:
            environment = await self._started(self.version, modelled)
        finally:
            self._coming -= 1
        if environment.version == self.version and self.busy + len(self._idle) < self.units:
            self._idle.append(environment)
        else:
            await self._environments.end(environment.instance, "no longer provisioned")

    async def _started(self, version: int, modelled: bool) -> Environment:
        instance, cold = await self._environments.start(modelled, for_request=False)
        setup_s = cold.startup.setup_s
        self._timers.note(
            "instance_started", instance=instance.name, setup_s=setup_s, provisioned=True
        )
        return Environment(instance, version, provisioned=True)

    def _switch(self, version: int, fresh: list[Environment]) -> None:
        """From now on the ``fresh`` ones are those that are provisioned."""
        gone = fresh
        if version > self.version:
            self.version = version
            gone, self._idle = self._idle, fresh
        for environment in gone:
            self._timers.start(self._environments.end(environment.instance, "endpoint updated"))
        self._fill()


class Scaler:
    """Changes the provisioned units on a schedule and by target tracking of their utilisation.

    It looks once a minute, but only while there is something to see: a quiet endpoint at its
    fewest units sets no timers.
    """

    def __init__(self, target: Serverless, provisioned: Provisioned, means: Means) -> None:
        self._target = target
        self._provisioned = provisioned
        self._timers = means.timers
        self._peak = 0
        self._values: list[float] = []
        self._last_s = 0.0
        self._timer: Timer | None = None
        self._planned: list[Timer] = []
        self._state = State(provisioned.units)
        self._policy: Tracking | None = None
        self._scaling: ProvisionedScaling | None = None
        self._windows = Windows(
            int(means.profile["scale_out_points"]),
            means.profile["scale_in_window_s"],
            means.profile["scale_in_share"],
        )
        self._least = provisioned.units
        self._set(target.provisioned_scaling)

    def follow(self, scaling: ProvisionedScaling | None) -> None:
        """Follow another policy from now on, or none; its bounds hold at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._values, self._last_s = [], self._timers.now()
        self._set(scaling)
        if scaling is not None:
            units = max(scaling.min_units, min(self._provisioned.units, scaling.max_units))
            self._state = State(units)
            self._provisioned.resize(units, "the bounds of its policy")
            self.touched()

    def hold(self, least: int, most: int, reason: str) -> None:
        """Keep between ``least`` and ``most`` units from now on, a policy too, and now."""
        if self._scaling is not None:
            self._scaling = msgspec.structs.replace(self._scaling, min_units=least, max_units=most)
        self._least = least
        units = Bounds(least, most).hold(self._provisioned.units)
        self._state = replace(self._state, desired=units)
        self._provisioned.resize(units, reason)
        self.touched()

    def _set(self, scaling: ProvisionedScaling | None) -> None:
        self._scaling, self._policy = scaling, None
        if scaling is not None:
            cooldowns_s = scaling.scale_out_cooldown_s, scaling.scale_in_cooldown_s
            goal = scaling.target_utilization
            self._policy = tracking(goal, PERIOD_S, self._windows, cooldowns_s)
            self._least = scaling.min_units

    def open(self) -> None:
        """Set the timers of the schedule when the load begins."""
        self._timers.when_load_begins(self._plan)

    def _plan(self, begin_s: float) -> None:
        for change in self._target.provisioned_schedule:
            self._planned.append(
                self._timers.call_at(begin_s + change.at_s, self._to(change.units))
            )

    def close(self) -> None:
        for timer in [*self._planned, *([self._timer] if self._timer else [])]:
            timer.cancel()

    def touched(self) -> None:
        """A request came or went."""
        self._peak = max(self._peak, self._provisioned.busy)
        if self._policy is None or self._timer is not None:
            return
        now = self._timers.now()
        # Silence has datapoints too, of which only so many are ever looked at.
        quiet = min(int((now - self._last_s) / PERIOD_S), self._looked_at())
        self._values += [0.0] * quiet
        self._timer = self._timers.call_at(now + PERIOD_S, self._look)

    def _looked_at(self) -> int:
        low = self._policy.low if self._policy else None
        return low.points if low else 1

    def _to(self, units: int) -> Callable[[], None]:
        def change() -> None:
            # With target tracking a scheduled change moves the fewest units, as AWS's does.
            self._least = units
            now_units = self._provisioned.units
            wanted = max(units, now_units) if self._policy else units
            self._state = State(wanted)
            self._provisioned.resize(wanted, "scheduled")
            self.touched()

        return change

    def _look(self) -> None:
        assert self._policy is not None
        scaling = self._scaling
        assert scaling is not None
        units, now = self._provisioned.units, self._timers.now()
        self._values.append(self._peak / units if units else 0.0)
        self._values = self._values[-self._looked_at() :]
        self._peak, self._last_s, self._timer = self._provisioned.busy, now, None
        bounds = Bounds(min(self._least, scaling.max_units), scaling.max_units)
        self._state = decide(self._policy, self._values, Moment(now, units, bounds), self._state)
        self._provisioned.resize(self._state.desired, self._state.reason or "its bounds")
        if self._provisioned.units > bounds.least or self._provisioned.busy:
            self._timer = self._timers.call_at(now + PERIOD_S, self._look)
