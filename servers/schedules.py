"""When an action is due: Application Auto Scaling's ``at(…)``, ``rate(…)`` and ``cron(…)``.

AWS's cron has six fields (minutes, hours, day of month, month, day of week, year), L, W and #, and
days of the week from 1, Sunday. A local time that the clocks skip does not happen that day, one
that comes twice happens once, the first time: as EventBridge has it, assumed to hold here too.
"""

import calendar
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from zoneinfo import ZoneInfo

DaysOf = Callable[[int, int], set[int]]
"""From year and month to the days that are meant."""


@dataclass(frozen=True)
class Once:
    """A single moment."""

    at: datetime

    def next_after(self, moment: datetime) -> datetime | None:
        return self.at if self.at > moment else None


@dataclass(frozen=True)
class Every:
    """Again and again, at the same distance."""

    interval: timedelta
    since: datetime

    def next_after(self, moment: datetime) -> datetime | None:
        return self.since + self.interval * ((moment - self.since) // self.interval + 1)


@dataclass(frozen=True)
class Cron:
    """At each of these times of each of these days, in a time zone."""

    minutes: list[int]
    hours: list[int]
    days_of: DaysOf
    months: list[int]
    years: list[int]
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime | None:
        """None when there is no such day any more."""
        for day in self._days(moment.astimezone(self.zone).date()):
            for hour in self.hours:
                for minute in self.minutes:
                    wall = datetime(day.year, day.month, day.day, hour, minute)
                    at = wall.replace(tzinfo=self.zone).astimezone(UTC)
                    exists = at.astimezone(self.zone).replace(tzinfo=None) == wall
                    if at > moment and exists:
                        return at
        return None

    def _days(self, first: date) -> Iterator[date]:
        for year in self.years:
            for month in self.months:
                if (year, month) >= (first.year, first.month):
                    days = (date(year, month, day) for day in sorted(self.days_of(year, month)))
                    yield from (day for day in days if day >= first)


@dataclass(frozen=True)
class Schedule:
    """When an action is due; ``start`` is the first time of one that recurs."""

    recurrence: Once | Every | Cron
    start: datetime | None = None
    end: datetime | None = None

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time after ``moment`` (with a time zone); None: never again."""
        waits = not isinstance(self.recurrence, Once) and self.start and moment < self.start
        found = self.start if waits else self.recurrence.next_after(moment)
        return None if found is None or (self.end and found > self.end) else found


def recurrence_of(text: str, zone: tzinfo, since: datetime) -> Once | Every | Cron:
    """What the expression means; ``since``: where a rate begins.

    ValueError names what is wrong with it.
    """
    kind, _, rest = text.strip().partition("(")
    if not rest.endswith(")") or kind not in _READERS:
        raise ValueError(f"{text!r} is none of at(…), rate(…) and cron(…).")
    return _READERS[kind](rest[:-1].strip(), zone, since)


def zone_of(name: str) -> tzinfo:
    """The time zone that IANA calls ``name``; ValueError when this machine knows none."""
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        raise ValueError(
            f"{name!r} is no time zone that this machine knows: Europe/Berlin is one. (They come "
            "with the system's package tzdata.)"
        ) from None


def _at(text: str, zone: tzinfo, _: datetime) -> Once:
    try:
        wall = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        raise ValueError(f"at({text}): give at(yyyy-mm-ddThh:mm:ss).") from None
    return Once(wall.replace(tzinfo=zone).astimezone(UTC))


def _rate(text: str, _: tzinfo, since: datetime) -> Every:
    found = re.fullmatch(r"([1-9]\d{0,5})\s+(minute|hour|day)s?", text, re.ASCII)
    if found is None:
        raise ValueError(f"rate({text}): give rate(5 minutes), or hours, or days.")
    return Every(int(found[1]) * timedelta(**{f"{found[2]}s": 1}), since)


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text.upper() in self.words:
            return self.low + self.words.index(text.upper())
        if re.fullmatch(r"\d{1,4}", text, re.ASCII) and self.low <= int(text) <= self.high:
            return int(text)
        raise self.wrong(text)

    def numbers(self, text: str) -> set[int]:
        """Of ``*``, a number, ``a-b``, and each with ``/step``."""
        span, slash, step = text.partition("/")
        first, dash, last = span.partition("-")
        low = self.low if span == "*" else self.number(first)
        high = self.number(last) if dash else (self.high if span == "*" or slash else low)
        width = _Field(self.name, 1, self.high).number(step) if slash else 1
        if low > high:
            raise self.wrong(text)
        return set(range(low, high + 1, width))

    def sorted_numbers(self, text: str) -> list[int]:
        return sorted(set().union(*map(self.numbers, text.split(","))))

    def wrong(self, text: str) -> ValueError:
        return ValueError(f"cron: {text!r} is no {self.name}: {self.low} to {self.high}.")


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MINUTE, _HOUR = _Field("minute", 0, 59), _Field("hour", 0, 23)
_DAY, _WEEKDAY = _Field("day of the month", 1, 31), _Field("day of the week", 1, 7, _WEEKDAYS)
_FIFTH = _Field("week of the month", 1, 5)
_MONTH, _YEAR = _Field("month", 1, 12, _MONTHS), _Field("year", 1970, 2199)


def _cron(text: str, zone: tzinfo, since: datetime) -> Cron:
    fields = text.split()
    if len(fields) != 6:
        raise ValueError(
            f"cron({text}): there are six fields, minutes, hours, day of month, month, day of week "
            "and year; cron(0 8 ? * MON-FRI *) is 8:00 of each working day."
        )
    minutes, hours, day, month, weekday, year = fields
    if (day == "?") == (weekday == "?"):
        raise ValueError(f"cron({text}): the day of month or the day of week, one of them, is ?.")
    reader, chosen = (_day_terms, day) if weekday == "?" else (_weekday_terms, weekday)
    terms = [reader(term) for term in chosen.split(",")]

    def days_of(year: int, month: int) -> set[int]:
        return set().union(*(term(year, month) for term in terms))

    years = [each for each in _YEAR.sorted_numbers(year) if each >= since.year - 1]
    return Cron(
        _MINUTE.sorted_numbers(minutes),
        _HOUR.sorted_numbers(hours),
        days_of,
        _MONTH.sorted_numbers(month),
        years,
        zone,
    )


_READERS: dict[str, Callable[[str, tzinfo, datetime], Once | Every | Cron]] = {
    "at": _at,
    "rate": _rate,
    "cron": _cron,
}


def _day_terms(term: str) -> DaysOf:
    if term == "L":
        return lambda year, month: {_length(year, month)}
    if term.endswith("W"):
        return partial(_working_day, _DAY.number(term[:-1]))
    wanted = _DAY.numbers(term)
    return lambda year, month: {day for day in wanted if day <= _length(year, month)}


def _weekday_terms(term: str) -> DaysOf:
    weekday, mark, which = term.partition("#")
    if mark:
        return partial(_of_weekday, {_WEEKDAY.number(weekday)}, int(_FIFTH.number(which)) - 1)
    if term.endswith("L") and term != "L":
        return partial(_of_weekday, {_WEEKDAY.number(term[:-1])}, -1)
    return partial(_of_weekday, {7} if term == "L" else _WEEKDAY.numbers(term), None)


def _of_weekday(weekdays: set[int], which: int | None, year: int, month: int) -> set[int]:
    """The days of a month that are such weekdays: all of them, or only the which-th of each."""
    first = _weekday(year, month, 1)
    found: set[int] = set()
    for weekday in weekdays:
        days = list(range((weekday - first) % 7 + 1, _length(year, month) + 1, 7))
        found |= set(days if which is None else days[which:][:1])
    return found


def _working_day(day: int, year: int, month: int) -> set[int]:
    """Monday to Friday, nearest to that day in its month; none in a month that is too short."""
    length = _length(year, month)
    if day > length:
        return set()
    weekday = _weekday(year, month, day)
    if weekday == 7:
        return {day - 1 if day > 1 else day + 2}
    if weekday == 1:
        return {day + 1 if day < length else day - 2}
    return {day}


def _weekday(year: int, month: int, day: int) -> int:
    """From 1, Sunday, to 7."""
    return (calendar.weekday(year, month, day) + 1) % 7 + 1


def _length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]
