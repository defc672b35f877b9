"""How much slower or faster another machine runs the same model: a factor with its interval."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy.special import stdtrit

from bench.documents import write_json
from bench.errors import ConfigError

SCHEMA_VERSION = 1
FEWEST_ROUNDS = 3


class Score(msgspec.Struct, frozen=True):
    """What one machine needed for a call of one model, in rounds at different moments."""

    machine: dict[str, Any]
    model_sha256: str
    model_name: str
    threads: int
    rounds_s: list[float]
    """The median time of a call in each round."""
    schema_version: int = SCHEMA_VERSION

    @property
    def call_s(self) -> float:
        """The typical time of a call."""
        return float(np.median(self.rounds_s))


@dataclass(frozen=True)
class Factor:
    """Model time there over model time here."""

    value: float
    low: float
    high: float


def factor(here: Score, there: Score) -> Factor:
    """How many times as long ``there`` takes as ``here``, with the 95 % interval.

    ConfigError when the two did not run the same model with as many threads.
    """
    if here.model_sha256 != there.model_sha256:
        raise ConfigError(
            f"The other machine ran another model ({there.model_name!r}, here "
            f"{here.model_name!r}). Run weighbridge calibrate with the same --model on both."
        )
    if here.threads != there.threads:
        raise ConfigError(
            f"The other machine ran with {there.threads} threads, this one with {here.threads}. "
            "Give both the same --threads: the vCPUs of the instance."
        )
    one, other = (np.log(score.rounds_s) for score in (here, there))
    parts = [float(np.var(each, ddof=1)) / len(each) for each in (one, other)]
    error2 = sum(parts)
    spread = [part**2 / (len(each) - 1) for part, each in zip(parts, (one, other), strict=True)]
    freedom = error2**2 / sum(spread) if sum(spread) > 0 else 1e6
    half = float(stdtrit(freedom, 0.975)) * error2**0.5
    middle = float(np.mean(other) - np.mean(one))
    return Factor(*(float(np.exp(each)) for each in (middle, middle - half, middle + half)))


def write_score(score: Score, path: Path) -> None:
    """Write ``score`` to ``path``, to be carried to the other machine."""
    write_json(path, msgspec.to_builtins(score))


def read_score(path: Path) -> Score:
    """The score in ``path``; ConfigError when it holds none."""
    try:
        found = msgspec.convert(json.loads(path.read_text(encoding="utf-8")), Score)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{path} holds no calibration: {error}. "
            "Write one with: weighbridge calibrate --out FILE"
        ) from None
    good = [0 < each < 1e6 for each in found.rounds_s]
    if found.schema_version != SCHEMA_VERSION or len(good) < FEWEST_ROUNDS or not all(good):
        raise ConfigError(
            f"{path} holds no calibration of this version with {FEWEST_ROUNDS} rounds or more. "
            "Run weighbridge calibrate again on that machine."
        )
    return found
