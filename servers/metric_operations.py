"""CloudWatch's control operations that list and read metrics.

Of each metric there is the last day of minutes; the period that is not over is in it, too.
Percentiles are not kept by the minute, so they are refused, as math expressions are.
"""

import math
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct, to_builtins

from servers.api_document import Document, QueryError
from servers.cloudwatch import (
    Asked,
    Cloudwatch,
    Figure,
    Metric,
    Moment,
    Name,
    Period,
    page_of,
    refused,
    request_of,
)
from servers.control import Operations

MAX_STATISTICS = 1_440
MAX_VALUES = 100_800
MAX_QUERIES = 500
MAX_LISTED = 500
RECENTLY_S = 3 * 3600.0
SHORT_S = (1, 5, 10, 20, 30)
"""Periods of less than a minute."""


class StatisticsRequest(Metric, frozen=True, rename="pascal", kw_only=True):
    """GetMetricStatistics."""

    start_time: Moment
    end_time: Moment
    period: Period
    statistics: Annotated[tuple[Figure, ...], Meta(max_length=5)] = ()
    extended_statistics: tuple[str, ...] = ()
    unit: Name | None = None


class Stat(Struct, frozen=True, rename="pascal"):
    """MetricStat."""

    metric: Metric
    period: Period
    stat: str
    unit: Name | None = None


class Query(Struct, frozen=True, rename="pascal"):
    """MetricDataQuery."""

    id: Annotated[str, Meta(max_length=255, pattern="^[a-z][a-zA-Z0-9_]*$")]
    metric_stat: Stat | None = None
    expression: str | None = None
    label: str | None = None
    return_data: bool = True


class DataRequest(Struct, frozen=True, rename="pascal"):
    """GetMetricData."""

    metric_data_queries: Annotated[tuple[Query, ...], Meta(min_length=1, max_length=MAX_QUERIES)]
    start_time: Moment
    end_time: Moment
    scan_by: Literal["TimestampDescending", "TimestampAscending"] = "TimestampDescending"
    next_token: str | None = None
    max_datapoints: Annotated[int, Meta(ge=1, le=MAX_VALUES)] = MAX_VALUES


class Filter(Struct, frozen=True, rename="pascal"):
    """DimensionFilter; without a value any will do."""

    name: Name
    value: str | None = None


class ListRequest(Struct, frozen=True, rename="pascal"):
    """ListMetrics."""

    namespace: str | None = None
    metric_name: str | None = None
    dimensions: Annotated[tuple[Filter, ...], Meta(max_length=10)] = ()
    next_token: str | None = None
    recently_active: Literal["PT3H"] | None = None

    def takes(self, metric: Metric) -> bool:
        held = {each.name: each.value for each in metric.dimensions}
        return (
            self.namespace in (None, metric.namespace)
            and self.metric_name in (None, metric.metric_name)
            and all(
                each.name in held and each.value in (None, held[each.name])
                for each in self.dimensions
            )
        )


class MetricOperations:
    """Reads metrics for callers."""

    def __init__(self, cloudwatch: Cloudwatch) -> None:
        self._cloudwatch = cloudwatch

    @property
    def table(self) -> Operations:
        operations = {
            "GetMetricStatistics": self._statistics,
            "GetMetricData": self._data,
            "ListMetrics": self._list,
        }
        return {f"GraniteServiceVersion20100801.{name}": each for name, each in operations.items()}

    async def _statistics(self, body: Document) -> Document:
        wanted = request_of(body, StatisticsRequest)
        if wanted.extended_statistics or not wanted.statistics:
            text = "Give Statistics; here there are no ExtendedStatistics."
            raise QueryError(400, "MissingRequiredParameterException", text, "MissingParameter")
        asked = Asked(wanted.start_time, wanted.end_time, wanted.period)
        if (wrong := _wrong(asked)) is not None:
            code = "InvalidParameterValue"
            raise QueryError(400, f"{code}Exception", wrong, code)
        if (count := (asked.end_s - asked.begin_s) / asked.period_s) > MAX_STATISTICS:
            code = "InvalidParameterCombination"
            text = f"{math.ceil(count):,} datapoints are asked for: at most {MAX_STATISTICS:,}."
            raise QueryError(400, f"{code}Exception", text, code)
        points: list[Document] = []
        if (shelf := self._cloudwatch.find(wanted, wanted.unit)) is not None:
            for date_s, statistic in self._cloudwatch.dated(shelf, asked):
                figures = statistic.figures()
                chosen: Document = {name: figures[name] for name in wanted.statistics}
                points.append({"Timestamp": date_s, "Unit": shelf.unit, **chosen})
        return {"Label": wanted.metric_name, "Datapoints": points}

    async def _data(self, body: Document) -> Document:
        wanted = request_of(body, DataRequest)
        if wanted.next_token is not None:  # all is told at once
            raise QueryError(400, "InvalidNextToken", "There is no such NextToken.")
        if len({query.id for query in wanted.metric_data_queries}) < len(
            wanted.metric_data_queries
        ):
            raise refused("Two queries have one Id. Rename one.")
        results = [self._result(query, wanted) for query in wanted.metric_data_queries]
        if (count := sum(len(each["Values"]) for each in results)) > wanted.max_datapoints:
            raise refused(f"{count:,} datapoints were found: at most {wanted.max_datapoints:,}.")
        shown = [
            result
            for query, result in zip(wanted.metric_data_queries, results, strict=True)
            if query.return_data
        ]
        return {"MetricDataResults": shown, "Messages": []}

    def _result(self, query: Query, wanted: DataRequest) -> Document:
        if (stat := query.metric_stat) is None or query.expression is not None:
            raise refused(f"Query {query.id}: give a MetricStat; no expressions are computed here.")
        if stat.stat not in get_args(Figure):
            raise refused(f"Stat {stat.stat!r}: here there are {', '.join(get_args(Figure))}.")
        asked = Asked(wanted.start_time, wanted.end_time, stat.period)
        if (wrong := _wrong(asked)) is not None:
            raise refused(wrong)
        shelf = self._cloudwatch.find(stat.metric, stat.unit)
        found = self._cloudwatch.dated(shelf, asked) if shelf is not None else []
        if wanted.scan_by == "TimestampDescending":
            found.reverse()
        return {
            "Id": query.id,
            "Label": query.label or stat.metric.metric_name,
            "Timestamps": [date_s for date_s, _ in found],
            "Values": [statistic.figures()[stat.stat] for _, statistic in found],
            "StatusCode": "Complete",
        }

    async def _list(self, body: Document) -> Document:
        wanted = request_of(body, ListRequest)
        since_s = self._cloudwatch.now() - RECENTLY_S if wanted.recently_active else -math.inf
        found = [
            metric
            for shelf in self._cloudwatch.shelves()
            if wanted.takes(metric := shelf.metric) and shelf.periods[-1][0] >= since_s
        ]
        page, more = page_of(found, MAX_LISTED, wanted.next_token)
        return {"Metrics": [to_builtins(metric) for metric in page], **more}


def _wrong(asked: Asked) -> str | None:
    """Why it cannot be answered, in a sentence."""
    if asked.begin_s >= asked.end_s:
        return "StartTime must be before EndTime."
    if asked.period_s not in SHORT_S and asked.period_s % 60:
        return f"Period is {asked.period_s}: it must be 1, 5, 10, 20, 30 or a multiple of 60."
    return None
