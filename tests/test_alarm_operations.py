"""Alarms that an unmodified boto3 client puts, on a clock that skips, and deployments they end."""

import http.client
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from servers.alarm_operations import MAX_ALARMS
from tests.serving import eventually
from tests.test_scheduled_actions import Day
from tests.watching import FIVE, HERE, ask, quiet, watching

pytestmark = pytest.mark.slow

RULE = {
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 2,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with watching(tmp_path_factory.mktemp("watching")) as day:
        yield day


@pytest.fixture
def day(standing: Day) -> Iterator[Day]:
    """Afterwards there is no alarm."""
    quiet(standing)
    yield standing
    watch = standing.server.client("cloudwatch")
    while found := watch.describe_alarms(MaxRecords=100)["MetricAlarms"]:
        watch.delete_alarms(AlarmNames=[alarm["AlarmName"] for alarm in found])


@pytest.fixture
def watch(day: Day) -> Any:
    return day.server.client("cloudwatch")


def put(watch: Any, name: str, **more: Any) -> None:
    watch.put_metric_alarm(AlarmName=name, **{**FIVE, **RULE, **more})


def state(watch: Any, name: str) -> str:
    [alarm] = watch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return str(alarm["StateValue"])


def test_an_alarm_follows_its_metric(day: Day, watch: Any) -> None:
    """On the clock, and also where nobody has looked in between."""
    put(watch, "errors", AlarmDescription="too many", OKActions=["arn:aws:sns:::a"])
    assert state(watch, "errors") == "INSUFFICIENT_DATA"
    ask(day, 500, 500)
    assert state(watch, "errors") == "INSUFFICIENT_DATA"  # the minute is not over
    day.wait(60)
    [alarm] = watch.describe_alarms(AlarmNamePrefix="err", StateValue="ALARM")["MetricAlarms"]
    assert alarm["StateReason"] == (
        "Sum of Invocation5XXErrors each 60 s, at last: 2. GreaterThanOrEqualToThreshold: 2."
    )
    assert (alarm["Dimensions"], alarm["Threshold"], alarm["OKActions"]) == (
        HERE,
        2.0,
        ["arn:aws:sns:::a"],
    )
    assert abs(alarm["StateUpdatedTimestamp"] - day.in_(seconds=0)) < timedelta(seconds=5)
    put(watch, "errors", TreatMissingData="ignore")  # which leaves its state
    day.wait(7200)
    assert state(watch, "errors") == "ALARM"
    put(watch, "errors")
    day.wait(60)
    assert state(watch, "errors") == "INSUFFICIENT_DATA"
    assert [each["state"] for each in day.events("alarm")] == ["ALARM", "INSUFFICIENT_DATA"]


def test_an_alarm_nobody_watches_leaves_silence_to_be_skipped(day: Day, watch: Any) -> None:
    """Ten hours in one skip."""
    put(watch, "errors")
    day.wait(1)
    before = len(day.events("skip"))
    day.wait(36_000)
    assert len(day.events("skip")) <= before + 1


def test_a_state_that_is_set_holds_until_the_next_look(day: Day, watch: Any) -> None:
    """A minute later the metric decides again."""
    put(watch, "errors", TreatMissingData="notBreaching")
    watch.set_alarm_state(
        AlarmName="errors", StateValue="ALARM", StateReason="a test", StateReasonData="{}"
    )
    [alarm] = watch.describe_alarms(AlarmNames=["errors"])["MetricAlarms"]
    assert (alarm["StateValue"], alarm["StateReason"]) == ("ALARM", "a test")
    assert alarm["StateReasonData"] == "{}"
    day.wait(60)
    assert state(watch, "errors") == "OK"
    watch.delete_alarms(AlarmNames=["errors", "nobody"])
    assert watch.describe_alarms(AlarmTypes=["MetricAlarm"])["MetricAlarms"] == []
    assert watch.describe_alarms(AlarmTypes=["CompositeAlarm"])["CompositeAlarms"] == []


def update(day: Day, name: str, alarms: list[str], **policy: Any) -> Any:
    """Begin an update that these alarms end; the client."""
    control = day.server.client("sagemaker")
    now = control.describe_endpoint(EndpointName="e")["EndpointConfigName"]
    variants = control.describe_endpoint_config(EndpointConfigName=now)["ProductionVariants"]
    control.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    rollback = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    control.update_endpoint(
        EndpointName="e",
        EndpointConfigName=name,
        DeploymentConfig={"AutoRollbackConfiguration": rollback, **policy},
    )
    return control


def shown(control: Any) -> tuple[str, str]:
    """Status and configuration."""
    found = control.describe_endpoint(EndpointName="e")
    return found["EndpointStatus"], found["EndpointConfigName"]


ROLLING = {
    "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
    "WaitIntervalInSeconds": 600,
}
CANARY = {
    "Type": "CANARY",
    "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
    "WaitIntervalInSeconds": 600,
}


def test_an_alarm_rolls_a_rolling_update_back(day: Day, watch: Any) -> None:
    """In the bake of the second batch; the old instance that had gone is launched again."""
    put(watch, "errors", TreatMissingData="notBreaching")
    put(watch, "other", MetricName="Invocation4XXErrors")
    control = update(day, "rolling", ["other", "errors"], RollingUpdatePolicy=ROLLING)
    day.wait(850)  # launch, bake, launch
    assert shown(control) == ("Updating", "e")
    assert len(day.events("traffic_shifted")) == 2
    ask(day, 500, 500)
    day.wait(60)
    eventually(lambda: shown(control) == ("RollingBack", "e"), "it goes back")
    assert len(control.list_endpoints(StatusEquals="RollingBack")["Endpoints"]) == 1
    day.wait(110)
    eventually(lambda: shown(control) == ("InService", "e"), "it is back")
    reason = control.describe_endpoint(EndpointName="e")["FailureReason"]
    assert reason.startswith("Alarm errors is in ALARM. Sum of Invocation5XXErrors each 60 s")
    assert [each["share"] for each in day.events("traffic_shifted")] == [0.5, 1.0, 0.5, 0.0]
    assert day.server.status()["e"]["instances"] == 2


def test_an_alarm_that_is_set_rolls_back_at_once(day: Day, watch: Any) -> None:
    """A canary, without any time on the clock; a calm alarm lets the next update pass."""
    put(watch, "errors", TreatMissingData="notBreaching")
    policy = {"TrafficRoutingConfiguration": CANARY}
    control = update(day, "canary", ["errors"], BlueGreenUpdatePolicy=policy)
    day.wait(110)
    eventually(lambda: day.events("traffic_shifted")[-1]["share"] == 0.1, "the canary flies")
    watch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    eventually(lambda: shown(control) == ("InService", "e"), "it is back")
    reason = control.describe_endpoint(EndpointName="e")["FailureReason"]
    assert reason == "Alarm errors is in ALARM. a test"
    day.wait(60)
    control = update(day, "calm", ["errors"], BlueGreenUpdatePolicy=policy)
    day.wait(2000)
    eventually(lambda: shown(control) == ("InService", "calm"), "it is updated")


def test_an_alarm_that_rings_already_ends_an_update_before_it_begins(day: Day, watch: Any) -> None:
    """No instance is started for it."""
    put(watch, "errors")
    watch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    before = shown(day.server.client("sagemaker"))[1]
    control = update(day, "ringing", ["errors"], RollingUpdatePolicy=ROLLING)
    eventually(lambda: shown(control) == ("InService", before), "it has ended")
    assert day.server.status()["e"]["instances"] == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [(["nobody"], "there is no alarm nobody"), ([f"a{number}" for number in range(11)], "<= 10")],
)
def test_an_update_names_alarms_that_there_are(day: Day, names: list[str], words: str) -> None:
    """At most ten."""
    with pytest.raises(ClientError, match=words) as caught:
        update(day, f"unknown-{len(names)}", names)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"Metrics": [{"Id": "m"}]}, "Metrics: here an alarm watches one statistic"),
        ({"ExtendedStatistic": "p99"}, "ExtendedStatistic: here"),
        ({"Statistic": "Median"}, "Invalid enum value 'Median'"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "Invalid enum value"),
        ({"TreatMissingData": "zero"}, "Invalid enum value"),
        ({"Period": 45}, "Period is 45: it must be 10, 20, 30 or a multiple of 60"),
        ({"EvaluationPeriods": 1441}, "more than 86400 s"),
        ({"DatapointsToAlarm": 2}, "DatapointsToAlarm is more than EvaluationPeriods"),
        ({"AlarmName": "a" * 256}, "length <= 255"),
        ({"AlarmDescription": "a" * 1025}, "length <= 1024"),
        ({"Dimensions": HERE * 16}, "length <= 30"),
        ({"AlarmActions": ["a"] * 6}, "length <= 5"),
    ],
)
def test_an_alarm_that_breaks_a_rule_is_refused(
    watch: Any, more: dict[str, Any], words: str
) -> None:
    """ValidationError, as CloudWatch calls it, and there is no alarm."""
    with pytest.raises(ClientError, match=re.escape(words)) as caught:
        watch.put_metric_alarm(**{**FIVE, **RULE, "AlarmName": "a", **more})
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert watch.describe_alarms()["MetricAlarms"] == []


def test_there_are_at_most_a_thousand_alarms(day: Day, watch: Any) -> None:
    """Which are shown page by page."""
    where = re.sub("^http://", "", day.server.address)
    connection = http.client.HTTPConnection(where)
    head = {"x-amz-target": "GraniteServiceVersion20100801.PutMetricAlarm"}
    for number in range(MAX_ALARMS):
        body = json.dumps({**FIVE, **RULE, "AlarmName": f"a{number:04}"})
        connection.request("POST", "/", body, head)
        assert connection.getresponse().read() == b"{}"
    connection.close()
    with pytest.raises(watch.exceptions.LimitExceededFault) as caught:
        put(watch, "one more")
    assert caught.value.response["Error"]["Code"] == "LimitExceeded"
    put(watch, "a0000", Threshold=7)
    with pytest.raises(ClientError, match="<= 100"):
        watch.describe_alarms(MaxRecords=101)
    pages = list(watch.get_paginator("describe_alarms").paginate(MaxRecords=100))
    names = [alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"]]
    assert names == [f"a{number:04}" for number in range(MAX_ALARMS)]


def test_a_state_is_set_of_an_alarm_that_there_is(watch: Any) -> None:
    """With data that is JSON, if any."""
    wanted = {"AlarmName": "errors", "StateValue": "OK", "StateReason": "a test"}
    with pytest.raises(watch.exceptions.ResourceNotFound, match="no alarm errors"):
        watch.set_alarm_state(**wanted)
    put(watch, "errors")
    with pytest.raises(watch.exceptions.InvalidFormatFault, match="must be JSON"):
        watch.set_alarm_state(**wanted, StateReasonData="{")
