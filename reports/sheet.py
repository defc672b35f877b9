"""A plain page of tables and figures, in the style of the report: comparisons and indexes."""

from dataclasses import dataclass

from bench import __version__
from reports.drawn import Drawn
from reports.markup import environment, style, style_hash

MOST_SHOWN = 200
"""Characters of a name of the user that a table shows."""


@dataclass(frozen=True)
class Value:
    """One cell; ``link`` is a relative path that we made ourselves."""

    text: str
    note: str = ""
    kind: str = ""
    link: str = ""


@dataclass(frozen=True)
class Part:
    """A section: a table, figures, or both."""

    slug: str
    title: str
    caption: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    figures: tuple[Drawn, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """The whole page."""

    kind: str
    title: str
    facts: str
    parts: tuple[Part, ...]
    doubts: tuple[str, ...] = ()


def html(sheet: Sheet) -> str:
    """The page as one file without a script; the same sheet gives the same bytes."""
    values = {
        "style": style(),
        "style_hash": style_hash(),
        "version": __version__,
        "sheet": sheet,
    }
    return environment().get_template("sheet.html.j2").render(values)


def clipped(text: str) -> str:
    """``text`` short enough for a cell."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
