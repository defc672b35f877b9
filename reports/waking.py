"""What scaling to zero costs in waiting and saves in rent."""

import numpy as np

from reports.option import Option
from reports.words import count, seconds, usd


def waking(option: Option) -> str | None:
    """Two sentences about ``option``; None where an instance stays or nothing was asked.

    The waits are measured with a modelled placement, the rent is modelled; both are set against
    one instance that stays for the whole period.
    """
    fleet, cost = option.cost.fleet, option.cost
    if option.mode != "async" or fleet is None or fleet.least > 0:
        return None
    waits_s = option.cold_seconds
    if not len(waits_s):
        return None
    rent = [item for item in cost.items if item.unit == "hour"]
    paid_h, paid_usd = (sum(getattr(item, name) for item in rent) for name in _PAID)
    all_h = cost.period_s / 3600
    saved_usd = (fleet.usd_hour * all_h - paid_usd) * cost.month_s / cost.period_s
    difference = f"{usd(abs(saved_usd))} a month {'less' if saved_usd >= 0 else 'more'}"
    return (
        f"Scaling to zero: {count(len(waits_s))} of {count(cost.requests)} requests found no "
        f"instance and waited for one: {seconds(float(np.median(waits_s)))} until the answer at "
        f"the median, {seconds(float(waits_s.max()))} at most. Instances were rented for "
        f"{paid_h:.3g} of {all_h:.3g} hours, {usd(paid_usd)} instead of "
        f"{usd(fleet.usd_hour * all_h)} for one that stays: {difference}."
    )


_PAID = ("quantity", "amount_usd")
