"""How each option looks in every plot: colour, marker, line and hatching, never colour alone."""

from typing import Any

INK = "#262626"
"""Drawn in this colour, a thing takes the page's own text colour."""

PAPER = ("#fdfcf9", "#15171a")
"""The page's background, light and dark."""

# Okabe and Ito's colours, of which these keep a contrast of 3 on light and on dark.
COLOURS = {
    "realtime": "#0072b2",
    "serverless": "#d55e00",
    "async": "#009e73",
    "batch": "#b0689a",
    "lambda": "#8a6d00",
}
OTHER = "#7d7d7d"
_MARKERS = {"realtime": "o", "serverless": "s", "async": "^", "batch": "D", "lambda": "P"}
_LINES: dict[str, Any] = {
    "realtime": "-",
    "serverless": (0, (5, 1.5)),
    "async": (0, (1, 1)),
    "batch": (0, (5, 1.5, 1, 1.5)),
    "lambda": (0, (3, 1, 1, 1, 1, 1)),
}
_REGIONS = {
    "realtime": "",
    "serverless": "////",
    "async": "\\\\\\\\",
    "batch": "----",
    "lambda": "xxxx",
}
HATCHES = ["", "////", "\\\\\\\\", "----", "||||", "xxxx", "++++", "//", "--"]
"""Lines only: dots and stars make a drawing ten times as large."""


def colour_of(mode: str) -> str:
    """The option's colour."""
    return COLOURS.get(mode, OTHER)


def marker_of(mode: str) -> str:
    """The option's marker."""
    return _MARKERS.get(mode, "v")


def line_of(mode: str) -> Any:
    """The option's kind of line."""
    return _LINES.get(mode, (0, (3, 3)))


def hatch_of(mode: str) -> str:
    """The hatching of the option's area."""
    return _REGIONS.get(mode, "||||")


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG: 3 is enough for a line, 4.5 for text."""
    light = sorted((_luminance(one), _luminance(other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    red, green, blue = linear
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
