"""One figure of a page: drawn in two sizes, with how to read it and what it shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reports.svg import NARROW, WIDE, Frame, drawing, inline


@dataclass(frozen=True)
class Table:
    """The numbers behind a figure, for who cannot or will not read it off."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Missing:
    """A figure that is not drawn, and why."""

    title: str
    why: str


@dataclass(frozen=True)
class Drawn:
    """One figure; ``svg`` is ready-made markup and holds no text of the user."""

    slug: str
    title: str
    basis: str  # measured, modelled or both
    svg: str
    how_to_read: str
    shows: str
    table: Table | None = None


_Draw = Callable[[Any, Frame, Any], None]


def both(
    name: tuple[str, str],
    draw: _Draw,
    data: Any,
    parts: Sequence[str],
    frames: tuple[Frame, ...] = (WIDE, NARROW),
) -> str:
    """The figure wide and narrow; ``name`` is its slug and title, ``parts`` what it shows."""
    slug, title = name
    texts = (title, sentence(parts))
    found = []
    for frame in frames:
        with drawing(slug, frame) as figure:
            draw(figure, frame, data)
            found.append(inline(figure, slug, frame, texts))
    return "".join(found)


def sentence(parts: Sequence[str]) -> str:
    """The parts as one sentence."""
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def frames(height: float, narrow_height: float | None = None) -> tuple[Frame, ...]:
    """Both sizes at a height that suits the data."""
    return (
        Frame("wide", WIDE.width, height, WIDE.font),
        Frame("narrow", NARROW.width, narrow_height or height, NARROW.font),
    )
