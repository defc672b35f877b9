"""Whom a request goes to: a variant by weight, an instance by the routing strategy."""

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

LEAST_OUTSTANDING = "LEAST_OUTSTANDING_REQUESTS"


class Loaded(Protocol):
    """What may be chosen."""

    outstanding: int


T = TypeVar("T", bound=Loaded)


def choose_instance(strategy: str, instances: Sequence[T], luck: random.Random) -> T:
    """One of ``instances``: any, or any of those with the fewest requests outstanding."""
    if strategy == LEAST_OUTSTANDING:
        fewest = min(each.outstanding for each in instances)
        instances = [each for each in instances if each.outstanding == fewest]
    return instances[int(luck.random() * len(instances))]


def choose_weighted(weights: Sequence[float], luck: random.Random) -> int:
    """Place of one weight, as likely as its share of the sum; one of them is above zero."""
    left = luck.random() * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return max(range(len(weights)), key=weights.__getitem__)


def shadow_share(shadow_weight: float, production_weight: float) -> float:
    """The share of requests that a shadow variant gets a copy of; AWS states no exact rule."""
    return min(1.0, shadow_weight / production_weight) if production_weight else 0.0
