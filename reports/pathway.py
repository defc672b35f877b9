"""The decision chart as a picture: the way taken is drawn thick."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reports.decision import Chart
from reports.svg import NARROW, WIDE, Frame
from reports.words import mode

_SHORT = (
    ("Must each request", "return an inference?"),
    ("Would queueing", "help?"),
    ("Sustained, or steady", "low latency needed?"),
)
_ON = ("yes", "no")  # the answer that leads on to the next question
_EXITS = ((("no", "batch"),), (("yes", "async"),), (("yes", "realtime"), ("no", "serverless")))

_BOX = (152.0, 44.0)
_PILL_HEIGHT = 24.0


@dataclass(frozen=True)
class _Pen:
    """Collects shapes; ``taken`` ones are thick."""

    shapes: list[str]
    font: float

    def line(self, start: tuple[float, float], end: tuple[float, float], taken: bool) -> None:
        weight = 'stroke-width="2.2"' if taken else 'stroke-width="0.9" stroke-opacity="0.5"'
        (x1, y1), (x2, y2) = start, end
        self.shapes.append(
            f'<path d="M {x1:g} {y1:g} L {x2:g} {y2:g}" stroke="currentColor" {weight}/>'
        )

    def box(self, at: tuple[float, float], size: tuple[float, float], taken: bool) -> None:
        weight = 'stroke-width="1.8"' if taken else 'stroke-width="0.9" stroke-opacity="0.5"'
        self.shapes.append(
            f'<rect x="{at[0]:g}" y="{at[1]:g}" width="{size[0]:g}" height="{size[1]:g}" '
            f'rx="{min(size[1] / 2, 12):g}" fill="none" stroke="currentColor" {weight}/>'
        )

    def words(self, at: tuple[float, float], lines: Sequence[str], bold: bool = False) -> None:
        """Lines of text, centred on ``at``."""
        weight = ' font-weight="700"' if bold else ""
        step = self.font * 1.35
        first = at[1] - step * (len(lines) - 1) / 2 + self.font * 0.35
        for row, line in enumerate(lines):
            self.shapes.append(
                f'<text x="{at[0]:g}" y="{first + row * step:g}" text-anchor="middle" '
                f'font-size="{self.font:g}px" fill="currentColor"{weight}>{escape(line)}</text>'
            )


def pathway(chart: Chart) -> str:
    """The chart as two ``svg`` elements, wide and narrow, of which CSS shows one."""
    return _draw(chart, Frame("wide", WIDE.width, 122, 9.5)) + _draw(
        chart, Frame("narrow", NARROW.width, 266, 8.5)
    )


def _draw(chart: Chart, frame: Frame) -> str:
    pen = _Pen([], frame.font)
    asked = len(chart.steps)
    for number in range(3):
        answer = chart.steps[number].answer if number < asked else None
        at = _place(number, frame)
        pen.box(at, _BOX, answer is not None)
        centre = (at[0] + _BOX[0] / 2, at[1] + _BOX[1] / 2)
        pen.words(centre, _SHORT[number], bold=answer is not None)
        if number < 2:
            _onward(pen, number, frame, answer == _ON[number])
        _exits(pen, number, frame, answer)
    label = f"The decision chart leads to {mode(chart.mode)}."
    slug = f"pathway-{frame.name}"
    hidden = ' display="none"' if frame.narrow else ""
    return (
        f'<svg class="{frame.name}" role="img" viewBox="0 0 {frame.width:g} {frame.height:g}" '
        f'aria-labelledby="{slug}-title"{hidden}><title id="{slug}-title">{escape(label)}</title>'
        f"{''.join(pen.shapes)}</svg>"
    )


def _place(number: int, frame: Frame) -> tuple[float, float]:
    return (1.0, 4 + number * 84.0) if frame.narrow else (1 + number * 193.0, 4.0)


def _onward(pen: _Pen, number: int, frame: Frame, taken: bool) -> None:
    x, y = _place(number, frame)
    if frame.narrow:
        pen.line((x + 76, y + _BOX[1]), (x + 76, y + 84), taken)
        pen.words((x + 92, y + 64), [_ON[number]], taken)
    else:
        pen.line((x + _BOX[0], y + 22), (x + 193, y + 22), taken)
        pen.words((x + _BOX[0] + 20, y + 12), [_ON[number]], taken)


def _exits(pen: _Pen, number: int, frame: Frame, answer: str | None) -> None:
    x, y = _place(number, frame)
    several = len(_EXITS[number]) > 1
    for place, (when, name) in enumerate(_EXITS[number]):
        taken = when == answer
        if frame.narrow:
            left, top = _narrow_exit(place, several, (x, y))
            width = 74.0
            start, end = _narrow_line(several, (x, y), (left, top))
            label = (left - 9.0, top + 3) if not several else (end[0] + 14, top - 9)
        else:
            width = 86.0 if not several else 74.0
            left = x + (_BOX[0] - width) / 2 if not several else x + place * (_BOX[0] - width)
            top = y + 88
            start, end = (left + width / 2, y + _BOX[1]), (left + width / 2, top)
            label = (left + width / 2 + 14, y + 66)
        pen.line(start, end, taken)
        pen.words(label, [when], taken)
        pen.box((left, top), (width, _PILL_HEIGHT), taken)
        words = [mode(name)] if name != "batch" or not frame.narrow else ["batch"]
        pen.words((left + width / 2, top + _PILL_HEIGHT / 2), words, taken)


def _narrow_exit(place: int, several: bool, at: tuple[float, float]) -> tuple[float, float]:
    if several:
        return at[0] + place * 90.0, at[1] + 66
    return 178.0, at[1] + 10


def _narrow_line(
    several: bool, at: tuple[float, float], pill: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    if several:
        return (pill[0] + 37, at[1] + _BOX[1]), (pill[0] + 37, pill[1])
    return (at[0] + _BOX[0], at[1] + 22), (pill[0], at[1] + 22)
