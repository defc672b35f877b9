from typing import Any

import numpy as np
import pytest
import torch

from servers.batching import find_batching
from servers.stacking import Unsplittable, join, key_of, rows_of, same, split

rng = np.random.default_rng(1)
WEIGHTS = rng.normal(size=(4, 3)).astype(np.float32)
ROWS = [rng.normal(size=(1, 4)).astype(np.float32) for _ in range(6)]
ITEMS = [row[0] for row in ROWS]


def linear(data: Any) -> Any:
    """A model whose rows do not know of each other."""
    return data @ WEIGHTS


def test_rows_that_are_independent_are_joined() -> None:
    """A model of independent rows is called for several requests at once, whatever it returns."""
    for predict in (
        linear,
        lambda data: (linear(data), linear(data).argmax(axis=1)),
        lambda data: {"scores": linear(data), "model": "linear"},
        lambda data: [{"best": int(row.argmax())} for row in linear(data)],
        lambda data: torch.from_numpy(linear(data)),
    ):
        assert find_batching(predict, ROWS, 8).way == "rows"


def test_items_without_a_first_dimension_are_stacked() -> None:
    """A model that takes one vector takes a matrix of them, if that gives the same."""
    assert find_batching(linear, ITEMS, 8).way == "items"


@pytest.mark.parametrize(
    "predict",
    [
        pytest.param(lambda data: linear(data - data.mean(axis=0)), id="looks at the whole batch"),
        pytest.param(lambda data: linear(data) * np.arange(1, len(data) + 1)[:, None], id="place"),
        pytest.param(lambda data: linear(data).sum(), id="one number for all"),
        pytest.param(lambda data: linear(data) + rng.normal(), id="chance"),
        pytest.param(lambda data: linear(data.reshape(1, 4)), id="takes one row"),
        pytest.param(lambda data: (row for row in linear(data)), id="a stream"),
        pytest.param(lambda data: float(linear(data).mean()), id="a mean over the batch"),
    ],
)
def test_a_model_that_would_answer_otherwise_is_called_singly(predict: Any) -> None:
    """Wherever the joint result is not made of the single ones, nothing is joined."""
    assert find_batching(predict, ROWS, 8).way is None


def test_only_inputs_like_the_samples_are_joined() -> None:
    """Another type, another number of columns or another kind of value is served alone."""
    found = find_batching(linear, ROWS, 8)
    assert found.key(np.zeros((3, 4), np.float32)) == found.key(ROWS[0]) is not None
    for data in (np.zeros((1, 5), np.float32), np.zeros((1, 4)), [[0.0] * 4], "text", None):
        assert found.key(data) is None
    assert found.key(torch.zeros(1, 4)) is None


def test_without_samples_nothing_is_joined() -> None:
    """What cannot be tried is not done, and the reason says so; so when the model fails on them."""
    assert "no samples" in find_batching(linear, [], 8).reason
    assert "fails" in find_batching(lambda data: data["x"], ROWS, 8).reason


@pytest.mark.parametrize(
    "values",
    [
        [np.arange(4).reshape(2, 2), np.arange(6).reshape(3, 2)],
        [torch.arange(4).reshape(2, 2), torch.arange(2).reshape(1, 2)],
        [["a", "b"], ["c"]],
        [{"x": np.ones((2, 3)), "y": np.ones(2)}, {"x": np.zeros((1, 3)), "y": np.zeros(1)}],
        [(np.ones((2, 3)), np.ones(2)), (np.zeros((1, 3)), np.zeros(1))],
    ],
)
def test_what_is_joined_comes_apart_again(values: list[Any]) -> None:
    """Joining and splitting give back each input."""
    assert len({key_of(value, "rows") for value in values}) == 1
    parts = split(join(values, "rows"), [rows_of(value) for value in values], "rows")
    assert all(same(part, value) for part, value in zip(parts, values, strict=True))


def test_a_result_of_another_length_does_not_come_apart() -> None:
    """It is refused rather than dealt out."""
    with pytest.raises(Unsplittable):
        split(np.zeros(3), [1, 1], "rows")
    with pytest.raises(Unsplittable):
        split(object(), [1, 1], "rows")


def test_rounding_is_no_difference_but_all_else_is() -> None:
    """Floats may differ in their last places, whole numbers and texts in none."""
    one = np.array([1.0, 1e-9], np.float32)
    assert same(one, np.array([1.0 + 1e-6, 0.0], np.float32))
    assert not same(one, np.array([1.01, 0.0], np.float32))
    assert not same(np.array([1]), np.array([2]))
    assert not same(["a"], ["b"])
    assert not same(one, one.astype(np.float64))
    assert same([float("nan")], [float("nan")])
