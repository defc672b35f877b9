"""Why environments failed, in the words of the run's events: a model too large, or too slow."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from reports.words import count

MOST_REASONS = 3
MOST_CHARACTERS = 300


def failures(events: Iterable[dict[str, Any]]) -> list[str]:
    """A sentence for each reason, the most frequent first, with what can be done about it."""
    found: Counter[tuple[str, str]] = Counter()
    for event in events:
        if event["kind"] == "instance_failed":
            found["could not be started", str(event.get("reason", "for no known reason"))] += 1
        elif event["kind"] == "instance_stopped" and event.get("detail"):
            found["ended at work", str(event["detail"])] += 1
    sentences = [
        f"{_number(n)} {what}: {_short(reason)}. {_remedy(reason)}".strip()
        for (what, reason), n in found.most_common(MOST_REASONS)
    ]
    left = sum(found.values()) - sum(n for _, n in found.most_common(MOST_REASONS))
    return [*sentences, f"{_number(left)} failed for other reasons: see events.jsonl."][
        : len(sentences) + bool(left)
    ]


def _number(n: int) -> str:
    return "One environment" if n == 1 else f"{count(n)} environments"


def _short(reason: str) -> str:
    plain = " ".join(reason.split()).rstrip(".")
    return plain if len(plain) <= MOST_CHARACTERS else plain[: MOST_CHARACTERS - 1] + "…"


def _remedy(reason: str) -> str:
    if "memory size" in reason:
        return "It would die on AWS as well: choose a larger memory size, or a smaller model."
    if "/ping within" in reason or "together more than" in reason:
        return (
            "AWS gives up there as well: make its start quicker, or keep it on an option that "
            "allows more time."
        )
    if "timed out" in reason:
        return "AWS gives up there as well: the model must answer sooner, or asynchronously."
    return ""
