"""Costs against AWS's own pricing examples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import ConfigError
from reports.costs import Cost, break_even, cost_of, peak_over_mean, read_prices
from reports.pricing import provisioned
from reports.summary import summarise
from tests.make_queued import async_run, batch_run, note, stay
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


def test_the_realtime_example_comes_out_with_both_instances(tmp_path: Path) -> None:
    """Two in service for 744 h, as the events say: $303.55."""
    target = {"mode": "realtime", "instance_type": "ml.c5.xlarge", "profile": {}}
    load = {"duration_s": 744 * 3600.0}
    run = make_run(tmp_path, "realtime", records(10, 10.0), target=target, load=load)
    note(run, *stay("a", 0.0), *stay("b", 0.0))
    found = cost_of(run, summarise(run), PRICES)
    assert round(found.amount_usd, 2) == 303.55


def test_the_provisioned_example_of_aws_comes_out_to_the_cent(tmp_path: Path) -> None:
    """$144 reserved, $23 served by it, $6 beyond it and $0.208 of data: $173.208.

    A thousandth of it: 14,400 unit-seconds, 1,000 s on provisioned environments, 150 s beyond.
    """
    target = {**SERVERLESS, "provisioned_concurrency": 1}
    rows = records(11_500, 1.0, model_s=0.1)
    rows["instance"][:10_000] = b"provisioned-1"
    rows["request_bytes"], rows["response_bytes"] = 0, 0
    rows["request_bytes"][:10_000] = 1300
    run = make_run(tmp_path, "serverless", rows, target=target, load={"duration_s": 14_400.0})
    note(run, {"kind": "provisioned", "at_s": 0.0, "units": 1})
    found = cost_of(run, summarise(run), PRICES)
    amounts = [round(item.amount_usd * 1000, 3) for item in found.items]
    assert amounts == [144.0, 23.0, 6.0, 0.208]
    assert found.amount_usd * 1000 == pytest.approx(173.208)
    month_usd = 0.144 * 730 * 3600 / 14_400
    assert found.fixed_month_usd == pytest.approx(month_usd)


def test_an_asynchronous_endpoint_is_billed_for_its_stays_and_its_objects(tmp_path: Path) -> None:
    """Two hours at $0.115, and for each request two writes and two reads of S3."""
    run = async_run(tmp_path)
    found = {item.name: item for item in cost_of(run, summarise(run), PRICES).items}
    n = summarise(run).sent
    assert found["2 stays of ml.m5.large"].amount_usd == pytest.approx(0.23)
    assert found["objects written to S3"].amount_usd == pytest.approx(2 * n / 1000 * 0.005)
    assert found["objects read from S3"].amount_usd == pytest.approx(2 * n / 1000 * 0.0004)
    assert found["storage in S3"].basis == "assumed"


def test_a_batch_job_is_billed_for_the_time_it_ran(tmp_path: Path) -> None:
    """Ten minutes at $0.115 an hour; a machine half as fast is rented twice as long."""
    run = batch_run(tmp_path)
    summary = summarise(run)
    found, slow = cost_of(run, summary, PRICES), cost_of(run, summary, read_prices(speed_factor=2))
    assert found.items[0].amount_usd == pytest.approx(0.115 / 6)
    assert slow.items[0].amount_usd == pytest.approx(0.115 / 3)
    assert found.month_usd == pytest.approx(found.amount_usd * 730 / 24)


def test_the_speed_factor_stretches_the_model_time_of_serverless(tmp_path: Path) -> None:
    """Twice the time costs twice as much; the data costs the same."""
    run = make_run(tmp_path, "serverless", records(100, 800.0))
    summary = summarise(run)
    once, twice = (cost_of(run, summary, read_prices(speed_factor=f)) for f in (1.0, 2.0))
    assert twice.items[0].amount_usd == pytest.approx(2 * once.items[0].amount_usd)
    assert twice.items[1] == once.items[1]


def test_the_break_even_is_the_one_of_the_hand_calculation(tmp_path: Path) -> None:
    """$83.95 a month against 0.1 s at $0.00004 and 500 bytes at $0.016 a GB for each request."""
    realtime = cost(tmp_path / "r", "realtime", records(10, 10.0))
    serverless = cost(tmp_path / "s", "serverless", records(100, 800.0))
    by_hand = 730 * 0.115 / (0.1 * 0.00004 + 500 / 1e9 * 0.016)
    assert break_even(realtime, serverless) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(20_945_608, rel=1e-6)
    assert break_even(serverless, realtime) is None


def test_a_partial_price_table_replaces_only_what_it_names(tmp_path: Path) -> None:
    """The hour of one type; all else stays as dated."""
    path = tmp_path / "mine.toml"
    text = '[instance_hour."ml.m5.large"]\nusd = 0.2\nsource = "our contract"\n'
    path.write_text(text + 'confidence = "documented"\n', encoding="utf-8")
    mine = read_prices(path)
    assert mine.instance_hour["ml.m5.large"].usd == 0.2
    assert mine.instance_hour["ml.m5.xlarge"] == PRICES.instance_hour["ml.m5.xlarge"]


@pytest.mark.parametrize(
    "text",
    ["speed_factor = 0", "hours_a_month = 0", "storage_days = -1", "[s3_gb_month]\nusd = -1.0"],
)
def test_a_price_table_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    """The error says what it may be."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        read_prices(path)


def test_a_price_by_proportion_says_so() -> None:
    """4 GB of provisioned concurrency cost twice what 2 GB cost, and that is uncertain."""
    price = provisioned(PRICES.provisioned_second, 4096)
    assert price.usd == pytest.approx(0.00002)
    assert price.confidence == "uncertain"
    assert "in proportion" in price.source


def test_the_busiest_minute_against_the_mean() -> None:
    """Ten requests in one minute of ten: ten times the mean; a short run has none."""
    assert peak_over_mean(np.arange(10.0), 600.0) == pytest.approx(10)
    assert peak_over_mean(np.arange(10.0), 30.0) == 1.0


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
