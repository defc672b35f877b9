"""Bills by use, against AWS's own pricing examples."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.errors import ConfigError
from reports.costs import cost_of, read_prices
from reports.summary import summarise
from reports.usage_bill import Use, lines, unit_seconds
from tests.make_runs import make_run, records

PRICES = read_prices()
SAGEMAKER = {"mode": "serverless", "memory_mb": 2048}
LAMBDA = {"mode": "lambda", "memory_mb": 512}


def amounts(target: dict[str, Any], use: Use, bill_setup: bool = False) -> dict[str, float]:
    return {line.name: line.amount_usd for line in lines(target, use, PRICES, bill_setup)}


def test_the_example_of_provisioned_concurrency_comes_out_to_the_cent() -> None:
    """AWS's own, 2 GB: $144 + $23 + $6 + $0.208 = $173.208."""
    use = Use(14_400_000, 1_000_000, 150_000, 0.0, 1_150_000, 13 * 10**9)
    found = amounts(SAGEMAKER, use)
    assert found == pytest.approx(
        {
            "provisioned concurrency": 144.0,
            "model time on it": 23.0,
            "model time": 6.0,
            "data in and out": 0.208,
        }
    )
    assert sum(found.values()) == pytest.approx(173.208)


def test_the_example_of_lambda_comes_out_to_the_cent() -> None:
    """3 million requests of a second at 512 MB, without the free tier: $25 and $0.60."""
    found = amounts(LAMBDA, Use(0, 0, 3_000_000, 0.0, 3_000_000, 10**12))
    assert found == pytest.approx({"function time": 25.0, "requests": 0.6}, abs=0.001)


def test_other_memory_sizes_of_provisioned_concurrency_are_in_proportion() -> None:
    """Only one size is published; the source says so."""
    use = Use(1000, 0, 0, 0, 0, 0)
    [reserved, *_] = lines({**SAGEMAKER, "memory_mb": 6144}, use, PRICES, False)
    assert reserved.rate_usd == pytest.approx(0.00003)
    assert reserved.source.startswith("in proportion to 2048 MB")


def test_setup_time_is_billed_at_the_memorys_price_when_asked() -> None:
    """Assumed for SageMaker, measured for Lambda, which bills it."""
    use = Use(0, 0, 10, 100, 10, 0)
    on_sagemaker, on_lambda = lines(SAGEMAKER, use, PRICES, True), lines(LAMBDA, use, PRICES, True)
    assert [
        (round(each.amount_usd, 9), each.basis) for each in on_sagemaker if "set-up" in each.name
    ] == [(0.004, "assumed")]
    assert [each.basis for each in on_lambda if "set-up" in each.name] == ["measured"]
    assert "set-up time" not in amounts(SAGEMAKER, use)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ([], 0.0),
        ([(-2.0, 3)], 300.0),  # configured before the load began
        ([(-2.0, 1), (40.0, 3), (60.0, 0)], 40.0 + 60.0),
        ([(-2.0, 1), (140.0, 9)], 100.0),  # after its end
    ],
)
def test_units_count_for_as_long_as_they_are_configured(
    changes: list[tuple[float, int]], seconds: float
) -> None:
    """Within the load: from its start to its end at 100 s."""
    events = [{"kind": "provisioned", "at_s": at_s, "units": units} for at_s, units in changes]
    assert unit_seconds(events, 100.0) == pytest.approx(seconds)


def test_lambda_bills_provisioned_units_in_steps_of_five_minutes() -> None:
    """Each unit from enabled to disabled; one that is still there at the end is not rounded."""
    events = [
        {"kind": "provisioned", "at_s": at_s, "units": units}
        for at_s, units in ((-2.0, 1), (100.0, 3), (700.0, 2), (701.0, 1))
    ]
    assert PRICES.lambda_provisioned_step_s == 300
    assert unit_seconds(events, 1000.0, 300.0) == pytest.approx(1000 + 600 + 900)
    assert unit_seconds(events, 1000.0) == pytest.approx(1000 + 600 + 601)


def test_a_run_tells_what_was_served_by_which(tmp_path: Path) -> None:
    """By the names of the environments; the target's own switch bills the set-up."""
    rows = records(10, 10.0, model_s=0.1)
    rows["instance"][:4] = b"provisioned-1"
    rows["setup_s"][9] = 2.0
    target = {**SAGEMAKER, "provisioned_concurrency": 1, "bill_setup": True}
    run = make_run(tmp_path, "serverless", rows, target=target, load={"duration_s": 100.0})
    (tmp_path / "events.jsonl").write_text('{"at_s": -1, "kind": "provisioned", "units": 1}\n')
    found = cost_of(run, summarise(run), PRICES)
    quantities = {item.name: item.quantity for item in found.items}
    assert quantities == pytest.approx(
        {
            "provisioned concurrency": 100.0,
            "model time on it": 0.4,
            "model time": 0.6,
            "data in and out": 10 * 500 / 1e9,
            "set-up time": 2.0,
        }
    )
    assert found.fixed_month_usd == pytest.approx(0.00001 * 730 * 3600)


def test_a_price_table_without_lambda_is_named() -> None:
    """The error says what is missing."""
    bare = msgspec.structs.replace(PRICES, aws_lambda={}, provisioned_second={})
    with pytest.raises(ConfigError, match=r"no aws_lambda\.gb_second"):
        lines(LAMBDA, Use(0, 0, 1, 0, 1, 0), bare, False)
    with pytest.raises(ConfigError, match="no price of provisioned concurrency"):
        lines(SAGEMAKER, Use(1, 0, 1, 0, 1, 0), bare, False)
