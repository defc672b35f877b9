"""Serverless: environments started from zero, one request in each at a time."""

import asyncio
import random
import time
from dataclasses import dataclass

from bench.target import Serverless
from servers.endpoint import ColdStart, Invocation, Means, Served, call_model, instance_names
from servers.instance import Instance, InstanceFailed
from servers.timers import Timer
from servers.wire import ApiError, NoModelAnswer, model_error, oversize_body, throttled


@dataclass
class Environment:
    """An instance and, while it is idle, the timer that will end it."""

    instance: Instance
    expiry: Timer | None = None


class ServerlessEndpoint:
    """Scales from zero: a request takes an idle environment or starts one of its own."""

    def __init__(self, name: str, target: Serverless, means: Means) -> None:
        self.name = name
        self.payload_max_bytes = int(means.profile["payload_max_bytes"])
        self._target = target
        self._means = means
        self._timers = means.timers
        self._new_name = instance_names("environment")
        self._placement = random.Random(means.seed)
        self._idle: list[Environment] = []
        self._starting = 0
        self._busy = 0

    async def open(self) -> None:
        """Nothing to start: the first request does."""

    async def invoke(self, invocation: Invocation) -> Served:
        """The answer of a warm environment, or of one started for this request.

        ThrottlingException when ``max_concurrency`` requests are already open.
        """
        if self._busy >= self._target.max_concurrency:
            raise throttled()
        self._busy += 1
        try:
            with self._timers.working():
                return await self._invoke(invocation)
        finally:
            self._busy -= 1

    async def close(self) -> None:
        """End every idle environment; those at work were waited for by the front end."""
        idle, self._idle = self._idle, []
        for environment in idle:
            self._disarm(environment)
        await asyncio.gather(*(self._end(environment, "closed") for environment in idle))

    def oversize(self, request_id: str) -> ApiError:
        return oversize_body(request_id)

    def status(self) -> dict[str, int]:
        instances = len(self._idle) + self._busy
        return {"instances": instances, "in_flight": self._busy, "backlog": self._starting}

    async def _invoke(self, invocation: Invocation) -> Served:
        environment, cold = self._take_idle(), None
        if environment is None:
            environment, cold = await self._start()
        try:
            answer, model_s = await call_model(
                self.name, environment.instance, invocation, self.payload_max_bytes
            )
        except NoModelAnswer:
            # It may still be at work on this request: it cannot take another.
            self._timers.start(self._end(environment, "gave no answer"))
            raise
        except ApiError:
            self._give_back(environment)
            raise
        # Back among the idle ones before the answer leaves: the caller's next request may arrive
        # the moment this one is complete.
        self._give_back(environment)
        return Served(answer, environment.instance.name, model_s, cold)

    def _take_idle(self) -> Environment | None:
        # The one used last goes first, so that those not needed grow old and expire.
        while self._idle:
            environment = self._idle.pop()
            self._disarm(environment)
            if environment.instance.alive:
                return environment
            self._timers.note(
                "instance_stopped", instance=environment.instance.name, reason="ended by itself"
            )
        return None

    async def _start(self) -> tuple[Environment, ColdStart]:
        asked_s = self._timers.now()
        placement_s = self._means.profile["placement_median_s"] * self._placement.lognormvariate(
            0.0, self._means.profile["placement_sigma"]
        )
        instance = self._means.new_instance(self._new_name())
        self._starting += 1
        try:
            await self._timers.sleep(placement_s)
            asked_machine = time.perf_counter()
            # More starts than cores would slow each other down, which they do not on SageMaker.
            async with self._means.starts:
                wait_s = time.perf_counter() - asked_machine
                startup = await instance.start()
        except InstanceFailed as failure:
            self._timers.note("instance_failed", instance=instance.name, reason=str(failure))
            message = f"the environment could not be started: {failure}"
            raise model_error(self.name, 500, message) from failure
        finally:
            self._starting -= 1
        self._timers.log.write(
            "cold_start",
            asked_s,
            instance=instance.name,
            placement_s=placement_s,
            wait_s=wait_s,
            setup_s=startup.setup_s,
            import_s=startup.import_s,
            load_s=startup.load_s,
        )
        return Environment(instance), ColdStart(placement_s, wait_s, startup)

    def _give_back(self, environment: Environment) -> None:
        if not environment.instance.alive:
            return
        self._idle.append(environment)
        environment.expiry = self._timers.call_at(
            self._timers.now() + self._means.profile["keep_alive_s"],
            lambda: self._expire(environment),
        )

    def _expire(self, environment: Environment) -> None:
        self._idle.remove(environment)
        self._timers.start(self._end(environment, "idle"))

    async def _end(self, environment: Environment, reason: str) -> None:
        await environment.instance.stop()
        self._timers.note("instance_stopped", instance=environment.instance.name, reason=reason)

    @staticmethod
    def _disarm(environment: Environment) -> None:
        if environment.expiry is not None:
            environment.expiry.cancel()
            environment.expiry = None
