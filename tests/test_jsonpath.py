"""The JSONPath subset of filters."""

from typing import Any

import pytest

from bench.errors import ConfigError
from servers.jsonpath import NoSuchPath, compiled

RECORD = {"id": 7, "a": {"b": [10, 20, 30], "c-d": None}, "SageMakerOutput": {"label": 3}}
ROW = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", RECORD),
        ("$.id", 7),
        ("$.a.b", [10, 20, 30]),
        ("$.a.b[1]", 20),
        ("$.a.b[0,-1]", [10, 30]),
        ("$.a.*", [[10, 20, 30], None]),
        ("$['id','SageMakerOutput']", {"id": 7, "SageMakerOutput": {"label": 3}}),
        ("$['a'].c-d", None),
        ("$.SageMakerOutput.label", 3),
    ],
)
def test_what_a_path_names_in_an_object(path: str, expected: Any) -> None:
    """Members, several members, all values, elements."""
    assert compiled(path).select(RECORD) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$[0]", "a"),
        ("$[-1]", "e"),
        ("$[0,-1]", ["a", "e"]),
        ("$[1:4]", ["b", "c", "d"]),
        ("$[:2]", ["a", "b"]),
        ("$[2:]", ["c", "d", "e"]),
        ("$[-2:]", ["d", "e"]),
        ("$[*]", ROW),
    ],
)
def test_what_a_path_names_in_a_row(path: str, expected: Any) -> None:
    """One element, several, a slice whose end is left out."""
    assert compiled(path).select(ROW) == expected


def test_the_end_of_a_slice_can_be_included() -> None:
    """AWS's pages disagree, so it can be switched."""
    assert compiled("$[1:4]", end_included=True).select(ROW) == ["b", "c", "d", "e"]
    assert compiled("$[0:-1]", end_included=True).select(ROW) == ROW


@pytest.mark.parametrize(
    ("path", "value"),
    [("$[5]", ROW), ("$[-6]", ROW), ("$[0,5]", ROW), ("$.x", RECORD), ("$['id','x']", RECORD)],
)
def test_what_is_not_there_is_an_error(path: str, value: Any) -> None:
    """An index outside the row is an error, and so is an absent member; the path is named."""
    with pytest.raises(NoSuchPath) as caught:
        compiled(path).select(value)
    assert path in str(caught.value)


@pytest.mark.parametrize(("path", "value"), [("$.id.x", RECORD), ("$[0]", RECORD), ("$.x", ROW)])
def test_a_path_into_another_kind_of_value_is_an_error(path: str, value: Any) -> None:
    """An array has no members, an object no indices."""
    with pytest.raises(NoSuchPath):
        compiled(path).select(value)


@pytest.mark.parametrize(
    "path", ["", "id", "$id", "$..x", "$.", "$[", "$[a]", "$['a]", "$[1:2:3]", "$ .x", "$[?(@.a)]"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    """The message shows the path."""
    with pytest.raises(ConfigError, match="JSONPath"):
        compiled(path)


def test_a_path_has_at_most_63_characters() -> None:
    """As the API says."""
    compiled("$." + "x" * 61)
    with pytest.raises(ConfigError, match="64 characters"):
        compiled("$." + "x" * 62)


@pytest.mark.parametrize(("path", "fit"), [("$", True), ("$[0,-1][1:]", True), ("$.a", False)])
def test_paths_fit_for_csv_have_indices_only(path: str, fit: bool) -> None:
    """Rows have no names."""
    assert compiled(path).indices_only is fit
