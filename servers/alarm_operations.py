"""CloudWatch's control operations of alarms, and who watches them.

An alarm is looked at once a minute of the run's clock, every ten seconds when its period is
shorter, as CloudWatch does. Nothing waits for that: what has passed since the last time is looked
at when somebody asks. Only while a deployment watches an alarm is there a timer. Actions of alarms
are kept and shown, but nobody is told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from servers.alarms import Comparison, Missing, Rule, State, state_of
from servers.api_document import Document, QueryError, invalid
from servers.cloudwatch import (
    Cloudwatch,
    Figure,
    Metric,
    Name,
    Span,
    in_periods,
    page_of,
    refused,
    request_of,
)
from servers.control import Operations
from servers.pages import MINUTE_S
from servers.timers import Timer, Timers
from servers.wire import ACCOUNT, REGION

MAX_ALARMS = 1_000
MAX_EVALUATED_S = 86_400
"""Of an alarm, all its periods together: a day, which is also what is kept of a metric."""
FAST_S = 10.0
LOOKS = 180
"""Looks that are made up for, at most: of what an alarm was before that, nothing is known."""

Action = Annotated[str, Meta(min_length=1, max_length=1024)]
Actions = Annotated[tuple[Action, ...], Meta(max_length=5)]
Names = Annotated[tuple[Name, ...], Meta(max_length=100)]
Periods = Annotated[int, Meta(ge=1)]

ELSEWHERE = (
    *("Metrics", "ThresholdMetricId", "ExtendedStatistic", "EvaluationCriteria"),
    *("EvaluationWindow", "EvaluationInterval", "WarmUpConfiguration"),
)
"""Members of PutMetricAlarm that ask for what is not done here."""


class AlarmRequest(Metric, frozen=True, rename="pascal", kw_only=True, omit_defaults=True):
    """PutMetricAlarm."""

    alarm_name: Name
    alarm_description: Annotated[str, Meta(max_length=1024)] | None = None
    actions_enabled: bool | None = None
    alarm_actions: Actions | None = None
    insufficient_data_actions: Actions | None = None
    statistic: Figure
    period: int
    evaluation_periods: Periods
    threshold: float
    comparison_operator: Comparison
    unit: str | None = None
    datapoints_to_alarm: Periods | None = None
    treat_missing_data: Missing | None = None
    ok_actions: Actions | None = msgspec.field(default=None, name="OKActions")

    @property
    def rule(self) -> Rule:
        """What decides about its state."""
        points = self.datapoints_to_alarm or self.evaluation_periods
        missing = self.treat_missing_data or "missing"
        return Rule(
            self.threshold, self.comparison_operator, self.evaluation_periods, points, missing
        )

    @property
    def every_s(self) -> float:
        """Time between two looks."""
        return FAST_S if self.period < MINUTE_S else MINUTE_S


class Search(Struct, frozen=True, rename="pascal"):
    """DescribeAlarms."""

    alarm_names: Names = ()
    alarm_name_prefix: Name | None = None
    alarm_types: tuple[str, ...] = ("MetricAlarm",)
    state_value: State | None = None
    action_prefix: Action | None = None
    max_records: Annotated[int, Meta(ge=1, le=100)] = 50
    next_token: str | None = None


class Deletion(Struct, frozen=True, rename="pascal"):
    """DeleteAlarms."""

    alarm_names: Names


class Setting(Struct, frozen=True, rename="pascal"):
    """SetAlarmState."""

    alarm_name: Name
    state_value: State
    state_reason: Annotated[str, Meta(max_length=1023)]
    state_reason_data: Annotated[str, Meta(max_length=4000)] | None = None


@dataclass
class Alarm:
    """An alarm that was put, as it stood when it was last looked at."""

    request: AlarmRequest
    configured_s: float
    updated_s: float
    """Dates: of its configuration, of its state."""
    looked_s: float
    """On the clock."""
    state: State = "INSUFFICIENT_DATA"
    reason: str = "Unchecked: Initial alarm creation"
    reason_data: str | None = None

    def shown(self) -> Document:
        """As DescribeAlarms has it."""
        request = self.request
        shown: Document = {
            "ActionsEnabled": True,
            "Dimensions": [],
            **msgspec.to_builtins(request),
            "AlarmArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{request.alarm_name}",
            "AlarmConfigurationUpdatedTimestamp": self.configured_s,
            "StateValue": self.state,
            "StateReason": self.reason,
            "StateUpdatedTimestamp": self.updated_s,
            "StateTransitionedTimestamp": self.updated_s,
        }
        return shown | ({"StateReasonData": self.reason_data} if self.reason_data else {})

    def wanted(self, search: Search) -> bool:
        request = self.request
        prefix, actions = search.action_prefix, request.alarm_actions or ()
        actions += (request.ok_actions or ()) + (request.insufficient_data_actions or ())
        return (
            (not search.alarm_names or request.alarm_name in search.alarm_names)
            and request.alarm_name.startswith(search.alarm_name_prefix or "")
            and search.state_value in (None, self.state)
            and (prefix is None or any(each.startswith(prefix) for each in actions))
        )


class Alarms:
    """Puts, shows, sets and deletes alarms, and rings for deployments that watch them."""

    def __init__(self, cloudwatch: Cloudwatch, timers: Timers) -> None:
        self._cloudwatch = cloudwatch
        self._timers = timers
        self._alarms: dict[str, Alarm] = {}
        self._watches: set[Callable[[], None]] = set()

    @property
    def table(self) -> Operations:
        operations = {
            "PutMetricAlarm": self._put,
            "DescribeAlarms": self._describe,
            "DeleteAlarms": self._delete,
            "SetAlarmState": self._set,
        }
        return {f"GraniteServiceVersion20100801.{name}": each for name, each in operations.items()}

    def check(self, names: Sequence[str]) -> None:
        """ValidationException when there is no alarm of one of the names."""
        if unknown := [name for name in names if name not in self._alarms]:
            raise invalid(f"AutoRollbackConfiguration: there is no alarm {', '.join(unknown)}.")

    def watch(self, names: Sequence[str], ring: Callable[[str], None]) -> Callable[[], None]:
        """Call ``ring`` with the reason once one is in ALARM, now or later; gives what ends it."""
        timer: Timer | None = None
        if not names:
            return lambda: None

        def look() -> None:
            nonlocal timer
            end()
            # One that has been deleted meanwhile rings no more.
            watched = [self._alarms[name] for name in names if name in self._alarms]
            for alarm in watched:
                self._look(alarm)
                if alarm.state == "ALARM":
                    ring(f"Alarm {alarm.request.alarm_name} is in ALARM. {alarm.reason}")
                    return
            every_s = min((alarm.request.every_s for alarm in watched), default=MINUTE_S)
            next_s = (self._timers.now() // every_s + 1) * every_s
            timer = self._timers.call_at(next_s, look)
            self._watches.add(look)

        def end() -> None:
            self._watches.discard(look)
            if timer is not None:
                timer.cancel()

        look()
        return end

    async def _put(self, body: Document) -> Document:
        request = _checked(body)
        name, now_s = request.alarm_name, self._timers.now()
        date_s = self._cloudwatch.date_of(now_s)
        if (alarm := self._alarms.get(name)) is not None:
            self._look(alarm)
            alarm.request, alarm.configured_s = request, date_s
            return {}
        if len(self._alarms) >= MAX_ALARMS:
            text = f"There are {MAX_ALARMS} alarms already."
            raise QueryError(400, "LimitExceededFault", text, "LimitExceeded")
        # What there is already is looked at, too.
        self._alarms[name] = Alarm(request, date_s, date_s, now_s - request.every_s)
        return {}

    async def _describe(self, body: Document) -> Document:
        search = request_of(body, Search)
        for alarm in self._alarms.values():
            self._look(alarm)
        found = [self._alarms[name] for name in sorted(self._alarms)]
        if "MetricAlarm" not in search.alarm_types:
            found = []
        wanted = [each for each in found if each.wanted(search)]
        page, more = page_of(wanted, search.max_records, search.next_token)
        return {"MetricAlarms": [each.shown() for each in page], "CompositeAlarms": [], **more}

    async def _delete(self, body: Document) -> Document:
        """Those that there are; of others nothing is said, as CloudWatch does."""
        for name in request_of(body, Deletion).alarm_names:
            self._alarms.pop(name, None)
        return {}

    async def _set(self, body: Document) -> Document:
        """Until it is looked at next; who watches it is told at once."""
        wanted = request_of(body, Setting)
        if (alarm := self._alarms.get(wanted.alarm_name)) is None:
            raise QueryError(404, "ResourceNotFound", f"There is no alarm {wanted.alarm_name}.")
        if wanted.state_reason_data is not None:
            try:
                msgspec.json.decode(wanted.state_reason_data)
            except msgspec.DecodeError:
                text = "StateReasonData must be JSON."
                raise QueryError(400, "InvalidFormatFault", text, "InvalidFormat") from None
        self._look(alarm)
        self._change(alarm, wanted.state_value, wanted.state_reason, self._timers.now())
        alarm.reason_data = wanted.state_reason_data
        for look in list(self._watches):
            look()
        return {}

    def _look(self, alarm: Alarm) -> None:
        """Make up for what has passed since it was last looked at."""
        request = alarm.request
        every_s, rule = request.every_s, request.rule
        looks = list(_looks(alarm.looked_s, self._timers.now(), every_s))
        if not looks:
            return
        alarm.looked_s = self._timers.now()
        shelf = self._cloudwatch.find(request, request.unit)
        kept = shelf.periods if shelf else []
        length_s = rule.looks_at * request.period
        if not kept or kept[-1][0] < looks[0] - length_s:
            looks = looks[-1:]  # nothing came, so all of them see the same
        for at_s in looks:
            seen = in_periods(kept, Span(at_s - length_s, request.period, rule.looks_at))
            values = [each.figures()[request.statistic] if each else None for each in seen]
            state = state_of(rule, values, alarm.state)
            if state != alarm.state:
                self._change(alarm, state, _reason(request, values), at_s)

    def _change(self, alarm: Alarm, state: State, reason: str, at_s: float) -> None:
        self._timers.note("alarm", alarm=alarm.request.alarm_name, state=state, reason=reason)
        alarm.state, alarm.reason, alarm.reason_data = state, reason, None
        alarm.updated_s = self._cloudwatch.date_of(at_s)


def _looks(after_s: float, now_s: float, every_s: float) -> Iterator[float]:
    """The moments of looks after one moment and up to another, or the last of them."""
    last = int(now_s // every_s)
    first = max(int(after_s // every_s) + 1, last - LOOKS + 1)
    return (number * every_s for number in range(first, last + 1))


def _reason(request: AlarmRequest, values: Sequence[float | None]) -> str:
    """What was seen, in a sentence; of many datapoints the last ten."""
    last = values[-min(10, request.evaluation_periods) :]
    shown = ", ".join("none" if value is None else f"{value:g}" for value in last)
    return (
        f"{request.statistic} of {request.metric_name} each {request.period} s, at last: {shown}. "
        f"{request.comparison_operator}: {request.threshold:g}."
    )


def _checked(body: Document) -> AlarmRequest:
    if elsewhere := [name for name in ELSEWHERE if body.get(name) is not None]:
        raise refused(f"{elsewhere[0]}: here an alarm watches one statistic of one metric.")
    request = request_of(body, AlarmRequest)
    if request.period not in (10, 20, 30) and request.period % 60:
        raise refused(f"Period is {request.period}: it must be 10, 20, 30 or a multiple of 60.")
    if request.period * request.evaluation_periods > MAX_EVALUATED_S:
        raise refused(f"EvaluationPeriods times Period is more than {MAX_EVALUATED_S} s.")
    if (request.datapoints_to_alarm or 1) > request.evaluation_periods:
        raise refused("DatapointsToAlarm is more than EvaluationPeriods.")
    return request
