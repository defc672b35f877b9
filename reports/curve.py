"""How much one instance carries: a measured curve of latency against rate, and what follows."""

import json
import shutil
from dataclasses import dataclass
from math import ceil, inf, isfinite
from pathlib import Path
from typing import Any

from bench.capacity import MEETS, MISSES
from bench.errors import ConfigError
from bench.run import Run

FILE = "capacity.json"


@dataclass(frozen=True)
class Curve:
    """Latency at one quantile against the rate of requests, of a single instance; ascending."""

    rate_rps: tuple[float, ...]
    latency_s: tuple[float, ...]
    valid: tuple[bool, ...]
    """Whether the generator kept its schedule and too few requests failed, for each rate."""
    quantile: float

    def most_rps(self, latency_s: float) -> float:
        """The highest measured rate that meets the latency, as do all below it; 0 if none does."""
        best = 0.0
        for rate, latency, good in zip(self.rate_rps, self.latency_s, self.valid, strict=True):
            if not good or latency > latency_s:
                break
            best = rate
        return best

    def ends_below(self, latency_s: float) -> bool:
        """Whether even the highest rate meets the latency, so that the limit lies further on."""
        return bool(self.rate_rps) and self.most_rps(latency_s) == self.rate_rps[-1]

    def instances(self, rate_rps: float, latency_s: float) -> int | None:
        """Fewest instances that carry ``rate_rps``; None when one meets the latency at no rate."""
        most = self.most_rps(latency_s)
        return max(1, ceil(rate_rps / most - 1e-9)) if most > 0 else None


def curve_of(run: Run) -> Curve | None:
    """The curve that a search for the capacity left in the folder of ``run``, if any.

    A rate counts as invalid too where it missed for its errors and not for its latency.
    """
    path = run.folder / FILE
    if not path.is_file():
        return None
    return read_curve(path)


def read_curve(path: Path) -> Curve:
    """The curve in the file at ``path``; ConfigError when it holds none."""
    try:
        return _curve(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} holds no curve: {error!r}. Search for the capacity again, or remove the file."
        ) from None


def adopt(run: Run, search: Path) -> Path | None:
    """Put the curve that a search measured for the option of ``run`` into its folder; where it is.

    ``search`` is the folder of the search. None when it did not try this option; ConfigError when
    it measured another model.
    """
    found = search / run.mode / FILE
    if not found.is_file():
        return None
    for path in sorted(found.parent.glob("*/manifest.json"))[:1]:
        model = json.loads(path.read_text(encoding="utf-8")).get("model", {})
        if model.get("sha256") != run.manifest.get("model", {}).get("sha256"):
            raise ConfigError(
                f"{search} measured the model {model.get('name')!r}, {run.folder} another. "
                "Search with the same model."
            )
    target = run.folder / FILE
    shutil.copyfile(found, target)
    curve_of(run)
    return target


def _curve(document: dict[str, Any]) -> Curve:
    points = sorted(document["steps"], key=lambda point: float(point["rate_rps"]))
    latencies = [point["latency_s"] for point in points]
    objective_s = float(document["objective_s"])
    found = Curve(
        rate_rps=tuple(float(point["rate_rps"]) for point in points),
        latency_s=tuple(inf if value is None else float(value) for value in latencies),
        valid=tuple(
            point["verdict"] == MEETS
            or (point["verdict"] == MISSES and (latency is None or latency > objective_s))
            for point, latency in zip(points, latencies, strict=True)
        ),
        quantile=float(document["quantile"]),
    )
    if not all(isfinite(rate) and rate > 0 for rate in found.rate_rps):
        raise ValueError("every rate_rps must be above 0")
    if not 0 < found.quantile < 1:
        raise ValueError(f"quantile {found.quantile} is not between 0 and 1")
    return found
