"""Costs against AWS's own pricing examples."""

from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from reports.costs import Cost, break_even, cost_of, read_prices
from reports.summary import summarise
from tests.make_runs import DAY_S, make_cold, make_run, records

PRICES = read_prices()
SERVERLESS = {"mode": "serverless", "memory_mb": 2048, "max_concurrency": 20, "profile": {}}


def cost(folder: Path, mode: str, rows: Any, bill_setup: bool = False, **changes: Any) -> Cost:
    run = make_run(folder, mode, rows, **changes)
    return cost_of(run, summarise(run), PRICES, bill_setup)


def test_the_serverless_example_of_aws_comes_out_to_the_cent(tmp_path: Path) -> None:
    """10 M requests of 100 ms and 1 kB at 2 GB cost $40.16; here a thousandth of them."""
    rows = records(10_000, 8.0, model_s=0.1)
    rows["request_bytes"], rows["response_bytes"] = 600, 400
    found = cost(tmp_path, "serverless", rows)
    assert found.amount_usd * 1000 == pytest.approx(40.16)
    assert found.per_million_usd == pytest.approx(4.016)


def test_the_realtime_example_of_aws_comes_out_to_the_cent(tmp_path: Path) -> None:
    """Two ml.c5.xlarge for 744 h cost $303.55; one costs half."""
    target = {"mode": "realtime", "instance_type": "ml.c5.xlarge", "profile": {}}
    load = {"duration_s": 744 * 3600.0}
    found = cost(tmp_path, "realtime", records(10, 10.0), target=target, load=load)
    assert found.amount_usd * 2 == pytest.approx(303.55, abs=0.005)


def test_realtime_is_billed_for_a_minute_at_least(tmp_path: Path) -> None:
    """Ten seconds cost as much as sixty."""
    found = cost(tmp_path, "realtime", records(10, 1.0), load={"duration_s": 10.0})
    assert found.amount_usd == pytest.approx(0.115 / 60)


def test_a_day_of_realtime_is_extrapolated_to_730_hours(tmp_path: Path) -> None:
    """$2.76 a day is $83.95 a month, whatever the traffic."""
    found = cost(tmp_path, "realtime", records(10, 10.0))
    assert found.amount_usd == pytest.approx(2.76)
    assert found.month_usd == pytest.approx(83.95)
    assert found.monthly_usd(1e9) == pytest.approx(83.95)


def test_serverless_scales_with_the_requests(tmp_path: Path) -> None:
    """A month holds 730/24 days of the same traffic."""
    found = cost(tmp_path, "serverless", records(100, 800.0))
    assert found.requests_a_month == pytest.approx(100 * 730 / 24)
    assert found.month_usd == pytest.approx(found.amount_usd * 730 / 24)
    assert found.period_s == DAY_S


def test_setup_time_is_billed_only_when_asked(tmp_path: Path) -> None:
    """Ten cold starts of 2 s add 20 s at the price of the memory, marked as assumed."""
    rows = make_cold(records(100, 800.0), slice(0, 10))
    without = cost(tmp_path / "a", "serverless", rows)
    billed = cost(tmp_path / "b", "serverless", rows, bill_setup=True)
    assert without.setup_usd == pytest.approx(20 * 0.00004)
    assert billed.amount_usd - without.amount_usd == pytest.approx(20 * 0.00004)
    assert billed.items[-1].basis == "assumed"


def test_the_volume_at_which_realtime_becomes_cheaper(tmp_path: Path) -> None:
    """At that many requests a month both cost the same."""
    realtime = cost(tmp_path / "r", "realtime", records(10, 10.0))
    serverless = cost(tmp_path / "s", "serverless", records(100, 800.0))
    crossing = break_even(realtime, serverless)
    assert crossing is not None
    assert serverless.monthly_usd(crossing) == pytest.approx(realtime.monthly_usd(crossing))
    assert serverless.monthly_usd(crossing * 0.9) < realtime.monthly_usd(crossing * 0.9)


@pytest.mark.parametrize(
    ("mode", "target", "known"),
    [
        ("realtime", {"mode": "realtime", "instance_type": "ml.x.huge"}, "ml.m5.large"),
        ("serverless", {**SERVERLESS, "memory_mb": 1500}, "1024, 2048"),
    ],
)
def test_what_has_no_price_is_an_error_that_names_what_has(
    tmp_path: Path, mode: str, target: dict[str, Any], known: str
) -> None:
    """The error names the value and those known."""
    with pytest.raises(ConfigError, match=known):
        cost(tmp_path, mode, records(10, 10.0), target=target)


def test_every_price_names_its_source_and_how_sure_it_is() -> None:
    """No price without a source."""
    prices = [*PRICES.instance_hour.values(), *PRICES.serverless_second.values()]
    for price in [*prices, PRICES.serverless_data_gb]:
        assert price.source
        assert price.confidence in ("documented", "secondary", "uncertain")


def test_a_broken_price_table_is_an_error(tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "prices.toml"
    path.write_text("region = 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"prices\.toml"):
        read_prices(path)
    with pytest.raises(ConfigError, match="missing"):
        read_prices(tmp_path / "missing.toml")
