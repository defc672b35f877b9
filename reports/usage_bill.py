"""What options billed by use charge: SageMaker's serverless endpoints and AWS Lambda."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import ConfigError
from reports.bill import RESERVED
from reports.pricing import Price, Prices, provisioned

PROVISIONED = "provisioned-"
"""How the names of provisioned environments begin."""

_GB = 1e9
_MB_A_GB = 1024


@dataclass(frozen=True)
class Line:
    """So much of something at a rate; ``basis`` is that of the quantity."""

    name: str
    quantity: float
    unit: str
    rate_usd: float
    basis: str
    source: str

    @property
    def amount_usd(self) -> float:
        return self.quantity * self.rate_usd


@dataclass(frozen=True)
class Use:
    """What a run used."""

    provisioned_s: float
    """Unit-seconds of provisioned concurrency."""
    reserved_model_s: float
    """Model time on provisioned environments."""
    model_s: float
    """Model time on demand; both with each request rounded up to the millisecond."""
    setup_s: float
    requests: int
    bytes: int


def use_of(
    requests: pd.DataFrame, events: Iterable[dict[str, Any]], period_s: float, step_s: float = 0.0
) -> Use:
    """What was used in the first ``period_s`` seconds; model times still NaN were not served.

    ``step_s``: see `unit_seconds`.
    """
    served = requests[requests["model_s"].notna()]
    # The column holds 32-bit floats: without rounding, 0.1 s would be billed as 101 ms.
    took_s = np.ceil(np.round(served["model_s"].to_numpy(np.float64) * 1000, 2)) / 1000
    reserved = served["instance"].str.startswith(PROVISIONED).to_numpy(bool)
    bytes_ = served["request_bytes"].to_numpy(np.int64) + served["response_bytes"].to_numpy(
        np.int64
    )
    return Use(
        provisioned_s=unit_seconds(events, period_s, step_s),
        reserved_model_s=float(took_s[reserved].sum()),
        model_s=float(took_s[~reserved].sum()),
        setup_s=float(np.nansum(requests["setup_s"].to_numpy(np.float64))),
        requests=len(served),
        bytes=int(bytes_.sum()),
    )


def unit_seconds(events: Iterable[dict[str, Any]], period_s: float, step_s: float = 0.0) -> float:
    """The seconds that provisioned units were configured within the period, of all units together.

    With ``step_s`` those of a unit that was taken away are rounded up to whole steps. One that is
    still there at the end goes on, so its time is not.
    """
    changes = sorted(
        (min(max(float(event["at_s"]), 0.0), period_s), int(event["units"]))
        for event in events
        if event["kind"] == "provisioned"
    )
    total_s, begun_s = 0.0, list[float]()
    for at_s, units in changes:
        begun_s += [at_s] * (units - len(begun_s))
        while len(begun_s) > units:  # the youngest goes first
            total_s += _stepped(at_s - begun_s.pop(), step_s)
    return total_s + sum(period_s - each_s for each_s in begun_s)


def _stepped(seconds: float, step_s: float) -> float:
    return math.ceil(round(seconds / step_s, 9)) * step_s if step_s else seconds


def lines(target: Mapping[str, Any], use: Use, prices: Prices, bill_setup: bool) -> list[Line]:
    """The bill of a serverless endpoint or a function of AWS Lambda.

    ConfigError when the price table does not hold its memory size, or no prices of Lambda.
    """
    if target["mode"] == "lambda":
        return _lambda(int(target["memory_mb"]), use, prices, bill_setup)
    memory_mb = int(target["memory_mb"])
    price = prices.memory(memory_mb)
    found = []
    if use.provisioned_s:
        unit = _own(provisioned(prices.provisioned_second, memory_mb))
        duration = _own(provisioned(prices.provisioned_duration_second, memory_mb))
        found.append(_line(RESERVED, (use.provisioned_s, "unit-second"), unit, "modelled"))
        found.append(_line("model time on it", (use.reserved_model_s, "second"), duration))
    found.append(_line("model time", (use.model_s, "second"), _own(price)))
    data = _own(prices.serverless_data_gb)
    found.append(_line("data in and out", (use.bytes / _GB, "GB"), data))
    if bill_setup:
        found.append(_line("set-up time", (use.setup_s, "second"), _own(price), "assumed"))
    return found


def _lambda(memory_mb: int, use: Use, prices: Prices, bill_setup: bool) -> list[Line]:
    names = ("gb_second", "request_million", "provisioned_gb_second", "provisioned_duration")
    if missing := [name for name in names if name not in prices.aws_lambda]:
        raise ConfigError(
            f"The price table has no aws_lambda.{missing[0]}. Add it: the built-in table has one."
        )
    gb = memory_mb / _MB_A_GB
    price, million, unit, duration = (_own(prices.aws_lambda[name]) for name in names)
    found = []
    if use.provisioned_s:
        found.append(_line(RESERVED, (use.provisioned_s * gb, "GB-second"), unit, "modelled"))
        on_it = (use.reserved_model_s * gb, "GB-second")
        found.append(_line("function time on it", on_it, duration))
    found.append(_line("function time", (use.model_s * gb, "GB-second"), price))
    found.append(_line("requests", (use.requests / 1e6, "million requests"), million))
    if bill_setup:
        found.append(_line("set-up time", (use.setup_s * gb, "GB-second"), price))
    return found


def _line(
    name: str,
    amount: tuple[float, str],
    price: tuple[float, str],
    basis: str = "measured",
) -> Line:
    return Line(name, amount[0], amount[1], price[0], basis, price[1])


def _own(price: Price) -> tuple[float, str]:
    return price.usd, price.origin
