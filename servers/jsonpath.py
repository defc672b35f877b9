"""The JSONPath subset of batch transform's filters.

$                     the whole record
$.id  $['a','b']      a member; several named members
$.id.*                every value
$[1]  $[0,-1]         an element; several
$[2:5]  $[:5]  $[2:]  a slice; whether its end is included, AWS's pages disagree
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.errors import ConfigError

MAX_CHARACTERS = 63

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_STEP = re.compile(
    rf"""
    \.(?P<child>{_NAME})
    | (?P<star>\.\*|\[\*\])
    | \[(?P<names>\s*'[^']+'\s*(?:,\s*'[^']+'\s*)*)\]
    | \[(?P<slice>\s*-?\d*\s*:\s*-?\d*\s*)\]
    | \[(?P<indices>\s*-?\d+\s*(?:,\s*-?\d+\s*)*)\]
    """,
    re.VERBOSE,
)


class NoSuchPath(Exception):
    """The record has no such part; the text names the path and the part."""


Step = Callable[[Any], Any]


@dataclass(frozen=True)
class JsonPath:
    """A compiled path."""

    text: str
    steps: tuple[Step, ...]
    indices_only: bool
    """Fit for CSV: nothing but indices and slices."""

    @property
    def everything(self) -> bool:
        """Whether it is ``$``: nothing is left out."""
        return not self.steps

    def select(self, value: Any) -> Any:
        """What the path names in ``value``; NoSuchPath when it is not there."""
        for step in self.steps:
            try:
                value = step(value)
            except (KeyError, IndexError, TypeError) as error:
                what = str(error) if isinstance(error, KeyError) else type(value).__name__
                reason = f"no member {what}" if isinstance(error, KeyError) else f"{error}"
                raise NoSuchPath(f"{self.text} names nothing in it ({reason})") from None
        return value


def compiled(text: str, end_included: bool = False) -> JsonPath:
    """The path ``text``; ConfigError when it is none of this subset.

    ``end_included`` makes ``$[1:4]`` take the elements 1 to 4 rather than 1 to 3.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"The JSONPath has {len(text)} characters; at most {MAX_CHARACTERS}.")
    if not text.startswith("$"):
        raise ConfigError(f"The JSONPath {text!r} must begin with $.")
    steps: list[Step] = []
    at, indices_only = 1, True
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ConfigError(
                f"The JSONPath {text!r} is not understood from {text[at:]!r} on. There are $, "
                ".name, .*, ['a','b'], [1], [0,-1] and [2:5]."
            )
        steps.append(_step(found, end_included))
        indices_only &= found["slice"] is not None or found["indices"] is not None
        at = found.end()
    return JsonPath(text, tuple(steps), indices_only)


def _step(found: re.Match[str], end_included: bool) -> Step:
    if found["child"] is not None:
        return _child(found["child"])
    if found["star"] is not None:
        return _every
    if found["names"] is not None:
        return _members(re.findall(r"'([^']+)'", found["names"]))
    if found["slice"] is not None:
        return _slice(found["slice"], end_included)
    return _elements([int(part) for part in found["indices"].split(",")])


def _child(name: str) -> Step:
    def child(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"it is not an object with a member {name!r}")
        return value[name]

    return child


def _every(value: Any) -> Any:
    if isinstance(value, dict):
        return list(value.values())
    return list(_checked_list(value))


def _members(names: list[str]) -> Step:
    def members(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"it is not an object with members {', '.join(names)}")
        if len(names) == 1:
            return value[names[0]]
        return {name: value[name] for name in names}

    return members


def _elements(indices: list[int]) -> Step:
    def elements(value: Any) -> Any:
        value = _checked_list(value)
        for index in indices:
            if not -len(value) <= index < len(value):
                raise IndexError(f"there is no index {index} among {len(value)} elements")
        return value[indices[0]] if len(indices) == 1 else [value[index] for index in indices]

    return elements


def _slice(text: str, end_included: bool) -> Step:
    begin, _, end = (part.strip() for part in text.partition(":"))
    stop = int(end) if end else None
    if stop is not None and end_included:
        stop = None if stop == -1 else stop + 1
    chosen = slice(int(begin) if begin else None, stop)
    return lambda value: _checked_list(value)[chosen]


def _checked_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("it is not an array")
    return value
