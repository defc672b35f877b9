"""The metrics of endpoints, read by an unmodified boto3 client, on a clock that skips."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.test_scheduled_actions import Day
from tests.watching import FIVE, HERE, ask, quiet, watching

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with watching(tmp_path_factory.mktemp("watching")) as day:
        yield day


@pytest.fixture
def day(standing: Day) -> Day:
    quiet(standing)
    return standing


@pytest.fixture
def watch(day: Day) -> Any:
    return day.server.client("cloudwatch")


def test_statistics_are_those_of_what_was_asked(day: Day, watch: Any) -> None:
    """By the minute and longer, in the metric's unit; the minute that is not over is in it."""
    ask(day, 200, 500, 200)
    day.wait(60)
    ask(day, 200)
    began, now = day.in_(minutes=-2), day.in_(seconds=1)
    asked = {**FIVE, "StartTime": began, "EndTime": now}
    found = watch.get_metric_statistics(**asked, Period=60, Statistics=["Sum", "SampleCount"])
    points = sorted(found["Datapoints"], key=lambda point: point["Timestamp"])
    assert found["Label"] == "Invocation5XXErrors"
    assert [(each["Sum"], each["SampleCount"], each["Unit"]) for each in points] == [
        (1.0, 3.0, "None"),
        (0.0, 1.0, "None"),
    ]
    assert points[1]["Timestamp"] - points[0]["Timestamp"] == timedelta(minutes=1)
    assert {each["Timestamp"].second for each in points} == {0}
    [whole] = watch.get_metric_statistics(**asked, Period=3600, Statistics=["Average"])[
        "Datapoints"
    ]
    assert whole["Average"] == 0.25
    early = {**asked, "EndTime": day.in_(seconds=-30)}
    [first] = watch.get_metric_statistics(**early, Period=3600, Statistics=["SampleCount"])[
        "Datapoints"
    ]
    assert first["SampleCount"] == 3.0
    assert statistics(watch, day, EndTime=began, StartTime=day.in_(hours=-1))["Datapoints"] == []
    other = watch.get_metric_statistics(**asked, Period=60, Statistics=["Sum"], Unit="Seconds")
    assert other["Datapoints"] == []


def test_several_metrics_are_read_at_once(day: Day, watch: Any) -> None:
    """Newest first unless told otherwise; ten seconds where the metric has them."""
    began = day.in_()
    ask(day, 200, 200)
    day.wait(10)
    ask(day, 200)
    names = {"a": ("Invocations", 60, "Sum"), "b": ("ConcurrentRequestsPerModel", 10, "Maximum")}
    queries = [
        {
            "Id": key,
            "MetricStat": {
                "Metric": {**FIVE, "MetricName": name},
                "Period": period,
                "Stat": figure,
            },
        }
        for key, (name, period, figure) in names.items()
    ]
    span = {"StartTime": began, "EndTime": day.in_(seconds=1)}
    hidden = {**queries[0], "Id": "c", "ReturnData": False}
    found = watch.get_metric_data(MetricDataQueries=[*queries, hidden], **span)
    a, b = found["MetricDataResults"]
    assert (a["Values"], a["StatusCode"]) == ([3.0], "Complete")
    assert b["Values"] == [1.0, 1.0]
    assert b["Timestamps"][0] - b["Timestamps"][1] == timedelta(seconds=10)
    ascending = watch.get_metric_data(
        MetricDataQueries=queries, **span, ScanBy="TimestampAscending"
    )
    assert ascending["MetricDataResults"][1]["Timestamps"] == b["Timestamps"][::-1]


def test_metrics_are_listed_with_their_dimensions(day: Day, watch: Any) -> None:
    """Those that have had a value, of functions with AWS Lambda's names."""
    ask(day, 200)
    found = watch.list_metrics(
        Namespace="AWS/SageMaker", MetricName="ModelLatency", RecentlyActive="PT3H"
    )
    assert [each["Dimensions"] for each in found["Metrics"]] == [HERE]
    by_value = watch.list_metrics(Dimensions=[{"Name": "EndpointName", "Value": "e"}])
    names = {each["MetricName"] for each in by_value["Metrics"]}
    assert names >= {"Invocations", "ModelLatency", "ConcurrentRequestsPerModel"}
    assert watch.list_metrics(Dimensions=[{"Name": "Host"}])["Metrics"] == []
    day.server.client("lambda").invoke(FunctionName="f", Payload=b"{}")
    [durations] = watch.list_metrics(Namespace="AWS/Lambda", MetricName="Duration")["Metrics"]
    assert durations["Dimensions"] == [{"Name": "FunctionName", "Value": "f"}]


def statistics(watch: Any, day: Day, **more: Any) -> Any:
    asked = {"StartTime": day.in_(hours=-1), "EndTime": day.in_(), "Period": 60}
    return watch.get_metric_statistics(**{**FIVE, **asked, "Statistics": ["Sum"], **more})


def data(watch: Any, day: Day, queries: list[dict[str, Any]], **more: Any) -> Any:
    span = {"StartTime": day.in_(hours=-1), "EndTime": day.in_()}
    return watch.get_metric_data(MetricDataQueries=queries, **{**span, **more})


def query(**more: Any) -> dict[str, Any]:
    return {"Id": "a", "MetricStat": {"Metric": FIVE, "Period": 60, "Stat": "Sum", **more}}


def test_statistics_that_break_a_rule_are_refused(day: Day, watch: Any) -> None:
    """With CloudWatch's own errors."""
    errors = watch.exceptions
    with pytest.raises(errors.InvalidParameterValueException, match="Period is 45") as caught:
        statistics(watch, day, Period=45)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"
    with pytest.raises(errors.InvalidParameterValueException, match="before EndTime"):
        statistics(watch, day, EndTime=day.in_(hours=-2))
    with pytest.raises(errors.InvalidParameterCombinationException, match="at most 1,440"):
        statistics(watch, day, StartTime=day.in_(hours=-25))
    with pytest.raises(errors.MissingRequiredParameterException, match="Give Statistics"):
        statistics(watch, day, ExtendedStatistics=["p99"])
    for token in ("abc", "1" * 10):
        with pytest.raises(errors.InvalidNextToken):
            watch.describe_alarms(NextToken=token)
        with pytest.raises(errors.InvalidNextToken):
            watch.list_metrics(NextToken=token)


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ([{"Id": "a", "Expression": "SUM(METRICS())"}], "no expressions are computed here"),
        ([query(Stat="p99")], "Stat 'p99': here there are SampleCount"),
        ([query(Period=45)], "Period is 45"),
        ([query(), query()], "Two queries have one Id"),
        ([query() | {"Id": "1"}], "MetricDataQueries[0].Id"),
    ],
)
def test_queries_that_break_a_rule_are_refused(
    day: Day, watch: Any, queries: list[dict[str, Any]], words: str
) -> None:
    """ValidationError; math is not done here."""
    with pytest.raises(ClientError, match=re.escape(words)) as caught:
        data(watch, day, queries)
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_all_datapoints_are_told_at_once(day: Day, watch: Any) -> None:
    """So there is no token, and fewer cannot be asked for than there are."""
    with pytest.raises(watch.exceptions.InvalidNextToken):
        data(watch, day, [query()], NextToken="1")
    ask(day, 200)
    day.wait(60)
    ask(day, 200)
    with pytest.raises(ClientError, match="2 datapoints were found: at most 1"):
        data(watch, day, [query()], StartTime=day.in_(minutes=-2), MaxDatapoints=1)
