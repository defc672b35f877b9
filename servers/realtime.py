"""Real-time: a persistent endpoint. One instance, kept running."""

import asyncio
import contextlib

from servers.endpoint import Invocation, Means, Served, call_model, instance_names
from servers.instance import Instance, InstanceFailed
from servers.wire import ApiError, content_too_long, throttled, unavailable

RESTART_DELAY_S = 1.0


class RealtimeEndpoint:
    """Sends every request to one instance, and starts it again when it ends by itself."""

    def __init__(self, name: str, means: Means) -> None:
        self.name = name
        self.payload_max_bytes = int(means.profile["payload_max_bytes"])
        self._means = means
        self._timers = means.timers
        self._new_name = instance_names("instance")
        self._instance: Instance | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._outstanding = 0

    async def open(self) -> None:
        """Start the instance; InstanceFailed when it does not become healthy."""
        instance = await self._start()
        self._keeper = asyncio.create_task(self._keep(instance))

    async def invoke(self, invocation: Invocation) -> Served:
        """The instance's answer; ServiceUnavailable while there is none."""
        instance = self._instance
        if instance is None or not instance.alive:
            raise unavailable(f"Endpoint {self.name} has no healthy instance. Try again.")
        if self._outstanding >= self._means.profile["max_outstanding"]:
            raise throttled()
        self._outstanding += 1
        try:
            with self._timers.working():
                answer, model_s = await call_model(
                    self.name, instance, invocation, self.payload_max_bytes
                )
            return Served(answer, instance.name, model_s)
        finally:
            self._outstanding -= 1

    async def close(self) -> None:
        """Stop the instance, letting it finish what it holds."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._instance is not None:
            await self._instance.stop()
            self._timers.note("instance_stopped", instance=self._instance.name, reason="closed")

    def oversize(self, _: str) -> ApiError:
        return content_too_long(self.payload_max_bytes)

    def status(self) -> dict[str, int]:
        running = int(self._instance is not None and self._instance.alive)
        return {"instances": running, "in_flight": self._outstanding, "backlog": 0}

    async def _start(self) -> Instance:
        instance = self._means.new_instance(self._new_name())
        with self._timers.working():
            startup = await instance.start()
        self._instance = instance
        self._timers.note("instance_started", instance=instance.name, setup_s=startup.setup_s)
        return instance

    async def _keep(self, instance: Instance) -> None:
        """Start another instance whenever the one there is has ended."""
        while True:
            status = await instance.ended()
            self._timers.note(
                "instance_stopped", instance=instance.name, reason=f"ended with status {status}"
            )
            while not instance.alive:
                try:
                    instance = await self._start()
                except InstanceFailed as failure:
                    self._timers.note("instance_failed", reason=str(failure))
                    await asyncio.sleep(RESTART_DELAY_S)
