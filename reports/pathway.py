"""The decision chart as a picture: the way taken is drawn thick, each node with its value."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reports.decision import Chart, Step
from reports.svg import NARROW, WIDE, Frame
from reports.words import mode

_SHORT = (
    ("Does a caller wait", "for each answer?"),
    ("Payload too large", "for a waiting call?"),
    ("Processing too long", "for a waiting call?"),
    ("Is traffic sustained?",),
    ("Cold start too long", "for the callers?"),
)
_ON = ("yes", "no", "no", "no", "no")  # the answer that leads on, or down
_EXITS = (("no", "batch"), ("yes", "async"), ("yes", "async"), ("yes", "realtime"))
_LAST = (("yes", "realtime"), ("no", "serverless"))

_BOX = (148.0, 38.0)
_STEP = 60.0
_PILL = (78.0, 24.0)


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

    def words(
        self,
        at: tuple[float, float],
        lines: Sequence[str],
        look: tuple[str, bool] = ("middle", False),
    ) -> None:
        """Lines of text, their anchor at ``at``; ``look`` is the anchor and whether it is bold."""
        anchor, bold = look
        weight = ' font-weight="700"' if bold else ""
        step = self.font * 1.35
        first = at[1] - step * (len(lines) - 1) / 2 + self.font * 0.35
        for row, line in enumerate(lines):
            self.shapes.append(
                f'<text x="{at[0]:g}" y="{first + row * step:g}" text-anchor="{anchor}" '
                f'font-size="{self.font:g}px" fill="currentColor"{weight}>{escape(line)}</text>'
            )


def pathway(chart: Chart) -> str:
    """The chart as two ``svg`` elements, wide and narrow, of which CSS shows one."""
    height = len(_SHORT) * _STEP + _PILL[1] + 6
    return _draw(chart, Frame("wide", WIDE.width, height, 9.5)) + _draw(
        chart, Frame("narrow", NARROW.width, height, 8.5)
    )


def _draw(chart: Chart, frame: Frame) -> str:
    pen = _Pen([], frame.font)
    steps: list[Step | None] = [*chart.steps]
    steps += [None] * (len(_SHORT) - len(steps))
    for number, step in enumerate(steps):
        _row(pen, (number, 3 + number * _STEP), step, frame.narrow)
    label = f"The decision chart leads to {mode(chart.mode)}."
    slug = f"pathway-{frame.name}"
    hidden = ' display="none"' if frame.narrow else ""
    return (
        f'<svg class="{frame.name}" role="img" viewBox="0 0 {frame.width:g} {frame.height:g}" '
        f'aria-labelledby="{slug}-title"{hidden}><title id="{slug}-title">{escape(label)}</title>'
        f"{''.join(pen.shapes)}</svg>"
    )


def _row(pen: _Pen, place: tuple[int, float], step: Step | None, narrow: bool) -> None:
    """One question with its exit to the right, the way on below it, and its value."""
    number, top = place
    asked = step is not None
    middle = top + _BOX[1] / 2
    pen.box((1, top), _BOX, asked)
    pen.words((1 + _BOX[0] / 2, middle), _SHORT[number], ("middle", asked))
    last = number == len(_SHORT) - 1
    answer, option = _LAST[0] if last else _EXITS[number]
    taken = step is not None and step.leads_to == option
    left = 1 + _BOX[0] + (27 if narrow else 46)
    pen.line((1 + _BOX[0], middle), (left, middle), taken)
    pen.words(((1 + _BOX[0] + left) / 2, middle - 7), [answer], ("middle", taken))
    pen.box((left, middle - _PILL[1] / 2), _PILL, taken)
    name = "batch" if option == "batch" else mode(option)
    pen.words((left + _PILL[0] / 2, middle), [name], ("middle", taken))
    if step is not None and not narrow:
        value = f"{step.measure.what}: {step.measure.value}"
        held = f"threshold: {step.measure.threshold.split(',')[0]}"
        lines = [_short(value), _short(held)]
        pen.words((left + _PILL[0] + 14, middle), lines, ("start", False))
    _onward(pen, top, step, last)


def _onward(pen: _Pen, top: float, step: Step | None, last: bool) -> None:
    taken = step is not None and (step.leads_to == "serverless" if last else step.leads_to is None)
    x, foot = 1 + _BOX[0] / 2, top + _BOX[1]
    end = foot + _STEP - _BOX[1]
    pen.line((x, foot), (x, end), taken)
    word = step.answer if step is not None and taken else _ON[-1] if last else _on(top)
    pen.words((x + 14, (foot + end) / 2), [word], ("middle", taken))
    if last:
        pen.box((x - _PILL[0] / 2, end), _PILL, taken)
        pen.words((x, end + _PILL[1] / 2), [mode("serverless")], ("middle", taken))


def _on(top: float) -> str:
    return _ON[round((top - 3) / _STEP)]


def _short(text: str, most: int = 46) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
