"""Traffic that no schedule can hold, because each request waits for an answer first."""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from bench.units import DueTimes

_CHUNK = 256


class Closed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="closed"):
    """A number of users, each of whom waits for the answer, thinks, and sends again.

    A request is due when its user has thought enough; so a slow server gets less traffic.
    """

    users: Annotated[int, Meta(ge=1, le=10_000, description="users, each with one request at most")]
    think_s: Annotated[
        float, Meta(ge=0, le=1e6, description="mean seconds between an answer and the next request")
    ] = 1.0
    think: Annotated[
        Literal["exponential", "constant", "uniform", "lognormal"],
        Meta(description="how the seconds vary; uniform: from 0 to twice the mean"),
    ] = "exponential"
    think_cv: Annotated[
        float, Meta(gt=0, le=10, description="of lognormal: standard deviation over mean")
    ] = 1.0

    def expected_count(self, duration_s: float) -> float:
        """At most; answers that take their time make it less. 0: nobody can tell."""
        return self.users * duration_s / self.think_s if self.think_s else 0.0

    def due_times(self, duration_s: float, random: np.random.Generator) -> DueTimes:
        """The first request of each user: all that is known beforehand."""
        seed = int(random.integers(2**63))
        due = np.array([self.first_s(seed, user) for user in range(self.users)])
        return np.sort(due[due < duration_s])

    def first_s(self, seed: int, user: int) -> float:
        """When a user's first request is due: a part of one think time, so that all differ."""
        random = np.random.default_rng((seed, user, 0))
        return float(self._draw(random, 1)[0] * random.uniform())

    def think_times(self, seed: int, user: int) -> Iterator[float]:
        """The seconds that a user thinks after each answer; the same for the same seed."""
        random = np.random.default_rng((seed, user, 1))
        while True:
            yield from self._draw(random, _CHUNK).tolist()

    def _draw(self, random: np.random.Generator, count: int) -> DueTimes:
        mean = self.think_s
        if self.think == "exponential":
            return random.exponential(mean, count)
        if self.think == "uniform":
            return random.uniform(0, 2 * mean, count)
        if self.think == "lognormal" and mean:
            variance = np.log1p(self.think_cv**2)
            return random.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), count)
        return np.full(count, mean)


class Users(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="users"):
    """The users of a Locust file of one's own, who decide themselves when to send."""

    users: Annotated[int, Meta(ge=1, le=10_000, description="Locust's number of users")] = 10
    spawn_rate: Annotated[
        Annotated[float, Meta(gt=0, le=1e6)] | None,
        Meta(description="users that Locust starts in a second; default: all, but at most 100"),
    ] = None

    def expected_count(self, _: float) -> float:
        """0: nobody can tell."""
        return 0.0

    def due_times(self, _: float, __: np.random.Generator) -> DueTimes:
        """Nothing is known beforehand."""
        return np.empty(0)
