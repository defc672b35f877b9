"""A new configuration of a real-time endpoint: old instances serve until the new ones do."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

from bench.target import Variant
from servers.branch import Branch, Lineup
from servers.endpoint_config import EndpointConfig, VariantConfig
from servers.endpoint_operations import Watch
from servers.guardrails import Course, Step
from servers.instance import InstanceFailed
from servers.layout import Plan
from servers.timers import Timers
from servers.wire import ApiError, validation_error


def planned(config: EndpointConfig, current: Sequence[Branch], routing: str) -> list[Plan]:
    """What the configuration asks for; weights and counts of ``current`` variants stay as they are.

    ValidationError when it is not one of a real-time endpoint.
    """
    request = config.request
    if request.async_inference_config is not None:
        raise _refused("asynchronous")
    now = {branch.name: branch for branch in current}

    def plan(variant: VariantConfig, shadow: bool) -> Plan:
        if variant.serverless_config is not None:
            raise _refused("serverless")
        weight, count = variant.initial_variant_weight, variant.initial_instance_count or 1
        if (kept := now.get(variant.variant_name)) is not None and not shadow:
            weight, count = kept.weight, kept.replicas.desired
        chosen = variant.routing_config
        return Plan(
            Variant(variant.variant_name, weight, count, variant.model_name),
            count,
            chosen.routing_strategy if chosen else routing,
            variant.model_name,
            shadow,
        )

    return [
        *(plan(variant, False) for variant in request.production_variants),
        *(plan(variant, True) for variant in request.shadow_production_variants),
    ]


class Rollout:
    """Brings one set of variants into service beside another, shifts the traffic, ends the other.

    Whatever fails on the way, all traffic goes back to the old ones. Those that have ended by then
    are launched again, until they are in service: SageMaker's UpdateRollbackFailed does not occur.
    """

    def __init__(
        self, old: Lineup, fresh: Lineup, course: Course, watch: Watch, timers: Timers
    ) -> None:
        self.old = old
        self.fresh = fresh
        self.share = 0.0
        """Of the traffic, that the fresh variants get."""
        self.stage: Literal["Creating", "Baking", "Deleting"] = "Creating"
        """Of the fresh variants; Deleting: it has failed, and goes back."""
        self._course = course
        self._watch = watch
        self._timers = timers
        self._task: asyncio.Task[None] | None = None
        self._whole = {branch: branch.count for branch in fresh.all()}
        self._whole |= {branch: branch.replicas.desired for branch in old.all()}

    def begin(self, done: Callable[[str], None]) -> None:
        """Start the new instances; ``done`` is told in the end why it failed, or nothing."""
        self._task = self._timers.start(self._run(done))

    async def stop(self) -> None:
        """Give up; what had started ends, the old ones stay."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def pending(self) -> dict[str, Any]:
        """The variants of PendingDeploymentSummary."""
        stage = {"VariantStatus": [{"Status": self.stage}]}
        return self.fresh.shown(lambda branch: branch.summary() | stage)

    async def _run(self, done: Callable[[str], None]) -> None:
        try:
            with self._counts_held():
                failure = await self._until_given_up()
                if failure:
                    self.stage = "Deleting"
                    await self._go_back()
            self.share = 0.0 if failure else 1.0
            ends, reason = self.old, "endpoint updated"
            if failure:
                ends, reason = self.fresh, "rolled back"
            await _close(ends, reason)
            self._timers.note("update_failed" if failure else "endpoint_updated")
            done(failure or "")
        except asyncio.CancelledError:
            self.share = 0.0
            await _close(self.fresh, "closed")
            raise

    @contextlib.contextmanager
    def _counts_held(self) -> Iterator[None]:
        """Where instances come and go in batches, no policy changes their number meanwhile."""
        scalers = [branch.autoscaler for branch in self._whole] if self._course.back else []
        for scaler in filter(None, scalers):
            scaler.pause()
        yield
        for scaler in filter(None, scalers):
            scaler.resume()

    async def _until_given_up(self) -> str | None:
        """Why the deployment failed; None when only the old instances are left to end."""
        way, limit_s = asyncio.create_task(self._way()), self._course.limit_s
        reasons: list[str] = []

        def give_up(reason: str) -> None:
            reasons.append(reason)
            # On the account: the clock is not turned until the way has felt it.
            self._timers.start(_cancelled(way))

        slow = partial(give_up, f"It took more than {limit_s:g} s.")
        at_s = self._timers.now() + limit_s
        limit = self._timers.call_at(at_s, slow) if limit_s < math.inf else None
        unwatch = self._watch(give_up)
        try:
            await asyncio.wait([way])
            return reasons[0] if way.cancelled() else way.result()
        finally:
            unwatch()
            await _cancelled(way)
            if limit is not None:
                limit.cancel()

    async def _way(self) -> str | None:
        for step in self._course.steps:
            self.stage = "Creating"
            if (failure := await self._grown(self.fresh, step.grown)) is not None:
                return failure
            self.stage = "Baking"
            self._shift(step.share)
            await self._timers.rest(self._course.bake_s)
            if step.kept:  # the last ones end when nothing can fail any more
                await self._shrunk(self.old, step, "endpoint updated")
        await self._timers.rest(self._course.termination_s)
        return None

    async def _go_back(self) -> None:
        if (back := self._course.back) is None:
            return
        for step in back.steps(sum(branch.replicas.desired for branch in self.old.branches)):
            while await self._grown(self.old, step.grown) is not None:
                pass  # each try takes its time on the clock, and is in the events
            self._shift(step.share)
            await self._shrunk(self.fresh, step, "rolled back")

    def _shift(self, share: float) -> None:
        self.share = share
        self._timers.note("traffic_shifted", share=round(share, 6))

    async def _grown(self, lineup: Lineup, count: int) -> str | None:
        """Why not ``count`` of each variant, or all, are in service; None when they are.

        A shadow grows as a whole.
        """
        if not count:
            return None
        wanted = {branch: min(count, self._whole[branch]) for branch in lineup.branches}
        if lineup.shadow:
            wanted[lineup.shadow] = self._whole[lineup.shadow]
        launches = [branch.replicas.launch(most) for branch, most in wanted.items()]
        outcomes = await self._timers.together(launches)
        failures = [each for each in outcomes if isinstance(each, BaseException)]
        if not failures:
            return None
        known = next((each for each in failures if isinstance(each, InstanceFailed)), None)
        reason = str(known) if known is not None else "An internal failure occurred."
        return f"The new instances did not pass the health check: {reason}"

    async def _shrunk(self, lineup: Lineup, step: Step, reason: str) -> None:
        shrinking = [branch.replicas.shrink(step.kept, reason) for branch in lineup.branches]
        await asyncio.gather(*shrinking)


async def _cancelled(way: "asyncio.Task[str | None]") -> None:
    way.cancel()
    await asyncio.gather(way, return_exceptions=True)


async def _close(lineup: Lineup, reason: str) -> None:
    """To the end, also when who waits for it is cancelled: no process is left behind."""
    closing = asyncio.gather(*(branch.close(reason) for branch in lineup.all()))
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise


def _refused(kind: str) -> ApiError:
    return validation_error(f"A real-time endpoint cannot become {kind}.")
