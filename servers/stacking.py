"""Inputs of several calls joined into one, and the result of that one taken apart again.

What can be joined: arrays and tensors, lists of texts, and dicts or tuples of these. There are two
ways: ``rows`` when each input has a first dimension of its own (they are put one after the other),
``items`` when each is one item (they are stacked along a new first dimension).
"""

import itertools
import math
import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import numpy as np

Way = Literal["rows", "items"]
Join = Callable[[list[Any], Way], Any]

_REPEATED = (str, int, float, bool, type(None))


class Unsplittable(Exception):
    """A result that does not have one part for each input."""


def is_tensor(value: object) -> bool:
    """Whether ``value`` is a tensor of torch, told without importing torch."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def key_of(value: Any, way: Way) -> Hashable | None:
    """Equal for inputs that may be joined; None for one that may not."""
    if isinstance(value, np.ndarray) or is_tensor(value):
        if value.ndim < 1 and way == "rows":
            return None
        shape = tuple(value.shape[1:] if way == "rows" else value.shape)
        kind = value.dtype
        if isinstance(value, np.ndarray):
            return None if kind.hasobject else (type(value), kind, shape)
        return type(value), kind, shape, value.device
    if isinstance(value, list):
        texts = way == "rows" and value and all(isinstance(item, str) for item in value)
        return ("texts",) if texts else None
    if isinstance(value, dict):
        parts = {name: key_of(part, way) for name, part in value.items()}
        good = bool(parts) and None not in parts.values() and _even(list(value.values()), way)
        return ("dict", *parts.items()) if good else None
    if isinstance(value, tuple):
        keys = [key_of(part, way) for part in value]
        return ("tuple", *keys) if keys and None not in keys and _even(list(value), way) else None
    return None


def rows_of(value: Any) -> int:
    """How many rows an input that has a key brings."""
    if isinstance(value, dict):
        return rows_of(next(iter(value.values())))
    if isinstance(value, tuple):
        return rows_of(value[0])
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return value.size  # texts become one list
    return len(value) if isinstance(value, list) else int(value.shape[0])  # len() of torch is slow


def join(values: list[Any], way: Way) -> Any:
    """One input from several of the same key."""
    first = values[0]
    if isinstance(first, dict):
        return {name: join([value[name] for value in values], way) for name in first}
    if isinstance(first, tuple):
        return tuple(join(list(parts), way) for parts in zip(*values, strict=True))
    if isinstance(first, list):
        return [item for value in values for item in value]
    if is_tensor(first):
        torch = sys.modules["torch"]
        return torch.cat(values) if way == "rows" else torch.stack(values)
    return np.concatenate(values) if way == "rows" else np.stack(values)


def split(result: Any, counts: Sequence[int], way: Way) -> list[Any]:
    """The part of each input, ``counts`` rows each; Unsplittable when there is no such part."""
    if isinstance(result, np.ndarray) or is_tensor(result):
        if result.ndim < 1 or len(result) != sum(counts):
            raise Unsplittable
        return list(result) if way == "items" else _slices(result, counts)
    if isinstance(result, dict):
        parts = {name: split(part, counts, way) for name, part in result.items()}
        return [{name: part[n] for name, part in parts.items()} for n in range(len(counts))]
    if isinstance(result, tuple):
        return [tuple(part) for part in _transposed(result, counts, way)]
    if isinstance(result, list):
        return _split_list(result, counts, way)
    if isinstance(result, _REPEATED):
        return [result] * len(counts)
    raise Unsplittable


def same(one: Any, other: Any) -> bool:
    """Whether two results are the same answer: numbers but for rounding, all else exactly."""
    if type(one) is not type(other):
        return False
    if is_tensor(one):
        return same(one.detach().cpu().numpy(), other.detach().cpu().numpy())
    if isinstance(one, np.ndarray):
        return _same_arrays(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | np.floating):
        close = math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
        return close or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _same_arrays(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind not in "fc":
        return bool(np.array_equal(one, other))
    if not one.size:
        return True
    # A sum in another order differs by some units in the last place of the largest term.
    tolerance = float(np.sqrt(np.finfo(one.dtype).eps))
    finite = np.abs(one[np.isfinite(one)])
    largest = float(finite.max()) if finite.size else 0.0
    return np.allclose(one, other, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def _even(parts: list[Any], way: Way) -> bool:
    """Whether all parts of one input bring as many rows."""
    return way == "items" or len({rows_of(part) for part in parts}) == 1


def _slices(whole: Any, counts: Sequence[int]) -> list[Any]:
    ends = itertools.accumulate(counts)
    return [whole[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _split_list(result: list[Any], counts: Sequence[int], way: Way) -> list[Any]:
    if result and all(isinstance(part, np.ndarray) or is_tensor(part) for part in result):
        try:
            return [list(part) for part in _transposed(result, counts, way)]
        except Unsplittable:
            pass  # then it may hold one array a row
    if len(result) != sum(counts):
        raise Unsplittable
    return list(result) if way == "items" else _slices(result, counts)


def _transposed(results: Sequence[Any], counts: Sequence[int], way: Way) -> list[list[Any]]:
    parts = [split(part, counts, way) for part in results]
    return [[part[n] for part in parts] for n in range(len(counts))]
