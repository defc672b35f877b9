"""A new configuration of a real-time endpoint: old instances serve until the new ones do."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from bench.target import Variant
from servers.branch import Branch
from servers.endpoint_config import EndpointConfig, VariantConfig
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
    """Brings one set of variants into service and then lets another one go."""

    def __init__(self, fresh: Sequence[Branch], timers: Timers) -> None:
        self.fresh = fresh
        self._timers = timers
        self._task: asyncio.Task[None] | None = None

    def begin(self, switch: Callable[[], Awaitable[None]], done: Callable[[str], None]) -> None:
        """Start the new instances; when all are healthy `switch` moves the traffic.

        ``done`` is told why it failed, or nothing.
        """
        # Not on the clock's account: what it waits for is, but for the modelled delays.
        self._task = asyncio.create_task(self._run(switch, done))

    async def stop(self) -> None:
        """Give up; what had started ends."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(
        self, switch: Callable[[], Awaitable[None]], done: Callable[[str], None]
    ) -> None:
        try:
            failure = await self._launched()
            with self._timers.working():
                if failure is None:
                    await switch()
                else:
                    await self._close("rolled back")
            self._timers.note("endpoint_updated" if failure is None else "update_failed")
            done("" if failure is None else failure)
        except asyncio.CancelledError:
            await self._close("closed")
            raise

    async def _launched(self) -> str | None:
        """Why not all are in service; None when they are."""
        launches = (branch.launch() for branch in self.fresh)
        outcomes = await asyncio.gather(*launches, return_exceptions=True)
        failures = [each for each in outcomes if isinstance(each, BaseException)]
        if not failures:
            return None
        known = next((each for each in failures if isinstance(each, InstanceFailed)), None)
        reason = str(known) if known is not None else "An internal failure occurred."
        return f"The new instances did not pass the health check: {reason}"

    async def _close(self, reason: str) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*(branch.close(reason) for branch in self.fresh))


def _refused(kind: str) -> ApiError:
    return validation_error(f"A real-time endpoint cannot become {kind}.")
