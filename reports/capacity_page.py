"""The page of a search for the highest rate: the answer, a curve and a table for each option."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bench import __version__
from bench.capacity import INVALID, MEETS, Capacity
from reports import plots
from reports.again import again
from reports.capacity import Found, cells, head, reason, sentence
from reports.curve import FILE, read_curve
from reports.drawn import both
from reports.markup import environment, style, style_hash, write_whole
from reports.pricing import Prices
from reports.words import count, mode, quantile, seconds, share, significant, usd

_HOW_TO_READ = (
    "Each point is a run at one rate; its height is the latency that the objective's share of "
    "requests did not exceed. Upright lines are the highest rate that met the objective and the "
    "knee, from where latency climbs faster than the rate. A cross is a run that does not count."
)


def write_capacity_page(found: Sequence[Found], prices: Prices, path: Path) -> Path:
    """Write the page to ``path``, whole or not at all; where it is now."""
    return write_whole(capacity_page(found, prices), path)


def capacity_page(found: Sequence[Found], prices: Prices) -> str:
    """The page as HTML; no script, no network, every text escaped."""
    workload = found[0].run.manifest["workload"]
    best = max(found, key=lambda each: each.capacity.highest_rps or 0.0)
    ordered = [best, *(each for each in found if each is not best)]
    headlines = [_marked(each) for each in ordered]
    rates = sum(len(each.capacity.steps) for each in found)
    values: dict[str, Any] = {
        "style": style(),
        "style_hash": style_hash(),
        "version": __version__,
        "tab": f"{workload['name']}: {headlines[0].replace('**', '')}",
        "badge": _badge(found),
        "title": workload["title"],
        "facts": f"{rates} rates were tried, each by a run of its own, with requests that leave "
        "when they are due whether or not earlier ones came back.",
        "eyebrow": "How much it can take",
        "headlines": headlines,
        "because": _because(ordered, prices),
        "cares": [
            ("", "The load generator shares this machine with what it measures."),
            *((mode(each.mode).capitalize(), text) for each in found for text in _cares(each)),
        ],
        "options": [_section(each) for each in found],
        "objective": f"{quantile(best.capacity.quantile)} within "
        f"{seconds(best.capacity.objective_s)}, at most "
        f"{share(workload['objective']['error_rate'])} failed",
        "folder": str(found[0].run.folder.parents[1]),
        "enforced": [
            (
                mode(each.mode).capitalize(),
                [f"{name}: {text}" for name, text in each.run.manifest["enforced"].items()],
            )
            for each in found
        ],
        "again": again([each.run for each in found]),
    }
    return environment().get_template("capacity.html.j2").render(values)


def _marked(found: Found) -> str:
    """The option's sentence with its rate made strong."""
    text, highest = sentence(found.mode, found.capacity), found.capacity.highest_rps
    if highest is None:
        return text
    rate = f"{significant(highest, 3)} requests a second"
    return text.replace(rate, f"**{rate}**", 1)


def _badge(found: Sequence[Found]) -> dict[str, str]:
    able = [each.capacity for each in found if each.capacity.highest_rps]
    if able and not any(capacity.bounded for capacity in able):
        return {"kind": "care", "icon": "◆", "text": "At least this much"}
    if able:
        return {"kind": "good", "icon": "✓", "text": "Capacity found"}
    if all(step.verdict == INVALID for each in found for step in each.capacity.steps):
        return {"kind": "bad", "icon": "▲", "text": "Invalid measurement"}
    return {"kind": "bad", "icon": "✕", "text": "Objective missed at every rate"}


def _because(found: Sequence[Found], prices: Prices) -> list[str]:
    texts = []
    for each in found:
        name = f"{mode(each.mode).capitalize()}. " if len(found) > 1 else ""
        text = " ".join(filter(None, (reason(each.capacity), _price(each, prices))))
        if text:
            texts.append(name + text)
    return texts


def _price(found: Found, prices: Prices) -> str:
    """What a million requests cost when every instance is as busy as it can be."""
    target = found.run.manifest["target"]
    price = prices.instance_hour.get(target.get("instance_type") or "")
    highest = found.capacity.highest_rps
    if price is None or not highest or found.mode != "realtime":
        return ""
    instances = int(target.get("instance_count", 1))
    million_usd = instances * price.usd / 3600 / highest * 1e6
    who = "One" if instances == 1 else str(instances)
    return (
        f"{who} {target['instance_type']}, were it as fast as this machine, would carry "
        f"{count(highest * prices.hours_a_month * 3600)} requests a month at that rate, at "
        f"{usd(million_usd)} a million (modelled)."
    )


def _cares(found: Found) -> list[str]:
    capacity = found.capacity
    texts = []
    if capacity.highest_rps is not None and not capacity.bounded:
        texts.append("No higher rate missed the objective, so the true capacity may be higher.")
    unkept = sum(step.verdict == INVALID for step in capacity.steps)
    if unkept:
        texts.append(
            f"{unkept} of {len(capacity.steps)} rates do not count: the load generator could not "
            "keep its schedule there."
        )
    return texts


def _section(found: Found) -> dict[str, Any]:
    capacity = found.capacity
    shows = sentence(found.mode, capacity)
    slug = f"capacity-{found.mode}" if found.mode.isalnum() else "capacity-other"
    return {
        "slug": slug,
        "name": mode(found.mode).capitalize(),
        "head": head(capacity),
        "rows": [(step.rate_rps == capacity.highest_rps, cells(step)) for step in capacity.steps],
        "kinds": [step.verdict for step in capacity.steps],
        "figure": {
            "slug": slug,
            "title": f"Latency against rate: {mode(found.mode)}",
            "basis": "measured",
            "svg": Markup(_drawn(found, (slug, shows.removesuffix(".")))),
            "how_to_read": _HOW_TO_READ,
            "shows": _shows(capacity),
            "table": None,
        },
    }


def _drawn(found: Found, texts: tuple[str, str]) -> str:
    capacity = found.capacity
    slug, shows = texts
    curve = read_curve(found.run.folder.parent / FILE)
    marks = (capacity.highest_rps, capacity.knee_rps)
    data = (found.mode, curve, capacity.objective_s, marks)
    return both((slug, "Latency against rate"), plots.capacity, data, [shows])


def _shows(capacity: Capacity) -> str:
    good = sum(step.verdict == MEETS for step in capacity.steps)
    return f"{good} of {len(capacity.steps)} rates met the objective. {reason(capacity)}".strip()
