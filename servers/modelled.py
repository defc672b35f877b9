"""What is modelled of an environment's life: seeded draws from the profile's distributions."""

import math
import random
from dataclasses import dataclass
from statistics import NormalDist

from servers.profile import Profile


@dataclass(frozen=True)
class LogNormal:
    """A time or factor whose logarithm is normal; with ``sigma`` 0 it is always the median."""

    median: float
    sigma: float

    def draw(self, chance: random.Random) -> float:
        """One value."""
        return self.median * chance.lognormvariate(0.0, self.sigma)

    def cdf(self, value: float) -> float:
        """The share of values up to ``value``."""
        if value <= 0 or self.median <= 0:
            return float(value >= self.median)
        if self.sigma == 0:
            return float(value >= self.median)
        return NormalDist(math.log(self.median), self.sigma).cdf(math.log(value))


def keep_alive(profile: Profile) -> LogNormal:
    """How long an idle environment is kept. The chance of a cold start after a gap is its cdf."""
    return LogNormal(profile["keep_alive_s"], profile["keep_alive_sigma"])


class Delays:
    """The modelled delays of one endpoint, each kind from a seeded stream of its own.

    So a run with another keep-alive still draws the same placements.
    """

    def __init__(self, profile: Profile, package: str, package_bytes: int, seed: int) -> None:
        image = package == "image" and "image_factor" in profile.entries
        median_s = profile["placement_median_s"] * (profile["image_factor"] if image else 1.0)
        sigma = profile["image_sigma"] if image else profile["placement_sigma"]
        rate = profile["image_pull_mb_per_s" if image else "pull_mb_per_s"]
        self._placement = LogNormal(median_s, sigma)
        fetched_mb = package_bytes / 1e6 + profile["image_mb"]
        self._pull = LogNormal(fetched_mb / rate if rate > 0 else 0.0, sigma)
        self._keep_alive = keep_alive(profile)
        # The first seed as it is: the placements of earlier versions stay what they were.
        self._chances = (
            random.Random(seed),
            random.Random(f"pull {seed}"),
            random.Random(f"keep-alive {seed}"),
        )

    def placement_s(self) -> float:
        """Finding a machine and starting a container of a usual image."""
        return self._placement.draw(self._chances[0])

    def pull_s(self) -> float:
        """Fetching the model, and an image of one's own."""
        return self._pull.draw(self._chances[1])

    def keep_alive_s(self) -> float:
        """How long an environment that has just become idle is kept."""
        return self._keep_alive.draw(self._chances[2])
