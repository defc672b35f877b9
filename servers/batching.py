"""Whether one call of a user's predict_fn may serve several requests, found out by trying.

At warm-up the samples that the model brings go through predict_fn one by one, and then all at once.
Only if each part of the joint result is the single result are calls put together later, and only
those whose input has the type and shape of a sample: nothing else is known to be safe.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from servers.stacking import Unsplittable, Way, join, key_of, rows_of, same, split

SINGLES = 4
"""How many samples are computed alone, as the truth to compare with."""

Predict = Callable[[Any], Any]


@dataclass(frozen=True)
class Batching:
    """The finding: how inputs are joined, and which; or why they are not."""

    way: Way | None
    keys: frozenset[Hashable]
    reason: str

    def key(self, data: Any) -> Hashable | None:
        """Equal for inputs that may be joined; None for one that is served alone."""
        if self.way is None:
            return None
        key = key_of(data, self.way)
        return key if key in self.keys else None

    def counts(self, inputs: Sequence[Any]) -> list[int]:
        """How many parts of the joint result belong to each."""
        return [rows_of(data) if self.way == "rows" else 1 for data in inputs]


def alone(reason: str) -> Batching:
    """Every call by itself."""
    return Batching(None, frozenset(), reason)


def find_batching(predict: Predict, inputs: Sequence[Any], max_batch: int) -> Batching:
    """Try ``predict`` on ``inputs`` singly and joined; never raises what ``predict`` raises."""
    if not inputs:
        return alone("the model brings no samples to try it with")
    try:
        singles = [predict(data) for data in inputs[:SINGLES]]
        again = predict(inputs[0])
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        return alone(f"predict_fn fails on the model's samples: {type(error).__name__}: {error}")
    if not same(singles[0], again):
        return alone("predict_fn gives another result when it is called again")
    reason = "its inputs are of types that cannot be joined"
    for way in ("rows", "items"):
        found: dict[Hashable, list[int]] = {}
        for number, data in enumerate(inputs):
            if (key := key_of(data, way)) is not None:
                found.setdefault(key, []).append(number)
        good = [
            key
            for key, numbers in found.items()
            if _agrees(predict, [inputs[n] for n in numbers], (singles, numbers), (way, max_batch))
        ]
        if good:
            return Batching(way, frozenset(good), f"{way} of {len(good)} kind(s) of input")
        if found:
            reason = "the parts of a joint result are not the single results"
    return alone(reason)


def _agrees(
    predict: Predict,
    inputs: list[Any],
    known: tuple[list[Any], list[int]],
    how: tuple[Way, int],
) -> bool:
    """Whether a full batch of these inputs gives each of them what it gets alone."""
    (singles, numbers), (way, max_batch) = known, how
    truths = {
        place: singles[number] for place, number in enumerate(numbers) if number < len(singles)
    }
    try:
        if not truths:
            truths = {0: predict(inputs[0])}
        # Backwards, so that a model that looks at its place in the batch is found out.
        order = [place % len(inputs) for place in range(max(2, max_batch))][::-1]
        chosen = [inputs[place] for place in order]
        batching = Batching(way, frozenset(), "")
        parts = split(predict(join(chosen, way)), batching.counts(chosen), way)
    except Unsplittable:
        return False
    except Exception:  # noqa: BLE001 - a user's function may raise anything; then it is called singly
        return False
    return all(
        same(part, truths[place])
        for part, place in zip(parts, order, strict=True)
        if place in truths
    )
