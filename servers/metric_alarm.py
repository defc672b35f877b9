"""One alarm of CloudWatch: what was put, how it stands, and when it is to be looked at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from servers.alarms import Comparison, Missing, Rule, State, state_of
from servers.api_document import Document
from servers.cloudwatch import Figure, Metric, Name, Span, in_periods, refused, request_of
from servers.pages import MINUTE_S, Statistic
from servers.wire import ACCOUNT, REGION

MAX_EVALUATED_S = 86_400
"""Of an alarm, all its periods together: a day, which is also what is kept of a metric."""
FAST_S = 10.0
LOOKS = 60
"""Looks that are made up for, at most: of what an alarm was before that, nothing is known."""

Action = Annotated[str, Meta(min_length=1, max_length=1024)]
Actions = Annotated[tuple[Action, ...], Meta(max_length=5)]
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
    unit: Name | None = None
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
    def actions(self) -> Actions:
        """Of whatever state."""
        return (
            (self.alarm_actions or ())
            + (self.ok_actions or ())
            + (self.insufficient_data_actions or ())
        )

    @property
    def every_s(self) -> float:
        """Time between two looks."""
        return FAST_S if self.period < MINUTE_S else MINUTE_S


@dataclass
class Alarm:
    """An alarm that was put, as it stood when it was last looked at."""

    request: AlarmRequest
    configured_s: float
    updated_s: float
    changed_s: float
    """Dates: of its configuration, of its state as told last, of its state as it became."""
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
            "StateTransitionedTimestamp": self.changed_s,
        }
        return shown | ({"StateReasonData": self.reason_data} if self.reason_data else {})

    def due(self, now_s: float) -> bool:
        """Whether there is something to be looked at."""
        every_s = self.request.every_s
        return now_s // every_s > self.looked_s // every_s

    def look(
        self, kept: Sequence[tuple[float, Statistic]], now_s: float
    ) -> Iterator[tuple[float, State, str]]:
        """Each change of its state since it was last looked at: when, to what and why.

        ``kept`` is what there is of its metric.
        """
        request, rule = self.request, self.request.rule
        looks = list(_looks(self.looked_s, now_s, request.every_s))
        self.looked_s, state = now_s, self.state
        length_s = rule.looks_at * request.period
        if not kept or kept[-1][0] < looks[0] - length_s:
            looks = looks[-1:]  # nothing came, so all of them see the same
        for at_s in looks:
            seen = in_periods(kept, Span(at_s - length_s, request.period, rule.looks_at))
            figures = {number: each.figures()[request.statistic] for number, each in seen.items()}
            values = [figures.get(number) for number in range(rule.looks_at)]
            if (new := state_of(rule, values, state)) != state:
                state = new
                yield at_s, state, _reason(request, values)


def checked(body: Document) -> AlarmRequest:
    """What PutMetricAlarm asks for; ValidationError when it breaks a rule."""
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
