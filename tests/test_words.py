"""Numbers as people read them."""

import math

import pytest

from reports import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.0123, "12.3 ms"),
        (0.9996, "1 s"),
        (2.941, "2.94 s"),
        (300.0, "5 min"),
        (397.0, "6 min 37 s"),
        (86_400.0, "24 h"),
        (500_000.0, "5.8 days"),
        (math.inf, "never"),
        (None, words.NOTHING),
    ],
)
def test_times_take_the_unit_that_suits_them(value: float | None, text: str) -> None:
    """Three digits, and no unit that makes the reader count zeros."""
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "$0"), (0.0000312, "$0.000031"), (0.03, "$0.030"), (2.76, "$2.76"), (1234.0, "$1,234")],
)
def test_small_money_keeps_two_digits(value: float, text: str) -> None:
    """A thousandth of a cent is not nothing."""
    assert words.usd(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.9996, "99.96 %"), (0.971, "97.1 %"), (0.00004, "0.004 %")],
)
def test_a_share_reads_all_or_nothing_only_when_it_is(value: float, text: str) -> None:
    """0.9996 is not 100 %."""
    assert words.share(value) == text


def test_large_numbers_become_words() -> None:
    """And quantiles keep their usual names."""
    assert words.count(5.12e6) == "5.12 million"
    assert words.times(15_359) == "15,000 times"
    assert words.size(4 * 2**20) == "4 MiB"
    assert words.size(1_234_567) == "1.23 MB"
    assert words.quantile(0.999) == "p99.9"


def test_a_rate_is_shown_exactly_as_listed() -> None:
    """A price is not rounded."""
    assert words.rate(0.115) == "$0.115"
    assert words.rate(0.00004) == "$0.00004"
    assert words.rate(1.5) == "$1.50"
