"""What CloudWatch keeps: the metrics of all endpoints, by namespace, name and dimensions.

Read from the endpoints' own books when asked; a request costs nothing for it. Periods are those of
the run's clock. Dates are the machine's when the server starts, plus what passes on that clock.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct

from servers.api_document import Document, QueryError, converted
from servers.endpoint import Endpoint
from servers.job_usage import InstanceBook
from servers.pages import MINUTE_S, Pages, Statistic
from servers.prometheus import Measured
from servers.timers import Timers
from servers.wire import ApiError

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Period = Annotated[int, Meta(ge=1)]
Figure = Literal["SampleCount", "Average", "Sum", "Minimum", "Maximum"]
Moment = Annotated[float, Meta(ge=0, le=253402300799)]
"""Seconds since 1970."""

T = TypeVar("T")


class Dimension(Struct, frozen=True, rename="pascal"):
    """Tells metrics of one name apart."""

    name: Name
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


Dimensions = Annotated[tuple[Dimension, ...], Meta(max_length=30)]


class Metric(Struct, frozen=True, rename="pascal", kw_only=True):
    """Which metric."""

    namespace: Annotated[str, Meta(min_length=1, max_length=255, pattern="^[^:]")]
    metric_name: Name
    dimensions: Dimensions = ()


@dataclass(frozen=True)
class Shelf:
    """One metric of one variant, or of one endpoint."""

    pages: Pages
    name: str

    @property
    def metric(self) -> Metric:
        """How it is asked for."""
        values = (self.pages.endpoint, self.pages.variant_of(self.name))
        named = zip(self.pages.dimensions, values, strict=False)
        dimensions = tuple(Dimension(name, value) for name, value in named if value)
        return Metric(namespace=self.pages.namespace, metric_name=self.name, dimensions=dimensions)

    @property
    def unit(self) -> str:
        return self.pages.units[self.name]

    @property
    def periods(self) -> list[tuple[float, Statistic]]:
        """When each of its periods began, and what it holds, oldest first."""
        return self.pages.periods(self.name)


@dataclass(frozen=True)
class Asked:
    """What a caller wants to see: from one date to another, by periods."""

    begin_s: float
    end_s: float
    period_s: int


@dataclass(frozen=True)
class Span:
    """Periods of one length, one after the other, on the run's clock."""

    begin_s: float
    period_s: float
    count: int


class Cloudwatch:
    """Finds metrics and reads them."""

    def __init__(self, endpoints: Mapping[str, Endpoint], timers: Timers) -> None:
        self._endpoints = endpoints
        self._timers = timers
        self._epoch_s = timers.clock.date_s - timers.now()

    def now(self) -> float:
        """Seconds on the run's clock."""
        return self._timers.now()

    def date_of(self, at_s: float) -> float:
        """The date of a moment on the clock."""
        return self._epoch_s + at_s

    def moment_of(self, date_s: float) -> float:
        """The moment on the clock of a date."""
        return date_s - self._epoch_s

    def shelves(self) -> Iterator[Shelf]:
        """All metrics that have had a value."""
        for pages in self._books():
            for name in pages.units:
                if (shelf := Shelf(pages, name)).periods:
                    yield shelf

    def find(self, metric: Metric, unit: str | None) -> Shelf | None:
        """The metric, if it has had a value, and in that unit where one is named."""
        wanted, name = _key(metric), metric.metric_name
        for pages in self._books():
            if name in pages.units and unit in (None, pages.units[name]):
                shelf = Shelf(pages, name)
                if _key(shelf.metric) == wanted and shelf.periods:
                    return shelf
        return None

    def _books(self) -> Iterator[Pages]:
        for endpoint in self._endpoints.values():
            for pages in endpoint.books if isinstance(endpoint, Measured) else ():
                if not isinstance(pages, InstanceBook):  # of a job, whose dimension is another one
                    yield pages

    def dated(self, shelf: Shelf, asked: Asked) -> list[tuple[float, Statistic]]:
        """Each period that has a value and its date, a whole minute unless periods are shorter."""
        period_s, grid_s = asked.period_s, min(asked.period_s, MINUTE_S)
        end_s = self.moment_of(asked.end_s)
        if not (kept := [each for each in shelf.periods if each[0] < end_s]):
            return []
        begin_s = (self.moment_of(asked.begin_s) // grid_s) * grid_s
        begin_s += max(0.0, (kept[0][0] - begin_s) // period_s) * period_s
        count = max(0, int((kept[-1][0] - begin_s) // period_s) + 1)
        found = in_periods(kept, Span(begin_s, period_s, count))
        return [
            (self.date_of(begin_s + number * period_s) // grid_s * grid_s, statistic)
            for number, statistic in found.items()
        ]


def in_periods(kept: Sequence[tuple[float, Statistic]], span: Span) -> dict[int, Statistic]:
    """What is kept by shorter periods, put together for those of ``span``, by their number."""
    found: dict[int, Statistic] = {}
    begin = bisect_left(kept, span.begin_s, key=itemgetter(0))
    end = bisect_left(kept, span.begin_s + span.count * span.period_s, key=itemgetter(0))
    for begin_s, statistic in kept[begin:end]:
        number = int((begin_s - span.begin_s) // span.period_s)
        before = found.get(number)
        found[number] = before.merged(statistic) if before else statistic
    return found


def request_of(body: Document, kind: type[T]) -> T:
    """The request as a value; ValidationError as CloudWatch words it."""
    try:
        return converted(body, kind)
    except ApiError as error:
        raise refused(str(error.message)) from None


def refused(message: str) -> QueryError:
    """400: a member breaks a rule."""
    return QueryError(400, "ValidationError", message, "ValidationError")


def page_of(items: Sequence[T], size: int, token: str | None) -> tuple[Sequence[T], Document]:
    """The items from where ``token`` says, and ``NextToken`` where there are more."""
    if token is not None and not (token.isdecimal() and len(token) <= 9):
        raise QueryError(400, "InvalidNextToken", "NextToken is not one that was answered.")
    begin = int(token or 0)
    end = begin + size
    return items[begin:end], {"NextToken": str(end)} if end < len(items) else {}


def _key(metric: Metric) -> tuple[str, str, frozenset[Dimension]]:
    return metric.namespace, metric.metric_name, frozenset(metric.dimensions)
