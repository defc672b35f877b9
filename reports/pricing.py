"""What AWS charges: a dated table of prices, each with its source; any of it may be replaced."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import ConfigError

DEFAULT_PRICES = Path(__file__).parent / "prices" / "us-east-1.toml"


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One price, where it was read and how sure that is."""

    usd: float
    source: str
    confidence: str

    @property
    def origin(self) -> str:
        """The source with how sure it is, for a ledger."""
        return f"{self.source} ({self.confidence})"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the real-time rate stands for another option."""

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
    provisioned_second: dict[int, Price]
    provisioned_duration_second: dict[int, Price]
    async_rule: Rule
    batch_rule: Rule
    s3_gb_month: Price
    s3_put_thousand: Price
    s3_get_thousand: Price
    sns_million: Price
    async_hour: dict[str, Price] = {}
    batch_hour: dict[str, Price] = {}
    aws_lambda: dict[str, Price] = {}
    speed_factor: float = 1.0
    """Model time on AWS over model time on this machine; assumed, or found by calibration."""
    storage_days: float = 30.0
    lambda_provisioned_step_s: float = 0.0
    """AWS Lambda bills a provisioned unit in whole steps of this; 0: to the moment."""

    def hour(self, mode: str, instance_type: str) -> Price:
        """The hourly price of an instance; ConfigError names the types that have one."""
        own = {"async": self.async_hour, "batch": self.batch_hour}.get(mode, {})
        if instance_type in own:
            return own[instance_type]
        price = self.instance_hour.get(instance_type)
        if price is None:
            known = ", ".join(sorted({*self.instance_hour, *own}))
            raise ConfigError(
                f"No price is known for instance type {instance_type!r}; known: {known}. "
                "Choose one of these or give a price table that holds it."
            )
        rule = {"async": self.async_rule, "batch": self.batch_rule}.get(mode)
        if rule is None:
            return price
        return Price(price.usd, f"{price.source}; {rule.source}", rule.confidence)

    def memory(self, memory_mb: int) -> Price:
        """The price of a second of serverless; ConfigError names the sizes that have one."""
        price = self.serverless_second.get(memory_mb)
        if price is None:
            known = ", ".join(str(size) for size in sorted(self.serverless_second))
            raise ConfigError(
                f"No price is known for a memory size of {memory_mb} MB; known: {known}. "
                "Set memory_mb to one of these."
            )
        return price


def provisioned(prices: dict[int, Price], memory_mb: int) -> Price:
    """The price for ``memory_mb``, or one in proportion to a size that is known."""
    if memory_mb in prices:
        return prices[memory_mb]
    if not prices:
        raise ConfigError(
            "The price table has no price of provisioned concurrency. Add provisioned_second and "
            "provisioned_duration_second: the built-in table has both."
        )
    size, price = min(prices.items())
    return Price(
        price.usd * memory_mb / size,
        f"in proportion to {size} MB: {price.source}",
        "uncertain",
    )


def read_prices(path: Path | None = None, speed_factor: float | None = None) -> Prices:
    """The price table: us-east-1 as dated in the file, with what ``path`` replaces.

    ``path`` may hold a whole table or only the prices that differ.
    """
    table = _read(DEFAULT_PRICES)
    if path is not None:
        table = _merged(table, _read(path))
    if speed_factor is not None:
        table["speed_factor"] = speed_factor
    chosen = path or DEFAULT_PRICES
    try:
        found = msgspec.convert(table, Prices, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_sentence(chosen, str(error))) from None
    _check(found, chosen)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(_sentence(path, str(error))) from None


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in change.items():
        old = base.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        found[key] = _merged(old, value) if both and isinstance(old, dict) else value
    return found


def _check(prices: Prices, path: Path) -> None:
    single = [prices.serverless_data_gb, prices.s3_gb_month, prices.s3_put_thousand]
    single += [prices.s3_get_thousand, prices.sns_million]
    tables = (prices.instance_hour, prices.async_hour, prices.batch_hour)
    memory = (prices.serverless_second, prices.provisioned_second)
    every = [*single, *(p for t in tables for p in t.values())]
    every += [p for t in (*memory, prices.provisioned_duration_second) for p in t.values()]
    wrong = next((p for p in every if not 0 <= p.usd < 1e6), None)
    if wrong is not None:
        raise ConfigError(_sentence(path, f"{wrong.usd:g} is no price ({wrong.source})"))
    if not 0.01 <= prices.speed_factor <= 100:
        raise ConfigError(
            f"The speed factor {prices.speed_factor:g} is not between 0.01 and 100. It is the "
            "model time on AWS over the model time here; weighbridge calibrate measures it."
        )
    if not (0 < prices.hours_a_month <= 744 and prices.minimum_billed_s >= 0):
        raise ConfigError(
            _sentence(path, "hours_a_month is at most 744, minimum_billed_s at least 0")
        )
    if not 0 <= prices.storage_days <= 36_500:
        raise ConfigError(_sentence(path, "storage_days lies between 0 and 36500"))


def _sentence(path: Path, reason: str) -> str:
    return (
        f"The price table {path} cannot be read: {reason}. "
        f"Start from a copy of {DEFAULT_PRICES}, or give only the prices that differ."
    )
