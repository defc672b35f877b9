"""A variant that runs: its share of the requests, its instances, its metrics."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec import Struct

from servers.autoscaler import Autoscaler
from servers.endpoint import no_answer
from servers.instance import InstanceLost, InvocationTimeout, Replica
from servers.metrics import Book, Outcome
from servers.replicas import Replicas, Slot
from servers.timers import Timers
from servers.wire import ApiError

T = TypeVar("T")


class Turn(Struct, Generic[T], frozen=True):
    """What an instance gave. Its place is to be given back to the replicas."""

    slot: Slot
    value: T
    model_s: float


@dataclass(eq=False)
class Branch:
    """A production variant, or a shadow."""

    name: str
    weight: float
    count: int
    """Instances to begin with."""
    model: str
    """The name under which its model is known."""
    replicas: Replicas
    book: Book
    autoscaler: Autoscaler | None
    timers: Timers

    async def open(self) -> None:
        """Start the instances; InstanceFailed when one does not become healthy."""
        await self.replicas.open(self.count)

    async def close(self, reason: str = "closed") -> None:
        """Stop them, letting each finish what it holds."""
        if self.autoscaler is not None:
            self.autoscaler.close()
        await self.replicas.close(reason)

    def summary(self) -> dict[str, Any]:
        """Its weight and its instances, as ``DescribeEndpoint`` shows them."""
        return {
            "VariantName": self.name,
            "CurrentWeight": self.weight,
            "DesiredWeight": self.weight,
            "CurrentInstanceCount": self.replicas.in_service,
            "DesiredInstanceCount": self.replicas.desired,
        }

    def metered(self, began_s: float) -> "Metered":
        """Real work for one request, written into the metrics; `with` gives its `Outcome`."""
        return Metered(self, began_s)

    async def ask(
        self,
        endpoint: str,
        home: str | None,
        question: Callable[[Replica], Awaitable[T]],
        taken: Slot | None = None,
    ) -> Turn[T]:
        """Ask one instance, ``home`` if it is in service; ModelError when it does not answer.

        Where the request could not even be sent, another one is asked. ``taken`` is the place to
        begin with.
        """
        tried: list[Slot] = []
        while True:
            slot, taken = taken or self.replicas.take(tried, home), None
            began = time.perf_counter()  # the loop's own clock counts whole milliseconds
            try:
                return Turn(slot, await question(slot.replica), time.perf_counter() - began)
            except InvocationTimeout as error:
                self.replicas.give_back(slot)
                raise no_answer(endpoint, error) from error
            except InstanceLost as error:
                self.replicas.give_back(slot)
                self.replicas.suspect(slot)
                if error.sent:
                    raise no_answer(endpoint, error) from error
                tried.append(slot)
            except BaseException:
                self.replicas.give_back(slot)
                raise


class Metered:
    """From `begin`, or `with` where it has not begun, until the end of a `with`.

    What @contextmanager would give, at a third of its cost: it is on every request's path.
    """

    __slots__ = ("_asked_s", "_branch", "_outcome")

    def __init__(self, branch: Branch, began_s: float) -> None:
        self._branch = branch
        self._outcome = Outcome(began_s)
        self._asked_s: float | None = None

    def __enter__(self) -> Outcome:
        if self._asked_s is None:
            self.begin()
        return self._outcome

    def begin(self) -> None:
        branch = self._branch
        branch.book.begin(branch.timers.now(), branch.replicas.in_service)
        if branch.autoscaler is not None:
            branch.autoscaler.wake()
        self._asked_s = time.perf_counter()
        branch.timers.working().__enter__()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        timers, outcome = self._branch.timers, self._outcome
        timers.working().__exit__()
        if isinstance(error, ApiError):
            status = error.fields.get("OriginalStatusCode")
            if status is not None and self._asked_s is not None:
                outcome.status, outcome.model_s = status, time.perf_counter() - self._asked_s
        self._branch.book.end(timers.now(), outcome)


@dataclass(frozen=True)
class Lineup:
    """The variants of one configuration of an endpoint."""

    branches: list[Branch]
    shadow: Branch | None

    def all(self) -> list[Branch]:
        """The shadow, too."""
        return self.branches + ([self.shadow] if self.shadow else [])

    def named(self, variant: str) -> Branch | None:
        """The production variant of that name."""
        return next((branch for branch in self.branches if branch.name == variant), None)

    def shown(self, of: Callable[[Branch], dict[str, Any]]) -> dict[str, Any]:
        """The variants as the API lists them, each as ``of`` shows it."""
        found = {"ProductionVariants": [of(branch) for branch in self.branches]}
        return found | ({"ShadowProductionVariants": [of(self.shadow)]} if self.shadow else {})

    def holds(self, instance: str) -> bool:
        """Whether an instance of that name is in service here."""
        return any(branch.replicas.holds(instance) for branch in self.branches)
