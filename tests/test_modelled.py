"""What is modelled follows its distribution, also when it is measured from outside."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.target import Lambda, Serverless
from servers.modelled import Delays, LogNormal, keep_alive
from servers.profile import profile_for
from tests.serverless_house import House, live

KEPT = Serverless(profile={"placement_median_s": 0, "keep_alive_s": 300, "keep_alive_sigma": 0.3})
KEEP = keep_alive(profile_for(KEPT))
REQUESTS = 600


@pytest.fixture
def short_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jumps land 1 ms before an event: nothing here needs more, and there are a thousand."""
    monkeypatch.setattr("bench.clock.LEAD_S", 0.001)


def test_draws_follow_the_distribution_that_is_told() -> None:
    """A Kolmogorov-Smirnov test of 2000 draws against the cdf; one with half the spread fails."""
    chance = random.Random(1)
    drawn = [LogNormal(3.0, 0.3).draw(chance) for _ in range(2000)]
    told, narrower = LogNormal(3.0, 0.3), LogNormal(3.0, 0.15)
    assert stats.kstest(drawn, np.vectorize(told.cdf)).pvalue > 0.01
    assert stats.kstest(drawn, np.vectorize(narrower.cdf)).pvalue < 1e-6


@pytest.mark.parametrize(("value", "share"), [(0.0, 0.0), (2.9, 0.0), (3.0, 1.0), (9.0, 1.0)])
def test_without_spread_it_is_one_value(value: float, share: float) -> None:
    """The cdf is a step at the median, and every draw is the median."""
    fixed = LogNormal(3.0, 0.0)
    assert fixed.cdf(value) == share
    assert fixed.draw(random.Random(1)) == 3.0


def gaps_and_outcomes(folder: Path, target: Serverless) -> tuple[list[float], list[bool]]:
    """Requests after random idle gaps, seen as a caller sees them: was the answer cold?"""
    gaps: list[float] = []
    cold: list[bool] = []

    async def steps(house: House) -> None:
        chance = random.Random(5)
        await house.ask(0.0)
        for _ in range(REQUESTS):
            done_s = house.timers.now()
            await house.wait(chance.uniform(100.0, 700.0))
            gaps.append(house.timers.now() - done_s)
            cold.append((await house.ask(0.0)).cold is not None)

    live(folder, target, steps)
    return gaps, cold


@pytest.mark.slow
@pytest.mark.usefixtures("short_lead")
def test_cold_starts_against_idle_gaps_follow_the_keep_alive(tmp_path: Path) -> None:
    """A Kolmogorov-Smirnov test of the curve: P(cold | gap) is the keep-alive's cdf.

    A cold answer after a gap places the hidden keep-alive below the gap, a warm one above it. If
    the curve is right, a point drawn evenly from that side of the cdf is uniform over all.
    """
    gaps, cold = gaps_and_outcomes(tmp_path, KEPT)

    def p_value(curve: LogNormal) -> float:
        chance = random.Random(6)
        spots = [
            chance.uniform(0.0, curve.cdf(gap)) if was else chance.uniform(curve.cdf(gap), 1.0)
            for gap, was in zip(gaps, cold, strict=True)
        ]
        return float(stats.kstest(spots, "uniform").pvalue)

    assert p_value(KEEP) > 0.01
    assert p_value(LogNormal(360.0, 0.3)) < 0.01, "a keep-alive of 6 minutes is told apart"
    assert 0.2 < float(np.mean(cold)) < 0.9


@pytest.mark.slow
@pytest.mark.usefixtures("short_lead")
def test_idle_environments_end_after_a_time_of_that_distribution(tmp_path: Path) -> None:
    """A Kolmogorov-Smirnov test of the measured idle lives against the profile's."""
    used: list[float] = []

    async def steps(house: House) -> None:
        for _ in range(200):
            await house.ask(0.0)
            used.append(house.timers.now())
            await house.wait(3000.0)

    events = live(tmp_path, KEPT, steps)
    ended = [e["at_s"] for e in events if e["kind"] == "instance_stopped" and e["reason"] == "idle"]
    lives = np.array(ended) - np.array(used)
    assert stats.kstest(lives, np.vectorize(KEEP.cdf)).pvalue > 0.01
    assert stats.kstest(lives, np.vectorize(LogNormal(330.0, 0.3).cdf)).pvalue < 0.05


def test_each_kind_of_delay_has_a_stream_of_its_own() -> None:
    """Drawing keep-alives does not change the placements of a run."""
    profile = profile_for(Serverless())
    one, other = (Delays(profile, "image", 5 * 10**8, 7) for _ in range(2))
    one.keep_alive_s()
    one.pull_s()
    assert one.placement_s() == other.placement_s()


def test_a_larger_model_takes_longer_to_fetch() -> None:
    """In proportion to its size, and to an image of one's own."""
    profile = profile_for(Serverless(profile={"placement_sigma": 0}))
    assert Delays(profile, "image", 5 * 10**8, 1).pull_s() == pytest.approx(5.0)
    own = profile_for(Serverless(profile={"placement_sigma": 0, "image_mb": 1000}))
    assert Delays(own, "image", 5 * 10**8, 1).pull_s() == pytest.approx(15.0)


def test_lambda_images_are_placed_more_slowly_than_zip_archives() -> None:
    """By the observed factor; a zip archive is fetched more slowly."""
    profile = profile_for(Lambda(profile={"placement_sigma": 0, "image_sigma": 0}))
    image, zipped = (Delays(profile, package, 22 * 10**6, 1) for package in ("image", "zip"))
    assert image.placement_s() == pytest.approx(1.75 * zipped.placement_s())
    assert zipped.pull_s() == pytest.approx(1.0)


def test_events_are_plain_json(tmp_path: Path) -> None:
    """Every part of a cold start is in its event, in seconds."""

    async def steps(house: House) -> None:
        await house.ask(0.0)

    events = live(tmp_path, KEPT, steps, package_bytes=10**8)
    cold = next(event for event in events if event["kind"] == "cold_start")
    parts = ("placement", "pull", "retry", "wait", "setup", "process", "import", "load", "warmup")
    assert all(isinstance(cold[f"{part}_s"], float | int) for part in parts), json.dumps(cold)
    assert cold["setup_s"] == pytest.approx(
        sum(cold[f"{part}_s"] for part in ("process", "import", "load", "warmup"))
    )
    assert cold["pull_s"] > 0
    assert cold["first_inference_s"] >= 0
