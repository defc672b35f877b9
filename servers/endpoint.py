"""What every mode offers to the front end, and what they share."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from servers.instance import Instance, InstanceLost, InvocationTimeout, Startup
from servers.profile import Profile
from servers.timers import Timers
from servers.wire import TIMED_OUT, Answer, ApiError, model_error


@dataclass(frozen=True)
class Invocation:
    """A request as it came: body, headers with lower-case names, the id given to it."""

    body: bytes
    headers: dict[str, str]
    request_id: str


@dataclass(frozen=True)
class ColdStart:
    """What the start of an environment took, in seconds.

    ``placement_s`` is modelled. ``wait_s`` was spent waiting for a core of this machine because
    other environments were starting: SageMaker has no such wait.
    """

    placement_s: float
    wait_s: float
    startup: Startup


@dataclass(frozen=True)
class Served:
    """A model's answer, and how it came about."""

    answer: Answer
    instance: str
    model_s: float
    cold: ColdStart | None = None


class Endpoint(Protocol):
    """A named model behind one option."""

    name: str
    payload_max_bytes: int

    async def open(self) -> None: ...
    async def invoke(self, invocation: Invocation) -> Served: ...
    async def close(self) -> None: ...
    def oversize(self, request_id: str) -> ApiError: ...
    def status(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Means:
    """What a mode works with."""

    profile: Profile
    new_instance: Callable[[str], Instance]
    """Makes an instance, not started, from its name: the seam between a mode and its back end."""
    timers: Timers
    starts: asyncio.Semaphore
    """A place for each environment that this machine can start at full speed."""
    seed: int = 1


def instance_names(prefix: str) -> Callable[[], str]:
    """Names in the order of birth: ``prefix-1``, ``prefix-2``, …"""
    count = itertools.count(1)
    return lambda: f"{prefix}-{next(count)}"


async def call_model(
    endpoint: str, instance: Instance, invocation: Invocation, limit_bytes: int
) -> tuple[Answer, float]:
    """The container's good answer and the seconds it took; ModelError for every other outcome."""
    began = time.perf_counter()  # the loop's own clock counts whole milliseconds
    answer = await _or_model_error(
        endpoint, instance.invoke(invocation.body, invocation.headers, limit_bytes)
    )
    took_s = time.perf_counter() - began
    if not 200 <= answer.status < 300:
        text = answer.body.decode("utf-8", "replace")
        raise model_error(endpoint, answer.status, text)
    if len(answer.body) > limit_bytes:
        raise model_error(
            endpoint, 500, f"the answer exceeds the limit of {limit_bytes} bytes for this endpoint"
        )
    return answer, took_s


async def _or_model_error(endpoint: str, call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except InvocationTimeout:
        raise model_error(endpoint, 0, TIMED_OUT) from None
    except InstanceLost as error:
        raise model_error(endpoint, 0, f"the container closed the connection: {error}") from error
