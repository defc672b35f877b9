"""Execution environments: an instance that serves one request at a time, and its cold start."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bench.target import Lambda, Serverless
from servers.endpoint import ColdStart, Means
from servers.instance import Instance, InstanceFailed, Startup
from servers.modelled import Delays
from servers.timers import Timer


@dataclass(eq=False)
class Environment:
    """An instance and, while it is idle, the timer that will end it."""

    instance: Instance
    version: int = 0
    """The endpoint's version that it was started for: an update leaves it behind."""
    provisioned: bool = False
    expiry: Timer | None = None

    def disarm(self) -> None:
        """It is not idle any more."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None


@runtime_checkable
class Weighed(Protocol):
    """An instance that can tell what it holds in memory."""

    def resident_bytes(self) -> int: ...


class Environments:
    """Starts and ends environments, and notes both."""

    def __init__(self, target: Serverless, means: Means, new_name: Callable[[], str]) -> None:
        package = target.package if isinstance(target, Lambda) else "image"
        self.delays = Delays(means.profile, package, means.package_bytes, means.seed)
        self.starting = 0
        self._means = means
        self._timers = means.timers
        self._new_name = new_name

    async def start(
        self, modelled: bool = True, for_request: bool = True
    ) -> tuple[Instance, ColdStart]:
        """A healthy instance; InstanceFailed, which is noted, when it is not in time.

        Without ``modelled`` it starts at once, as if the machine were there already. Call inside
        `Timers.working`; ``for_request`` when a caller waits for it.
        """
        instance = self._means.new_instance(self._new_name())
        placement_s = self.delays.placement_s() if modelled else 0.0
        pull_s = self.delays.pull_s() if modelled else 0.0
        wait = self._timers.sleep if for_request else self._timers.rest
        self.starting += 1
        try:
            if placement_s + pull_s > 0:
                await wait(placement_s + pull_s)
            asked_machine = time.perf_counter()
            # More starts than cores would slow each other down, which they do not on SageMaker.
            async with self._means.starts:
                wait_s = time.perf_counter() - asked_machine
                startup = await instance.start()
            await self._check(instance, startup, pull_s)
            retry_s = self._given_up_s(startup)
            if retry_s:
                await wait(retry_s)
        except InstanceFailed as failure:
            self._timers.note("instance_failed", instance=instance.name, reason=str(failure))
            raise
        finally:
            self.starting -= 1
        return instance, ColdStart(placement_s, wait_s, startup, pull_s, retry_s)

    async def end(self, instance: Instance, reason: str, detail: str = "") -> None:
        """Stop the instance; ``detail`` says more of the reason."""
        await instance.stop()
        self.ended(instance, reason, detail)

    def ended(self, instance: Instance, reason: str, detail: str = "") -> None:
        """Note that it is gone."""
        more = {"detail": detail} if detail else {}
        self._timers.note("instance_stopped", instance=instance.name, reason=reason, **more)

    async def _check(self, instance: Instance, startup: Startup, pull_s: float) -> None:
        """The limit covers fetching the model, which is modelled, and the start, which is not."""
        limit_s = self._means.profile["startup_timeout_s"]
        if pull_s + startup.setup_s > limit_s:
            await instance.stop()
            raise InstanceFailed(
                f"fetching the model took {pull_s:.1f} s and its start {startup.setup_s:.1f} s, "
                f"together more than the {limit_s:g} s allowed"
            )

    def _given_up_s(self, startup: Startup) -> float:
        entries = self._means.profile.entries
        if "first_startup_timeout_s" not in entries:
            return 0.0
        first_s = self._means.profile["first_startup_timeout_s"]
        return first_s if startup.setup_s > first_s else 0.0
