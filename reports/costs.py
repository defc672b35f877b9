"""What an option would cost: measured quantities times dated prices."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import msgspec

from bench.errors import ConfigError
from bench.run import Run
from bench.target import Realtime, Serverless, Target
from reports.summary import Summary

DEFAULT_PRICES = Path(__file__).parent / "prices" / "us-east-1.toml"
_GB = 1e9


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One price, where it was read and how sure that is."""

    usd: float
    source: str
    confidence: str


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dated price table."""

    region: str
    currency: str
    as_of: str
    hours_a_month: float
    minimum_billed_s: float
    instance_hour: dict[str, Price]
    serverless_second: dict[int, Price]
    serverless_data_gb: Price


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

    @property
    def amount_usd(self) -> float:
        """For the simulated period."""
        return sum(item.amount_usd for item in self.items)

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
        """For a million requests at this traffic; None without requests."""
        return self.month_usd / self.requests_a_month * 1e6 if self.requests else None

    def monthly_usd(self, requests_a_month: float) -> float:
        """For a month of so many requests like these; modelled: capacity is taken to suffice."""
        return self.fixed_month_usd + self.per_request_usd * requests_a_month


def read_prices(path: Path | None = None) -> Prices:
    """The price table in ``path``; default: us-east-1 as dated in the file."""
    chosen = path or DEFAULT_PRICES
    try:
        return msgspec.toml.decode(chosen.read_bytes(), type=Prices, strict=False)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"The price table {chosen} cannot be read: {error}. "
            f"Start from a copy of {DEFAULT_PRICES}."
        ) from None


def cost_of(run: Run, summary: Summary, prices: Prices, bill_setup: bool = False) -> Cost:
    """The bill of ``run``. AWS does not say whether it bills set-up time: a switch, default no."""
    target: Target = msgspec.convert(run.manifest["target"], Realtime | Serverless)
    if isinstance(target, Realtime):
        return _realtime(target, summary, prices)
    return _serverless(target, summary, prices, bill_setup)


def break_even(realtime: Cost, serverless: Cost) -> float | None:
    """Requests a month above which real-time is cheaper; None when it never is."""
    saved = serverless.per_request_usd - realtime.per_request_usd
    fixed = realtime.fixed_month_usd - serverless.fixed_month_usd
    return fixed / saved if saved > 0 and fixed > 0 else None


def _realtime(target: Realtime, summary: Summary, prices: Prices) -> Cost:
    price = prices.instance_hour.get(target.instance_type)
    if price is None:
        known = ", ".join(sorted(prices.instance_hour))
        raise ConfigError(
            f"No price is known for instance type {target.instance_type!r}; known: {known}. "
            "Choose one of these or give a price table that holds it."
        )
    hours = max(prices.minimum_billed_s, ceil(summary.simulated_s)) / 3600
    item = Item(
        name=f"one {target.instance_type}",
        quantity=hours,
        unit="hour",
        rate_usd=price.usd,
        amount_usd=hours * price.usd,
        basis="modelled",  # the period is simulated, and one instance is taken to suffice
        source=_source(price),
    )
    return Cost(
        mode="realtime",
        items=(item,),
        period_s=summary.simulated_s,
        requests=summary.sent,
        fixed_month_usd=price.usd * prices.hours_a_month,
        per_request_usd=0.0,
        month_s=prices.hours_a_month * 3600,
        setup_usd=0.0,
        bill_setup=False,
    )


def _serverless(target: Serverless, summary: Summary, prices: Prices, bill_setup: bool) -> Cost:
    price = prices.serverless_second.get(target.memory_mb)
    if price is None:
        known = ", ".join(str(size) for size in sorted(prices.serverless_second))
        raise ConfigError(
            f"No price is known for a memory size of {target.memory_mb} MB; known: {known}. "
            "Set memory_mb to one of these."
        )
    used, data = summary.billable, prices.serverless_data_gb
    source = _source(price)
    bytes_ = used.request_bytes + used.response_bytes
    items = [
        _item("model time", (used.model_s, "second", price.usd), "measured", source),
        _item("data in and out", (bytes_ / _GB, "GB", data.usd), "measured", _source(data)),
    ]
    if bill_setup:
        setup = (used.setup_s, "second", price.usd)
        items.append(_item("set-up time", setup, "assumed", source))
    amount = sum(item.amount_usd for item in items)
    return Cost(
        mode="serverless",
        items=tuple(items),
        period_s=summary.simulated_s,
        requests=summary.sent,
        fixed_month_usd=0.0,
        per_request_usd=amount / max(1, summary.sent),
        month_s=prices.hours_a_month * 3600,
        setup_usd=used.setup_s * price.usd,
        bill_setup=bill_setup,
    )


def _item(name: str, line: tuple[float, str, float], basis: str, source: str) -> Item:
    quantity, unit, rate = line
    return Item(name, quantity, unit, rate, quantity * rate, basis, source)


def _source(price: Price) -> str:
    return f"{price.source} ({price.confidence})"
