"""Expressions of time: when each is due next."""

from datetime import UTC, datetime

import pytest

from servers.schedules import Schedule, recurrence_of, zone_of


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due(text: str, begin: str, zone: str = "UTC", count: int = 3, **bounds: str) -> list[str]:
    """The next times after ``begin``, in UTC."""
    now = moment(begin)
    limits = {name: moment(value) for name, value in bounds.items()}
    since = limits.get("start", now)
    schedule = Schedule(recurrence_of(text, zone_of(zone), since), **limits)
    found: list[str] = []
    while len(found) < count and (following := schedule.next_after(now)) is not None:
        found.append(following.isoformat()[:16])
        now = following
    return found


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("at(2026-12-01T08:00:00)", ["2026-12-01T08:00"]),
        ("rate(1 minute)", ["2026-11-20T12:01", "2026-11-20T12:02", "2026-11-20T12:03"]),
        ("rate(12 hours)", ["2026-11-21T00:00", "2026-11-21T12:00", "2026-11-22T00:00"]),
        ("cron(0 8 ? * MON-FRI *)", ["2026-11-23T08:00", "2026-11-24T08:00", "2026-11-25T08:00"]),
        ("cron(30 6 ? * 2 *)", ["2026-11-23T06:30", "2026-11-30T06:30", "2026-12-07T06:30"]),
        ("cron(0/20 12,13 * * ? *)", ["2026-11-20T12:20", "2026-11-20T12:40", "2026-11-20T13:00"]),
        ("cron(5 0 1-31/15 * ? *)", ["2026-12-01T00:05", "2026-12-16T00:05", "2026-12-31T00:05"]),
        ("cron(0 0 L * ? *)", ["2026-11-30T00:00", "2026-12-31T00:00", "2027-01-31T00:00"]),
        ("cron(0 0 29 FEB ? *)", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
        ("cron(0 0 1W AUG ? *)", ["2027-08-02T00:00", "2028-08-01T00:00", "2029-08-01T00:00"]),
        ("cron(0 0 31W 1,7 ? *)", ["2027-01-29T00:00", "2027-07-30T00:00", "2028-01-31T00:00"]),
        ("cron(0 0 ? * 6L *)", ["2026-11-27T00:00", "2026-12-25T00:00", "2027-01-29T00:00"]),
        ("cron(0 0 ? * 3#5 *)", ["2026-12-29T00:00", "2027-03-30T00:00", "2027-06-29T00:00"]),
        ("cron(0 0 ? * L *)", ["2026-11-21T00:00", "2026-11-28T00:00", "2026-12-05T00:00"]),
        ("cron(59 23 31 12 ? 2026-2027)", ["2026-12-31T23:59", "2027-12-31T23:59"]),
        ("cron(0 0 31 2 ? *)", []),
        ("cron(0 0 1 1 ? 2020)", []),
        ("at(2020-01-01T00:00:00)", []),
    ],
)
def test_an_expression_is_due_when_aws_says(text: str, times: list[str]) -> None:
    """From noon of a Friday on, as EventBridge's reference has the fields."""
    assert due(text, "2026-11-20T12:00") == times


def test_times_are_those_of_the_time_zone_and_follow_its_summer() -> None:
    """8:00 in Berlin is 7:00, and from the end of March on 6:00, in UTC."""
    times = due("cron(0 8 * * ? *)", "2026-03-27T12:00", "Europe/Berlin")
    assert times == ["2026-03-28T07:00", "2026-03-29T06:00", "2026-03-30T06:00"]
    assert due("at(2026-07-01T08:00:00)", "2026-01-01", "Europe/Berlin") == ["2026-07-01T06:00"]


def test_a_time_that_the_clocks_skip_is_left_out_and_one_that_comes_twice_happens_once() -> None:
    """Half past two of the nights at the end of March and of October."""
    spring = due("cron(30 2 * * ? *)", "2026-03-28T12:00", "Europe/Berlin", 1)
    assert spring == ["2026-03-30T00:30"]
    autumn = due("cron(30 2 * * ? *)", "2026-10-24T12:00", "Europe/Berlin", 2)
    assert autumn == ["2026-10-25T00:30", "2026-10-26T01:30"]


def test_what_recurs_begins_at_its_start_and_ends_at_its_end() -> None:
    """The start is a time of its own, as Application Auto Scaling has it."""
    bounds = {"start": "2026-11-21T00:10", "end": "2026-11-21T02:00"}
    hourly = ["2026-11-21T00:10", "2026-11-21T01:00", "2026-11-21T02:00"]
    assert due("cron(0 * * * ? *)", "2026-11-20T12:00", count=9, **bounds) == hourly
    rate = ["2026-11-21T00:10", "2026-11-21T01:10"]
    assert due("rate(1 hour)", "2026-11-20T12:00", count=9, **bounds) == rate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("every day", "none of at"),
        ("cron(0 8 * * ? *", "none of at"),
        ("at(tomorrow)", "yyyy-mm-ddThh:mm:ss"),
        ("rate(0 minutes)", "rate"),
        ("rate(5 weeks)", "rate"),
        ("cron(0 8 * * ?)", "six fields"),
        ("cron(0 8 * * * *)", "one of them, is"),
        ("cron(0 8 ? * ? *)", "one of them, is"),
        ("cron(60 8 * * ? *)", "'60' is no minute: 0 to 59"),
        ("cron(0 8 * FOO ? *)", "'FOO' is no month"),
        ("cron(0 8 ? * 0 *)", "'0' is no day of the week"),
        ("cron(0 8 ? * 2#6 *)", "'6' is no week of the month"),
        ("cron(0 10-8 * * ? *)", "'10-8' is no hour"),
        ("cron(0/0 8 * * ? *)", "'0' is no minute"),
        ("cron(, 8 * * ? *)", "'' is no minute"),
        ("cron(0 8 W * ? *)", "'' is no day of the month"),
    ],
)
def test_what_is_no_expression_is_refused(text: str, words: str) -> None:
    """The error says what is wrong, and how it is written."""
    with pytest.raises(ValueError, match=words):
        due(text, "2026-11-20T12:00")


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe"])
def test_a_time_zone_that_is_none_is_refused(name: str) -> None:
    """Nothing but the names of IANA."""
    with pytest.raises(ValueError, match="no time zone"):
        zone_of(name)
