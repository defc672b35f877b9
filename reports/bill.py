"""The bill of one option: its lines, a month of it, and what other traffic would cost."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import numpy as np

from reports.fleets import Fleet

RESERVED = "provisioned concurrency"
FEWEST_REQUESTS, MOST_REQUESTS = 1.0, 1e12


@dataclass(frozen=True)
class Item:
    """One line of the bill."""

    name: str
    quantity: float
    unit: str
    rate_usd: float
    amount_usd: float
    basis: str  # of the quantity: measured, modelled or assumed
    source: str  # of the rate


@dataclass(frozen=True)
class Capacity:
    """Whether the instances that ran suffice for this traffic at the objective."""

    checked: bool
    text: str
    needed: int | None = None  # instances in the busiest minute


@dataclass(frozen=True)
class Cost:
    """The bill of one option for the simulated period, and what follows from it."""

    mode: str
    items: tuple[Item, ...]
    period_s: float
    requests: int
    fixed_month_usd: float  # modelled: paid whatever the traffic
    per_request_usd: float  # modelled: paid for each request
    month_s: float
    setup_usd: float
    """What billing the set-up time adds, or would add, to the period."""
    bill_setup: bool
    fleet: Fleet | None = None
    """Instances paid by time; None where none are."""
    capacity: Capacity = field(default=Capacity(False, "No instance is paid for."))
    unpriced: str = ""
    """Why nothing is known of its price; empty where it is."""

    @property
    def priced(self) -> bool:
        """Whether its price is known."""
        return not self.unpriced

    @property
    def amount_usd(self) -> float:
        """For the simulated period; infinite when no price is known."""
        return sum(item.amount_usd for item in self.items) if self.priced else inf

    @property
    def requests_a_month(self) -> float:
        """This traffic, kept up for a month."""
        return self.requests / max(self.period_s, 1e-9) * self.month_s

    @property
    def month_usd(self) -> float:
        """For a month of this traffic; modelled."""
        return self.monthly_usd(self.requests_a_month)

    @property
    def per_million_usd(self) -> float | None:
        """For a million requests at this traffic; None without requests or price."""
        if not self.requests or not self.priced:
            return None
        return self.month_usd / self.requests_a_month * 1e6

    def instances(self, requests_a_month: float) -> float:
        """Instances paid for on average over a month of so many requests; modelled."""
        if self.fleet is None:
            return 0.0
        return self.fleet.instances(requests_a_month, self.requests_a_month, self.month_s)

    def monthly_usd(self, requests_a_month: float) -> float:
        """For a month of so many requests like these; modelled."""
        if not self.priced:
            return inf
        rent = 0.0
        if self.fleet is not None:
            rent = self.instances(requests_a_month) * self.fleet.usd_hour * self.month_s / 3600
        return self.fixed_month_usd + self.per_request_usd * requests_a_month + rent


def break_even(one: Cost, other: Cost) -> float | None:
    """Requests a month above which ``one`` is cheaper than ``other``; None when it never is.

    None too when it is cheaper from the first request on.
    """
    if not (one.priced and other.priced):
        return None

    def dearer(requests: float) -> bool:
        return one.monthly_usd(requests) > other.monthly_usd(requests)

    grid = np.geomspace(FEWEST_REQUESTS, MOST_REQUESTS, 481)
    states = [dearer(float(each)) for each in grid]
    turn = next((i for i in range(1, len(grid)) if states[i - 1] and not states[i]), None)
    if turn is None:
        return None
    return bisected(dearer, float(grid[turn - 1]), float(grid[turn]))


def bisected(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where ``holds`` stops being true between ``low``, where it is, and ``high``, where not."""
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
