"""What an option would cost: measured quantities times dated prices."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

import numpy as np

from bench.run import Run
from reports.bill import RESERVED, Capacity, Item
from reports.bill import Cost as Cost
from reports.bill import break_even as break_even  # where callers look for it
from reports.curve import Curve, curve_of
from reports.fleets import Fleet, always_on, at_once, hours, job_totals, stays
from reports.pricing import Price
from reports.pricing import Prices as Prices
from reports.pricing import read_prices as read_prices  # where callers look for it
from reports.summary import Summary
from reports.usage_bill import lines, use_of

_GB = 1e9
_PUTS, _GETS = 2, 2
"""Of the input by caller and endpoint, and of the result by endpoint and caller."""
PEAK_WINDOW_S = 60.0


_DAY_S = 86_400.0


def is_dataset(run: Run) -> bool:
    """Whether everything was due at once, as a dataset is, so that it had no rate."""
    return bool(run.manifest["workload"]["arrivals"]["kind"] == "dataset")


@dataclass(frozen=True)
class _Use:
    """What was used, and the prices."""

    run: Run
    summary: Summary
    prices: Prices
    bill_setup: bool

    @property
    def target(self) -> dict[str, Any]:
        return dict(self.run.manifest["target"])

    @property
    def instance(self) -> tuple[str, Price]:
        kind = str(self.target.get("instance_type", "ml.m5.large"))
        return kind, self.prices.hour(self.run.mode, kind)

    @property
    def simulated_s(self) -> float:
        """What one bill covers; a dataset is taken to come once a day."""
        return _DAY_S if is_dataset(self.run) else self.summary.simulated_s

    @property
    def period_s(self) -> float:
        """A short run is billed for the minimum, but a month of it is not."""
        if is_dataset(self.run):
            return _DAY_S
        return max(self.summary.simulated_s, self.prices.minimum_billed_s, 1e-9)

    @property
    def latency_s(self) -> float:
        return float(self.run.manifest["workload"]["objective"]["latency_s"])


def cost_of(run: Run, summary: Summary, prices: Prices, bill_setup: bool | None = None) -> Cost:
    """The bill of ``run``. Whether set-up time is billed: as its target says, or ``bill_setup``.

    An option that the price table does not know has a cost without a price.
    """
    if bill_setup is None:
        bill_setup = bool(run.manifest["target"].get("bill_setup", False))
    make = _BILLS.get(run.mode)
    if make is None:
        return _unpriced(_Use(run, summary, prices, bill_setup))
    return make(_Use(run, summary, prices, bill_setup))


def peak_over_mean(due_s: Any, period_s: float) -> float:
    """The rate of the busiest minute over that of the whole period."""
    if not len(due_s) or period_s <= PEAK_WINDOW_S:
        return 1.0
    counts = np.bincount((np.asarray(due_s) // PEAK_WINDOW_S).astype(np.int64).clip(0))
    return max(1.0, float(counts.max()) / (len(due_s) * PEAK_WINDOW_S / period_s))


def _unpriced(use: _Use) -> Cost:
    run, summary, prices = use.run, use.summary, use.prices
    return Cost(
        mode=run.mode,
        items=(),
        period_s=use.simulated_s,
        requests=summary.sent,
        fixed_month_usd=0.0,
        per_request_usd=0.0,
        month_s=prices.hours_a_month * 3600,
        setup_usd=0.0,
        bill_setup=False,
        unpriced=f"The price table knows no option {run.mode!r}.",
    )


def _realtime(use: _Use) -> Cost:
    run, prices = use.run, use.prices
    found = stays(run, always=True)
    kind, price = use.instance
    least = max(1, always_on(found, run.duration_s))
    rented = hours(found, prices.minimum_billed_s)
    curve = curve_of(run)
    fleet = Fleet(
        usd_hour=price.usd,
        mean=max(float(least), rented * 3600 / use.period_s),
        least=float(least),
        most=float(at_once(found)),
        per_instance_rps=_carries(curve, use),
        peak=peak_over_mean(run.due_s(), run.duration_s),
    )
    items = (_rent(kind, rented, price, len(found)),)
    return _made(use, items, fleet, _capacity(curve, fleet, use))


def _async(use: _Use) -> Cost:
    run, summary, prices = use.run, use.summary, use.prices
    found = stays(run, always=int(use.target.get("min_instances") or 0) > 0)
    kind, price = use.instance
    rented = hours(found, prices.minimum_billed_s)
    fleet = Fleet(
        usd_hour=price.usd,
        mean=rented * 3600 / use.period_s,
        least=float(always_on(found, run.duration_s)),
        most=float(max(1, at_once(found))),
        work_s=summary.billable.model_s * prices.speed_factor / max(1, summary.sent),
    )
    used = summary.billable
    notified = any(use.target.get(key) for key in ("success_topic", "error_topic"))
    thousand = summary.sent / 1000
    items = [
        _rent(kind, rented, price, len(found)),
        _item("objects written to S3", (_PUTS * thousand, "thousand", prices.s3_put_thousand)),
        _item("objects read from S3", (_GETS * thousand, "thousand", prices.s3_get_thousand)),
        _stored(used.request_bytes + used.response_bytes, prices),
    ]
    if notified:
        items.append(_item("notifications", (summary.sent / 1e6, "million", prices.sns_million)))
    capacity = Capacity(False, "A queue waits: it needs no instance for its busiest minute.")
    return _made(use, tuple(items), fleet, capacity)


def _batch(use: _Use) -> Cost:
    run, summary, prices = use.run, use.summary, use.prices
    found = stays(run, always=False)
    kind, price = use.instance
    jobs, read_and_written = job_totals(run.events())
    # A job runs for as long as its work takes, so a slower machine is rented for longer.
    rented = hours(found, prices.minimum_billed_s) * prices.speed_factor
    fleet = Fleet(
        usd_hour=price.usd,
        mean=rented * 3600 / use.period_s,
        least=0.0,
        most=inf,
    )
    used = summary.billable
    objects = max(1, jobs) / 1000
    items = (
        _rent(kind, rented, price, len(found)),
        _item("objects written to S3", (_PUTS * objects, "thousand", prices.s3_put_thousand)),
        _item("objects read from S3", (_GETS * objects, "thousand", prices.s3_get_thousand)),
        _stored(read_and_written or used.request_bytes + used.response_bytes, prices),
    )
    capacity = Capacity(False, "A job takes as long as it takes; completion is judged instead.")
    return _made(use, items, fleet, capacity)


def _by_use(use: _Use) -> Cost:
    run, prices = use.run, use.prices
    step_s = prices.lambda_provisioned_step_s if use.target["mode"] == "lambda" else 0.0
    found = use_of(run.requests(), run.events(), use.summary.simulated_s, step_s)
    speed = prices.speed_factor
    used = replace(
        found,
        reserved_model_s=found.reserved_model_s * speed,
        model_s=found.model_s * speed,
        setup_s=found.setup_s * speed,
    )
    billed = lines(use.target, used, prices, use.bill_setup)
    items = tuple(Item(**vars(line), amount_usd=line.amount_usd) for line in billed)
    none = Capacity(False, "Environments are added as requests come, up to the concurrency limit.")
    setup = next(
        line for line in lines(use.target, used, prices, True) if line.name == "set-up time"
    )
    made = _made(use, items, None, none)
    return replace(made, setup_usd=setup.amount_usd, bill_setup=use.bill_setup)


_Bill = Callable[[_Use], Cost]
_BILLS: dict[str, _Bill] = {
    "realtime": _realtime,
    "serverless": _by_use,
    "lambda": _by_use,
    "async": _async,
    "batch": _batch,
}


def _made(use: _Use, items: tuple[Item, ...], fleet: Fleet | None, capacity: Capacity) -> Cost:
    summary = use.summary
    month_s = use.prices.hours_a_month * 3600
    period = max(use.simulated_s, 1e-9)
    rent = {RESERVED, *(item.name for item in items if item.unit == "hour")}
    reserved = sum(item.amount_usd for item in items if item.name == RESERVED)
    moving = sum(item.amount_usd for item in items if item.name not in rent)
    return Cost(
        mode=use.run.mode,
        items=items,
        period_s=use.simulated_s,
        requests=summary.sent,
        fixed_month_usd=reserved * month_s / period,
        per_request_usd=moving / max(1, summary.sent),
        month_s=month_s,
        setup_usd=0.0,
        bill_setup=False,
        fleet=fleet,
        capacity=capacity,
    )


def _carries(curve: Curve | None, use: _Use) -> float:
    if curve is None:
        return inf
    most = curve.most_rps(use.latency_s) / use.prices.speed_factor
    return most if most > 0 else inf


def _capacity(curve: Curve | None, fleet: Fleet, use: _Use) -> Capacity:
    if curve is None:
        text = (
            "The capacity of an instance was not checked: the cost at more traffic assumes that "
            "the instances that ran suffice, or are added in proportion."
        )
        return Capacity(False, text)
    if not any(curve.valid):
        text = "The capacity search measured no rate well enough, so nothing was checked."
        return Capacity(False, text)
    if not isfinite(fleet.per_instance_rps):
        return Capacity(True, "One instance meets the latency at no measured rate.")
    rate = use.run.rate_rps * fleet.peak
    needed = max(1, fleet.needed(rate))
    more = " or more" if curve.ends_below(use.latency_s) else ""
    text = (
        f"One instance carries {fleet.per_instance_rps:.3g}{more} requests a second at the "
        f"objective; the busiest minute has {rate:.3g}: {needed} needed, {fleet.most:g} ran."
    )
    if use.prices.speed_factor != 1:
        text += f" Speed factor {use.prices.speed_factor:g} (assumed) included."
    return Capacity(True, text, needed)


def _rent(kind: str, hours_: float, price: Price, n: int) -> Item:
    name = f"one {kind}" if n == 1 else f"{n} stays of {kind}" if n else f"no {kind}"
    return _item(name, (hours_, "hour", price), "modelled")


def _stored(bytes_: float, prices: Prices) -> Item:
    months = prices.storage_days * 24 / prices.hours_a_month
    return _item(
        "storage in S3", (bytes_ / _GB * months, "GB-month", prices.s3_gb_month), "assumed"
    )


def _item(name: str, line: tuple[float, str, Price], basis: str = "modelled") -> Item:
    quantity, unit, price = line
    return Item(name, quantity, unit, price.usd, quantity * price.usd, basis, price.origin)
