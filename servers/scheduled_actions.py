"""Scheduled actions: new bounds of a capacity at moments of the run's clock, by the date on it.

The date is the machine's when the server starts, and moves on with what the clock skips. Each time
an action is due costs a fast-forwarded run about 20 ms, and no more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from servers.api_document import Document, converted, invalid, page_of
from servers.control import Operations
from servers.scalable import Target, not_found, scaling_arn
from servers.schedules import Schedule, recurrence_of, zone_of
from servers.timers import Timer, Timers
from servers.wire import ApiError

MAX_ACTIONS = 200
"""Of one scalable target, as Application Auto Scaling has it."""

Name = Annotated[
    str,
    Meta(min_length=1, max_length=256, pattern=r"^(?! )[^\x00-\x1f\x7f-\x9f:/|]+(?<! )$"),
]
Moment = Annotated[float, Meta(ge=0, le=253402300799)]
"""Seconds since 1970."""
Capacity = Annotated[int, Meta(ge=1, le=1000)]


class Capacities(Struct, frozen=True, rename="pascal", omit_defaults=True):
    """ScalableTargetAction: the new bounds, either or both."""

    min_capacity: Capacity | None = None
    max_capacity: Capacity | None = None


class ActionName(Target, frozen=True, rename="pascal"):
    """DeleteScheduledAction."""

    scheduled_action_name: Name


class ActionRequest(ActionName, frozen=True, rename="pascal", omit_defaults=True):
    """PutScheduledAction; of one that is there already, what changes."""

    schedule: Annotated[str, Meta(min_length=1, max_length=1600)] | None = None
    timezone: Annotated[str, Meta(min_length=1, max_length=1600)] | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None
    scalable_target_action: Capacities | None = None


class Search(Struct, frozen=True, rename="pascal"):
    """DescribeScheduledActions."""

    scheduled_action_names: Annotated[list[str], Meta(max_length=50)] = []
    resource_id: str | None = None
    scalable_dimension: str | None = None
    max_results: Annotated[int, Meta(ge=1, le=50)] = 50
    next_token: str | None = None


@dataclass
class ScheduledAction:
    """An action that was put."""

    request: ActionRequest
    schedule: Schedule
    capacities: Capacities
    created_s: float
    status: str = ""
    timer: Timer | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.request.scheduled_action_name

    @property
    def modified_s(self) -> float:
        return self.created_s

    def wanted(self, search: Search) -> bool:
        request, names = self.request, search.scheduled_action_names
        return (
            (not names or self.name in names)
            and search.resource_id in (None, request.resource_id)
            and search.scalable_dimension in (None, request.scalable_dimension)
        )

    def shown(self) -> Document:
        where = f"{self.request.resource_id}:scheduledActionName/{self.name}"
        shown: Document = msgspec.to_builtins(self.request)
        arn = scaling_arn("scheduledAction", where)
        return shown | {"ScheduledActionARN": arn, "CreationTime": self.created_s}


class ScheduledActions:
    """Puts, shows and deletes actions; ``act`` carries one out when it is due.

    ``check`` raises unless the target is registered.
    """

    def __init__(
        self,
        timers: Timers,
        check: Callable[[Target], object],
        act: Callable[[Target, Capacities, str], None],
    ) -> None:
        self._timers = timers
        self._check = check
        self._act = act
        self._actions: dict[tuple[str, str, str], ScheduledAction] = {}

    @property
    def table(self) -> Operations:
        return {
            "PutScheduledAction": self._put,
            "DescribeScheduledActions": self._describe,
            "DeleteScheduledAction": self._delete,
        }

    def forget(self, target: Target) -> None:
        """Delete all actions of the target: it is no longer registered."""
        for key in [key for key in self._actions if key[:2] == target.key]:
            self._remove(key)

    async def _put(self, body: Document) -> Document:
        wanted = converted(body, ActionRequest)
        self._check(wanted)
        key = (*wanted.key, wanted.scheduled_action_name)
        action = self._made(wanted, self._actions.get(key))
        if key in self._actions:
            self._remove(key)
        elif sum(other[:2] == wanted.key for other in self._actions) >= MAX_ACTIONS:
            text = f"{wanted.resource_id} has {MAX_ACTIONS} scheduled actions already."
            raise ApiError(400, "LimitExceededException", text)
        self._actions[key] = action
        self._set(action, self._now())
        return {}

    async def _describe(self, body: Document) -> Document:
        search = converted(body, Search)
        found = [each for each in self._actions.values() if each.wanted(search)]
        paging = {"MaxResults": search.max_results, "NextToken": search.next_token}
        page, more = page_of(found, paging)
        return {"ScheduledActions": [each.shown() for each in page], **more}

    async def _delete(self, body: Document) -> Document:
        wanted = converted(body, ActionName)
        key = (*wanted.key, wanted.scheduled_action_name)
        if key not in self._actions:
            raise not_found(f"No scheduled action called {wanted.scheduled_action_name}")
        self._remove(key)
        return {}

    def _made(self, wanted: ActionRequest, old: ScheduledAction | None) -> ScheduledAction:
        """The action with what it keeps; ValidationException when it can never be due."""
        if old is not None:
            wanted = msgspec.structs.replace(
                wanted,
                schedule=wanted.schedule or old.request.schedule,
                timezone=wanted.timezone or old.request.timezone,
                scalable_target_action=wanted.scalable_target_action or old.capacities,
            )
        capacities = wanted.scalable_target_action or Capacities()
        least, most = capacities.min_capacity, capacities.max_capacity
        if wanted.schedule is None or (least, most) == (None, None):
            raise invalid("Give a Schedule, and MinCapacity or MaxCapacity or both.")
        if least and most and least > most:
            raise invalid(f"MinCapacity {least} is more than MaxCapacity {most}.")
        now = self._now()
        start, end = _utc(wanted.start_time), _utc(wanted.end_time)
        try:
            zone = zone_of(wanted.timezone or "UTC")
            recurrence = recurrence_of(wanted.schedule, zone, start or now)
        except ValueError as error:
            raise invalid(f"Schedule: {error}") from None
        schedule = Schedule(recurrence, start, end)
        if schedule.next_after(now) is None:
            raise invalid(f"{wanted.schedule} is never due from now on.")
        created_s = old.created_s if old else self._timers.clock.date_s
        return ScheduledAction(wanted, schedule, capacities, created_s)

    def _set(self, action: ScheduledAction, after: datetime) -> None:
        """Wait for its next time."""
        due = action.schedule.next_after(after)
        if due is None:
            return

        def fire() -> None:
            # What it starts is one decision of one moment: the clock is not turned meanwhile.
            with self._timers.working():
                self._act(action.request, action.capacities, f"scheduled action {action.name}")
                self._set(action, max(due, self._now()))

        wait_s = due.timestamp() - self._timers.clock.date_s
        action.timer = self._timers.call_at(self._timers.now() + wait_s, fire)

    def _remove(self, key: tuple[str, str, str]) -> None:
        action = self._actions.pop(key)
        if action.timer is not None:
            action.timer.cancel()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._timers.clock.date_s, UTC)


def _utc(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)
