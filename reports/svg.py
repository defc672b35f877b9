"""Matplotlib figures as inline SVG: themeable, accessible, the same bytes each time."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.styles import INK


@dataclass(frozen=True)
class Frame:
    """How large a figure is drawn; 72 units an inch, so 540 units are 720 CSS pixels."""

    name: str
    width: float
    height: float
    font: float

    @property
    def narrow(self) -> bool:
        """Whether the figure is for a small screen."""
        return self.width < 300


WIDE = Frame("wide", 540, 270, 9.5)
NARROW = Frame("narrow", 255, 235, 8.5)


@contextmanager
def drawing(slug: str, frame: Frame) -> Iterator[Figure]:
    """A figure to draw in, with the settings that make its SVG plain and repeatable."""
    with mpl.rc_context(_settings(slug, frame.font)):
        yield Figure(figsize=(frame.width / 72, frame.height / 72), layout="constrained")


def inline(figure: Figure, slug: str, frame: Frame, texts: tuple[str, str]) -> str:
    """The figure as an ``svg`` element; ``texts`` are its title and description.

    Must be called inside `drawing`. Nothing in it needs CSS or a script: some viewers allow none.
    """
    FigureCanvasSVG(figure)
    out = StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    body = drawn[drawn.index(">", drawn.index("<svg")) + 1 : drawn.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'style="([^"]*)"', lambda match: _attributes(match.group(1)), body)
    prefix = f"{slug}-{frame.name}"
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', body)
    body = re.sub(r'\b(d|x|y)="([^"]*)"', _rounded, body)
    body = (
        body.replace(INK, "currentColor")
        .replace("#000000", "currentColor")
        .replace("xlink:href", "href")
    )
    title, description = (escape(text) for text in texts)
    # Without CSS both sizes would show; the page's own CSS overrides the attribute.
    hidden = ' display="none"' if frame.narrow else ""
    return (
        f'<svg class="{frame.name}" role="img" viewBox="0 0 {frame.width:g} {frame.height:g}" '
        f'aria-labelledby="{prefix}-title {prefix}-desc" stroke-linejoin="round" '
        f'fill="currentColor"{hidden}>'
        f'<title id="{prefix}-title">{title}</title><desc id="{prefix}-desc">{description}</desc>'
        f"{body}</svg>"
    )


def _rounded(match: re.Match[str]) -> str:
    """Coordinates to a hundredth of a unit: half the bytes, and no eye sees it."""
    short = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}", match.group(2))
    return f'{match.group(1)}="{" ".join(short.split())}"'


def _settings(slug: str, font: float) -> Any:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": slug,
        "text.parse_math": False,  # a dollar sign is money
        "font.size": font,
        "axes.labelsize": font,
        "axes.titlesize": font,
        "legend.fontsize": font,
        "xtick.labelsize": font,
        "ytick.labelsize": font,
        "axes.edgecolor": INK,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.0,
        "grid.color": INK,
        "grid.alpha": 0.16,
        "grid.linewidth": 0.6,
        "hatch.linewidth": 0.9,
        "legend.frameon": False,
    }


def _attributes(style: str) -> str:
    """CSS declarations as presentation attributes, which no content policy forbids."""
    pairs = [part.split(":", 1) for part in style.split(";") if ":" in part]
    found = []
    for name, value in ((name.strip(), value.strip()) for name, value in pairs):
        if name == "font":
            found += _font(value)
        elif name != "font-family":  # the page's own
            found.append(f'{name}="{escape(value, quote=True)}"')
    return " ".join(found)


def _font(value: str) -> list[str]:
    size = re.search(r"([\d.]+)px", value)
    found = [f'font-size="{size.group(1)}"'] if size else []
    return [*found, 'font-weight="700"'] if re.search(r"\b(bold|700)\b", value) else found
