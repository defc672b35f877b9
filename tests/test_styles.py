"""Colours that can be told apart, on light and on dark."""

import pytest

from reports.styles import (
    COLOURS,
    OTHER,
    PAPER,
    colour_of,
    contrast,
    hatch_of,
    line_of,
    marker_of,
)


def test_contrast_is_the_one_of_wcag() -> None:
    """Black on white is 21; a colour on itself is 1; the order does not matter."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#0072b2", "#0072b2") == pytest.approx(1)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("paper", PAPER)
@pytest.mark.parametrize("colour", [*COLOURS.values(), OTHER])
def test_every_line_stands_out_from_the_page(colour: str, paper: str) -> None:
    """At least 3, what WCAG asks of graphics, in both themes."""
    assert contrast(colour, paper) >= 3


def test_no_two_options_differ_by_colour_alone() -> None:
    """Marker, line and hatching differ as well, also for an option that is not ours."""
    options = [*COLOURS, "elsewhere"]
    for look in (colour_of, marker_of, line_of, hatch_of):
        assert len({str(look(name)) for name in options}) == len(options)


@pytest.mark.parametrize("paper", ["#fdfcf9", "#15171a"])
def test_the_paper_is_that_of_the_style_sheet(paper: str) -> None:
    """So that the contrast is that of the page."""
    from reports.markup import style

    assert f"--paper: {paper}" in style()
