"""The queue of an asynchronous endpoint: what is accepted stays until its outcome is published.

A job is taken under a lease with a token. Whoever holds the lease renews it (`extend`), says once
how the job ended (`decide`), publishes that, and forgets the job (`finish`). A lease that is not
renewed ends and the job is taken again, by anyone; the old token is worth nothing then. So each job
is worked on at least once, and decided once: whoever takes a job that is decided publishes that
decision again instead of making another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import Struct


class Job(Struct, frozen=True):
    """One accepted request. Times are seconds since 1970 on the run's clock."""

    id: str
    """Never used twice; the inference id may be."""
    inference_id: str
    received_s: float
    expires_s: float
    """When it may no longer wait."""
    timeout_s: float
    """What the model has for its answer."""
    output: str
    failure: str
    """Locations of the result; ``failure`` may be empty: then a failure leaves no object."""
    input: str = ""
    """Location of the request; empty: it came with the call and the backlog holds it."""
    headers: dict[str, str] = {}
    """What the container is sent: content type, accept, custom attributes."""


class Outcome(Struct, frozen=True):
    """How a job ended. Decided once, published perhaps again."""

    status: Literal["Completed", "Failed"]
    reason: str = ""
    """Of a failure, as the notification says it."""
    staged: str = ""
    """File with the bytes of the object that is to be published."""
    content_type: str = ""
    code: int = 200
    """As an HTTP status: 200, the model's own, or 0 where no model answered."""
    size: int = 0
    """Bytes of that object."""
    error: str = ""
    """What kind of failure, in a word; empty: none."""


class Lease(Struct, frozen=True):
    """The right to work on a job."""

    job: Job
    key: int
    """Its place in the queue."""
    token: int
    """Larger with each taking."""
    deliveries: int
    """How often it has been taken, this time included."""
    decided: Outcome | None = None
    """What an earlier holder has decided and may not have published."""
    body: bytes | None = None
    """The request, where it came with the call."""


@dataclass(frozen=True)
class Counts:
    """How the queue stands."""

    waiting: int
    taken: int
    oldest_s: float | None = None
    """When the oldest one that waits was received."""

    @property
    def all(self) -> int:
        """``ApproximateBacklogSize``: those in processing count."""
        return self.waiting + self.taken


class Backlog(Protocol):
    """A durable queue. What returns has happened, also if the process dies at once."""

    async def open(self) -> None: ...

    async def put(self, job: Job, body: bytes | None = None) -> None: ...

    async def take(self, limit: int) -> list[Lease]:
        """Up to ``limit`` of the jobs that wait, the oldest first."""

    async def expired(self, now_s: float, limit: int) -> list[Lease]:
        """Take jobs that have waited beyond their time."""

    async def next_expiry_s(self) -> float | None:
        """When the next waiting job expires; None: nothing waits."""

    async def free_dead(self) -> int:
        """Free jobs whose holder is known to be dead; how many."""

    async def extend(self, leases: Sequence[Lease]) -> list[bool]:
        """Renew; false for those that are lost."""

    async def decided(self, limit: int) -> list[Lease]:
        """Take jobs that are decided and free: their holder died before it had published."""

    async def decide(self, lease: Lease, outcome: Outcome, again: bool = False) -> bool:
        """Note how the job ends; false, and nothing noted, when the lease is lost.

        ``again``: instead of an outcome that was decided and could not be published.
        """

    async def finish(self, lease: Lease) -> bool:
        """Forget the job, whose outcome is published; false when the lease is lost."""

    async def release(self, lease: Lease, delay_s: float = 0.0) -> None:
        """Put the job back, to be taken again when ``delay_s`` of real time have passed."""

    async def counts(self) -> Counts: ...

    async def close(self) -> None: ...
