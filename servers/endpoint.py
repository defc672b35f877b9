"""What every mode offers to the front end, and what they share."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from bench.events import EventLog
from servers.instance import Instance, InstanceLost, InvocationTimeout, Startup
from servers.profile import Profile
from servers.timers import Timers
from servers.wire import TIMED_OUT, VARIANT, Answer, ApiError, model_error


class Invocation(Struct, frozen=True):
    """A request as it came: body, headers with lower-case names, the id given to it."""

    body: bytes
    headers: dict[str, str]
    request_id: str
    began_s: float = 0.0
    """When it came, on the clock."""


@dataclass(frozen=True)
class ColdStart:
    """What the start of an environment took, in seconds.

    ``placement_s``, ``pull_s`` and ``retry_s`` are modelled. ``wait_s`` was spent waiting for a
    core of this machine because other environments were starting: SageMaker has no such wait.
    """

    placement_s: float
    wait_s: float
    startup: Startup
    pull_s: float = 0.0
    """Fetching the model."""
    retry_s: float = 0.0
    """A first attempt that was given up because it took too long (AWS Lambda)."""

    @property
    def modelled_s(self) -> float:
        """All that did not really happen here."""
        return self.placement_s + self.pull_s + self.retry_s


class Served(Struct, frozen=True):
    """A model's answer, and how it came about."""

    answer: Answer
    instance: str
    model_s: float
    cold: ColdStart | None = None
    variant: str = VARIANT


class StreamEnded(Exception):
    """A streamed answer broke off after its head; ``code`` as the API has it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Streamed:
    """A model's answer as it comes: its head, and its body piece by piece."""

    headers: dict[str, str]
    instance: str
    variant: str
    model_s: float
    """Until its head was there."""
    chunks: AsyncIterator[bytes]
    """StreamEnded when it does not end well."""
    abort: Callable[[], None]
    """Ends it: the caller has gone."""


@runtime_checkable
class Endpoint(Protocol):
    """A named model behind one option."""

    name: str
    payload_max_bytes: int

    async def open(self) -> None: ...
    async def invoke(self, invocation: Invocation) -> Served: ...
    async def close(self) -> None: ...
    def oversize(self, request_id: str) -> ApiError: ...
    def status(self) -> dict[str, Any]: ...


@dataclass
class Account:
    """The requests that are open in all endpoints that share an account's limit."""

    open: int = 0


@runtime_checkable
class StreamingEndpoint(Endpoint, Protocol):
    """One that can answer piece by piece."""

    def stream(self, invocation: Invocation) -> AbstractAsyncContextManager[Streamed]: ...


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
    package_bytes: int = 0
    """Size of what a cold start has to fetch: the model's archive."""
    account: Account = field(default_factory=Account)
    metrics: EventLog = EventLog(None)  # noqa: RUF009 - it writes nowhere
    """Takes the endpoint's metrics."""


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
    return good_answer(endpoint, answer, limit_bytes), took_s


def good_answer(endpoint: str, answer: Answer, limit_bytes: int) -> Answer:
    """The container's answer, if it is one that may go to the caller; else ModelError."""
    if not 200 <= answer.status < 300:
        raise model_error(endpoint, answer.status, answer.body.decode("utf-8", "replace"))
    if len(answer.body) > limit_bytes:
        raise model_error(
            endpoint, 500, f"the answer exceeds the limit of {limit_bytes} bytes for this endpoint"
        )
    return answer


def no_answer(endpoint: str, error: InvocationTimeout | InstanceLost) -> ApiError:
    """How the API words that the container did not answer."""
    if isinstance(error, InvocationTimeout):
        return model_error(endpoint, 0, TIMED_OUT)
    if error.status >= 400:
        return model_error(endpoint, error.status, None)
    return model_error(endpoint, 0, f"the container closed the connection: {error}")


async def _or_model_error(endpoint: str, call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except (InvocationTimeout, InstanceLost) as error:
        raise no_answer(endpoint, error) from error
