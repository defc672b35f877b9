"""CloudWatch's control operations of alarms, and who watches them.

An alarm is looked at once a minute of the run's clock, every ten seconds when its period is
shorter, as CloudWatch does. Nothing waits for that: what has passed since the last time is looked
at when somebody asks. Only while a deployment watches an alarm is there a timer. Actions of alarms
are kept and shown, but nobody is told.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from servers.alarms import State
from servers.api_document import Document, QueryError, invalid
from servers.cloudwatch import Cloudwatch, Name, page_of, request_of
from servers.control import Operations
from servers.metric_alarm import Action, Alarm, checked
from servers.pages import MINUTE_S
from servers.timers import Timer, Timers

MAX_ALARMS = 1_000
Names = Annotated[tuple[Name, ...], Meta(max_length=100)]


class Search(Struct, frozen=True, rename="pascal"):
    """DescribeAlarms."""

    alarm_names: Names = ()
    alarm_name_prefix: Name | None = None
    alarm_types: tuple[str, ...] = ("MetricAlarm",)
    state_value: State | None = None
    action_prefix: Action | None = None
    max_records: Annotated[int, Meta(ge=1, le=100)] = 50
    next_token: str | None = None

    def names(self, alarm: Alarm) -> bool:
        """Whether it is one of those asked for, in whatever state."""
        request, prefix = alarm.request, self.action_prefix
        return (
            "MetricAlarm" in self.alarm_types
            and (not self.alarm_names or request.alarm_name in self.alarm_names)
            and request.alarm_name.startswith(self.alarm_name_prefix or "")
            and (prefix is None or any(each.startswith(prefix) for each in request.actions))
        )


class Deletion(Struct, frozen=True, rename="pascal"):
    """DeleteAlarms."""

    alarm_names: Names


class Setting(Struct, frozen=True, rename="pascal"):
    """SetAlarmState."""

    alarm_name: Name
    state_value: State
    state_reason: Annotated[str, Meta(max_length=1023)]
    state_reason_data: Annotated[str, Meta(max_length=4000)] | None = None


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
        request = checked(body)
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
        self._alarms[name] = Alarm(request, date_s, date_s, date_s, now_s - request.every_s)
        return {}

    async def _describe(self, body: Document) -> Document:
        search = request_of(body, Search)
        found = [alarm for _, alarm in sorted(self._alarms.items()) if search.names(alarm)]
        for alarm in found:
            self._look(alarm)
        wanted = [alarm for alarm in found if search.state_value in (None, alarm.state)]
        page, more = page_of(wanted, search.max_records, search.next_token)
        return {"MetricAlarms": [each.shown() for each in page], "CompositeAlarms": [], **more}

    async def _delete(self, body: Document) -> Document:
        """Those that there are; wrong names beside them change nothing, as the reference has it."""
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
        if alarm.due(now_s := self._timers.now()):
            shelf = self._cloudwatch.find(alarm.request, alarm.request.unit)
            for at_s, state, reason in alarm.look(shelf.periods if shelf else [], now_s):
                self._change(alarm, state, reason, at_s)

    def _change(self, alarm: Alarm, state: State, reason: str, at_s: float) -> None:
        self._timers.note("alarm", alarm=alarm.request.alarm_name, state=state, reason=reason)
        alarm.updated_s = self._cloudwatch.date_of(at_s)
        if state != alarm.state:
            alarm.changed_s = alarm.updated_s
        alarm.state, alarm.reason, alarm.reason_data = state, reason, None
