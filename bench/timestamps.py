"""Timestamps in the forms that traces have, as seconds."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.units import DueTimes

Kinds = npt.NDArray[np.int8]

KINDS = (
    "unreadable",
    "seconds",
    "epoch seconds",
    "epoch milliseconds",
    "epoch microseconds",
    "epoch nanoseconds",
    "a date and time",
)
SECONDS, DATE = 1, 6

# A number below 1e8 counts seconds from some start; above, it is time since 1970, whose unit its
# size tells until the year 5138.
_FROM = np.array([1e8, 1e11, 1e14, 1e17])
_TOO_LARGE = 1e20
_UNIT_S = np.array([np.nan, 1.0, 1.0, 1e-3, 1e-6, 1e-9])


def seconds_of(values: "pd.Series[Any]") -> tuple[DueTimes, Kinds]:
    """Seconds for each timestamp, and its index in `KINDS`; NaN and 0 for an unreadable one.

    A date without an offset is taken as UTC.
    """
    if pd.api.types.is_datetime64_any_dtype(values):
        return _dated(pd.to_datetime(values, utc=True))
    if pd.api.types.is_timedelta64_dtype(values):
        values = values.dt.total_seconds()
    if pd.api.types.is_bool_dtype(values):
        values = values.astype("str")  # else pandas takes them for 0 and 1
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    times_s, kinds = _numbered(numbers)
    if len(rest := np.flatnonzero(kinds == 0)):
        texts = values.iloc[rest].astype("str")
        texts = texts.where(~texts.isin(["now", "today"]))  # pandas would ask the clock
        dates = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        times_s[rest], kinds[rest] = _dated(dates)
    return times_s, kinds


def _numbered(numbers: DueTimes) -> tuple[DueTimes, Kinds]:
    good = np.abs(numbers) < _TOO_LARGE
    numbers = np.where(good, numbers, np.nan)
    kinds = np.where(good, np.digitize(np.abs(numbers), _FROM) + 1, 0).astype(np.int8)
    return numbers * _UNIT_S[kinds], kinds


def _dated(dates: "pd.Series[Any]") -> tuple[DueTimes, Kinds]:
    good = dates.notna().to_numpy()
    micros = dates.dt.as_unit("us").dt.tz_localize(None).to_numpy("datetime64[us]")
    times_s = np.where(good, micros.astype(np.int64) / 1e6, np.nan)
    return times_s, np.where(good, DATE, 0).astype(np.int8)
