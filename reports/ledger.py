"""The fidelity ledger: what is measured, modelled or assumed, and what if it were wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.costs import Prices, is_dataset
from reports.doubts import lax
from reports.option import Option
from reports.words import mode, rate, seconds, size, usd

_IF_WRONG = {
    "keep_alive_s": "Longer: fewer cold starts. Shorter: more of them.",
    "placement": "Every cold start is slower or faster by as much.",
    "payload": "Requests near the limit would be refused, or accepted.",
    "timeout": "Slow requests would fail, or answer, where they did not here.",
    "concurrency": "More or fewer requests would be throttled.",
    "vcpu": "Serverless answers would be slower or faster, and cost more or less.",
}


_ANY_LIMIT = "Only requests that reach it would end differently."


@dataclass(frozen=True)
class Entry:
    """One thing the answer rests on."""

    what: str
    value: str
    basis: str
    source: str
    if_wrong: str
    setting: bool = False
    """A limit or delay of an option's profile, of which there are dozens."""


def ledger(options: Sequence[Option], prices: Prices) -> tuple[Entry, ...]:
    """Everything the answer rests on, the measured first."""
    entries = [*_measured(options), *_priced(options, prices)]
    for option in options:
        entries += _enforced(option)
    for option in options:
        entries += [_setting(option, item) for item in option.run.manifest.get("profile", [])]
    return tuple(dict.fromkeys(entries))


def _measured(options: Sequence[Option]) -> list[Entry]:
    machine = options[0].run.manifest.get("machine", {})
    cpu = str(machine.get("cpu_model") or "this machine")
    here = f"this machine: {cpu}"
    model = "; ".join(
        f"{mode(option.mode)} {seconds(option.summary.model_s.at(0.5))} at the median"
        for option in options
    )
    return [
        Entry(
            "Inference",
            model,
            "measured",
            here,
            "AWS processors differ; latency and serverless cost change in proportion.",
        ),
        *(
            Entry(
                f"{mode(option.mode).capitalize()}: start of the container, imports, model load",
                f"{seconds(option.summary.cold.setup_s)} at the median",
                "measured",
                here,
                "Every cold start is slower or faster by as much.",
            )
            for option in options
            if option.summary.cold.setup_s is not None
        ),
        *(
            Entry(
                f"{mode(option.mode).capitalize()}: finding a machine and pulling the image",
                f"{seconds(option.summary.cold.placement_s)} at the median",
                "modelled",
                "the option's profile; AWS publishes no distribution",
                "Every cold start is slower or faster by as much.",
            )
            for option in options
            if option.summary.cold.placement_s is not None
        ),
        Entry(
            "Network between caller and AWS",
            "none: loopback",
            "assumed",
            "this emulator",
            "Each latency grows by the caller's round trip, the same for every option.",
        ),
        Entry(
            "Idle time",
            f"{seconds(options[0].summary.skipped_s)} skipped",
            "modelled",
            "the run's clock",
            "Nothing was under way in it; timers act at their due time.",
        ),
    ]


def _priced(options: Sequence[Option], prices: Prices) -> list[Entry]:
    entries = [
        Entry(
            f"{mode(option.mode).capitalize()}: price of {item.name}",
            f"{rate(item.rate_usd)} per {item.unit}",
            "documented" if "(documented)" in item.source else "observed",
            item.source,
            "The cost changes in proportion.",
        )
        for option in options
        for item in option.cost.items
    ]
    for option in options:
        if option.mode == "serverless":
            billed = "billed" if option.cost.bill_setup else "not billed"
            entries.append(
                Entry(
                    "Set-up time of a cold start",
                    billed,
                    "assumed",
                    "AWS does not say",
                    f"Serverless would cost {usd(option.cost.setup_usd)} "
                    f"{'less' if option.cost.bill_setup else 'more'} for this period.",
                )
            )
    entries += _assumed(options, prices)
    daily = is_dataset(options[0].run)
    entries.append(
        Entry(
            "Cost of a month",
            "such a dataset once a day"
            if daily
            else f"{prices.hours_a_month:g} hours of this traffic",
            "assumed" if daily else "modelled",
            "this report" if daily else "the simulated period, repeated",
            "Other traffic, other costs: see what would change the answer.",
        )
    )
    return entries


def _assumed(options: Sequence[Option], prices: Prices) -> list[Entry]:
    entries = [
        Entry(
            "Speed of AWS's machine",
            f"{prices.speed_factor:g} times the model time here",
            "assumed",
            "the price table or --speed-factor; weighbridge calibrate measures it",
            "The cost of serverless and batch, and what an instance carries, change with it.",
        ),
        Entry(
            "Free tier, Savings Plans, taxes",
            "none",
            "assumed",
            "the price table",
            "The bill is lower, or higher by the taxes, for every option.",
        ),
    ]
    if any(item.unit == "GB-month" for option in options for item in option.cost.items):
        entries.append(
            Entry(
                "Time that an object stays in S3",
                f"{prices.storage_days:g} days",
                "assumed",
                "the price table",
                "Storage costs change in proportion.",
            )
        )
    entries += [
        Entry(
            f"{mode(option.mode).capitalize()}: capacity of an instance",
            "measured" if option.cost.capacity.checked else "not checked",
            "measured" if option.cost.capacity.checked else "assumed",
            option.cost.capacity.text,
            "More traffic needs more instances than the curves of cost show.",
        )
        for option in options
        if option.cost.fleet is not None and option.cost.fleet.least > 0
    ]
    return entries


def _enforced(option: Option) -> list[Entry]:
    return [
        Entry(
            f"{mode(option.mode).capitalize()}: {name.replace('cpu', 'CPU')} limit",
            str(text),
            "assumed" if lax(str(text)) or str(text).startswith("none") else "modelled",
            "this machine",
            "On AWS, answers may be slower."
            if name == "cpu"
            else "On AWS, a model may run out of memory.",
        )
        for name, text in option.run.manifest.get("enforced", {}).items()
    ]


def _setting(option: Option, item: dict[str, Any]) -> Entry:
    name = str(item["name"])
    wrong = next((text for key, text in _IF_WRONG.items() if key in name), _ANY_LIMIT)
    return Entry(
        what=f"{mode(option.mode).capitalize()}: {_plain(str(item['meaning']))} ({name})",
        value=_value(item),
        basis=str(item["basis"]),
        source=str(item["source"]),
        if_wrong=wrong,
        setting=True,
    )


def _plain(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].removesuffix(".")


def _value(item: dict[str, Any]) -> str:
    value, unit = item["value"], str(item.get("unit") or "")
    if isinstance(value, list):
        return f"{', '.join(f'{each:g}' for each in value)} {unit}".strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if unit == "s":
        return seconds(float(value))
    if unit in ("B", "byte", "bytes"):
        return size(float(value))
    text = f"{value:,}" if value == int(value) else f"{value:g}"
    return f"{text.removesuffix('.0')} {unit}".strip()
