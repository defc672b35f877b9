"""A real-time endpoint that gets a new configuration while it serves, by unmodified boto3."""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from bench.deployment import Deployment, Endpoint
from bench.raw import read_events
from bench.target import Realtime
from tests.serving import Serving, eventually, serving

pytestmark = pytest.mark.slow

IN = "InService"

SAYS = """
import time
def model_fn(model_dir): {load}
def predict_fn(value, model):
    time.sleep(0.02)
    return {word!r}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rollout")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    """One endpoint, whose model says ``old``."""
    for word in ("old", "new", "broken"):
        load = "raise RuntimeError('no weights')" if word == "broken" else "return None"
        (folder / word / "code").mkdir(parents=True)
        (folder / word / "code" / "inference.py").write_text(SAYS.format(load=load, word=word))
    target = Realtime(profile={"launch_median_s": 0.05})
    deployment = Deployment(
        [Endpoint("e", target, str(folder / "old"))], events=str(folder / "events.jsonl")
    )
    with serving(deployment, folder / "run") as running:
        yield running


@pytest.fixture(scope="module")
def control(server: Serving, folder: Path) -> Any:
    """A client; the models are known to the server by what they say."""
    client = server.client("sagemaker")
    for word in ("old", "new", "broken"):
        container = {"ModelDataUrl": f"file://{folder / word}"}
        client.create_model(ModelName=word, PrimaryContainer=container)
    return client


NAMES = (f"config-{number}" for number in itertools.count())


def update(control: Any, model: str, count: int = 1, **more: Any) -> str:
    """Begin an update to a new configuration; its name."""
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": model,
        "InitialInstanceCount": count,
        "InstanceType": "ml.m5.large",
    }
    name = next(NAMES)
    control.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    control.update_endpoint(EndpointName="e", EndpointConfigName=name, **more)
    return name


def settle(control: Any) -> dict[str, Any]:
    """The endpoint when boto3's own waiter is content."""
    waiter = control.get_waiter("endpoint_in_service")
    with contextlib.suppress(WaiterError):
        waiter.wait(EndpointName="e", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    shown: dict[str, Any] = control.describe_endpoint(EndpointName="e")
    return shown


class Callers:
    """Ask without a pause, several at a time, and keep what was said."""

    def __init__(self, server: Serving, count: int = 6) -> None:
        self.words: list[str] = []
        self.errors: list[str] = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        runtime = self._server.client()
        while not self._stop.is_set():
            try:
                answer = runtime.invoke_endpoint(EndpointName="e", Body=b"1")
                self.words.append(json.load(answer["Body"]))
            except ClientError as error:
                self.errors.append(str(error))


def test_an_update_under_load_loses_no_request(server: Serving, control: Any, folder: Path) -> None:
    """The old instance answers until two new ones are healthy; then it finishes and goes."""
    with Callers(server) as callers:
        name = update(control, "new", count=2)
        began = control.describe_endpoint(EndpointName="e")
        with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
            update(control, "new")
        shown = settle(control)
        after = len(callers.words)
        deadline = time.monotonic() + 20
        while len(callers.words) < after + 20 and time.monotonic() < deadline:
            threading.Event().wait(0.01)
    assert callers.errors == []
    assert began["EndpointStatus"] == "Updating"
    assert (shown["EndpointStatus"], shown["EndpointConfigName"]) == ("InService", name)
    assert shown["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert {"old", "new"} == set(callers.words)
    assert set(callers.words[after:]) == {"new"}
    stopped = [each for each in read_events(folder) if each["kind"] == "instance_stopped"]
    assert [each["reason"] for each in stopped] == ["endpoint updated"]
    assert server.status()["e"]["instances"] == 2


def test_an_update_that_cannot_start_leaves_the_old_instances_serving(
    server: Serving, control: Any
) -> None:
    """The status tells why, and the configuration is still the one before."""
    before = control.describe_endpoint(EndpointName="e")["EndpointConfigName"]
    with Callers(server, 2) as callers:
        update(control, "broken")
        shown = settle(control)
    assert callers.errors == []
    assert shown["EndpointStatus"] == "InService"
    assert shown["EndpointConfigName"] == before
    assert "did not pass the health check" in shown["FailureReason"]
    assert "no weights" in shown["FailureReason"]


def test_a_canary_under_load_loses_no_request(server: Serving, control: Any, folder: Path) -> None:
    """Old and new instances stand beside each other until the last wait is over."""
    model, began = {"old": "new", "new": "e"}[said(server)], len(read_events(folder))
    routing = {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 1,
    }
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 1}
    with Callers(server, 3) as callers:
        name = update(control, model, DeploymentConfig={"BlueGreenUpdatePolicy": policy})
        eventually(lambda: bool(shifts(folder, began)), "the traffic shifts")
        during = control.describe_endpoint(EndpointName="e")
        both = server.status()["e"]["instances"]
        after = settle(control)
    assert callers.errors == []
    assert set(callers.words) == {"old", "new"}
    pending = during["PendingDeploymentSummary"]
    assert (during["EndpointStatus"], pending["EndpointConfigName"]) == ("Updating", name)
    assert pending["ProductionVariants"][0]["VariantStatus"] == [{"Status": "Baking"}]
    assert both > server.status()["e"]["instances"]
    assert "PendingDeploymentSummary" not in after
    assert after["EndpointConfigName"] == name
    assert after["LastDeploymentConfig"] == {"BlueGreenUpdatePolicy": policy}
    assert shifts(folder, began) == [0.5, 1.0]
    assert said(server) == ("new" if model == "new" else "old")


def said(server: Serving) -> str:
    answer: str = json.load(server.client().invoke_endpoint(EndpointName="e", Body=b"1")["Body"])
    return answer


def shifts(folder: Path, began: int) -> list[float]:
    events = read_events(folder)[began:]
    return [each["share"] for each in events if each["kind"] == "traffic_shifted"]


def test_weights_and_counts_may_stay_as_they_are(server: Serving, control: Any) -> None:
    """With RetainAllVariantProperties, and RetainDeploymentConfig: the canary is one again."""
    counts = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}]
    control.update_endpoint_weights_and_capacities(
        EndpointName="e", DesiredWeightsAndCapacities=counts
    )
    settle(control)
    update(control, "e", 1, RetainAllVariantProperties=True, RetainDeploymentConfig=True)
    shown = settle(control)
    assert shown["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert "FailureReason" not in shown  # a good update takes the old one away
    policy = shown["LastDeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert policy["TrafficRoutingConfiguration"]["Type"] == "CANARY"
    assert json.load(server.client().invoke_endpoint(EndpointName="e", Body=b"1")["Body"]) == "old"


def test_what_is_unknown_is_refused_before_anything_changes(control: Any) -> None:
    """A model, a configuration, a kind that a real-time endpoint cannot become."""
    with pytest.raises(ClientError, match="Could not find model"):
        update(control, "nobody")
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        control.update_endpoint(EndpointName="e", EndpointConfigName="nothing")
    config = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    variant = {"VariantName": "v", "ModelName": "new", "ServerlessConfig": config}
    control.create_endpoint_config(EndpointConfigName="zero", ProductionVariants=[variant])
    with pytest.raises(ClientError, match="cannot become serverless"):
        control.update_endpoint(EndpointName="e", EndpointConfigName="zero")
    assert control.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService"


AT_ONCE = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}


def rolling(batch: int, **more: Any) -> dict[str, Any]:
    """One batch after the other, without a bake."""
    size = {"Type": "INSTANCE_COUNT", "Value": batch}
    return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": 0, **more}}


def most_running(folder: Path, began: int, before: int) -> int:
    """The most instances at once since the event ``began``, those that drain included."""
    changes = {"instance_started": 1, "instance_stopped": -1}
    steps = [changes.get(each["kind"], 0) for each in read_events(folder)[began:]]
    return max(itertools.accumulate(steps, initial=before))


def test_a_rolling_update_under_load_loses_no_request(
    server: Serving, control: Any, folder: Path
) -> None:
    """Two instances of each, and never more than three; the status tells what is pending."""
    update(control, "old", 2)
    settle(control)
    began = len(read_events(folder))
    with Callers(server, 3) as callers:
        name = update(control, "new", 2, DeploymentConfig=rolling(1))
        pending = []
        while (shown := control.describe_endpoint(EndpointName="e"))["EndpointStatus"] != IN:
            pending += shown.get("PendingDeploymentSummary", {}).get("ProductionVariants", [])
    assert callers.errors == []
    assert set(callers.words) == {"old", "new"}
    assert most_running(folder, began, 2) == 3
    assert {each["CurrentInstanceCount"] for each in pending} >= {0, 1}
    assert shown["EndpointConfigName"] == name
    assert shown["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert shifts(folder, began) == [0.5, 1.0]
    assert said(server) == "new"


def test_a_rolling_update_that_cannot_start_goes_back(
    server: Serving, control: Any, folder: Path
) -> None:
    """The old instances are all that is left, and answer."""
    before, began = control.describe_endpoint(EndpointName="e"), len(read_events(folder))
    with Callers(server, 2) as callers:
        update(control, "broken", 2, DeploymentConfig=rolling(1))
        shown = settle(control)
    assert callers.errors == []
    assert set(callers.words) == {"new"}
    assert shown["EndpointConfigName"] == before["EndpointConfigName"]
    assert "no weights" in shown["FailureReason"]
    assert shifts(folder, began) == [0.0]


def test_an_alarm_brings_back_old_instances_under_load(
    server: Serving, control: Any, folder: Path
) -> None:
    """In the last bake, when one of them is left: the other is launched again, nobody waits."""
    began = len(read_events(folder))
    alarms = server.client("cloudwatch")
    alarms.put_metric_alarm(
        **{"AlarmName": "ringing", "Namespace": "AWS/SageMaker", "MetricName": "ModelLatency"},
        **{"Statistic": "Average", "Period": 60, "EvaluationPeriods": 1, "Threshold": 0.0},
        ComparisonOperator="LessThanThreshold",
    )
    config = rolling(1, WaitIntervalInSeconds=2)
    config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": "ringing"}]}
    with Callers(server, 3) as callers:
        update(control, "old", 2, DeploymentConfig=config)
        eventually(lambda: shifts(folder, began)[-1:] == [1.0], "the last batch has its share")
        alarms.set_alarm_state(AlarmName="ringing", StateValue="ALARM", StateReason="a test")
        shown = settle(control)
    assert callers.errors == []
    assert set(callers.words) == {"old", "new"}
    assert shown["FailureReason"] == "Alarm ringing is in ALARM. a test"
    assert shifts(folder, began) == [0.5, 1.0, 0.5, 0.0]
    assert server.status()["e"]["instances"] == 2
    assert said(server) == "new"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (rolling(2), "MaximumBatchSize is 100% of 2 instances: from 5% to 50% is allowed"),
        (rolling(1, WaitIntervalInSeconds=3601), "<= 3600"),
        (rolling(1, MaximumExecutionTimeoutInSeconds=28801), "<= 28800"),
        (
            rolling(1, RollbackMaximumBatchSize={"Type": "CAPACITY_PERCENT", "Value": 101}),
            "RollbackMaximumBatchSize is 101%",
        ),
        (rolling(1) | {"BlueGreenUpdatePolicy": AT_ONCE}, "not both"),
        ({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}, "there is no alarm a"),
    ],
)
def test_a_deployment_that_breaks_a_rule_is_refused(
    control: Any, config: dict[str, Any], words: str
) -> None:
    """Before anything changes."""
    with pytest.raises(ClientError, match=words) as caught:
        update(control, "new", 2, DeploymentConfig=config)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert control.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService"


@pytest.mark.parametrize("names", [["AllTraffic", "b"], ["b"]])
def test_a_rolling_update_keeps_its_one_variant(control: Any, names: list[str]) -> None:
    """Neither a second one nor another name; a blue/green update takes both."""
    variant = {"ModelName": "new", "InitialInstanceCount": 2, "InstanceType": "ml.m5.large"}
    name = next(NAMES)
    variants = [{"VariantName": each, **variant} for each in names]
    control.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    with pytest.raises(ClientError, match="of one variant whose name stays") as caught:
        control.update_endpoint(
            EndpointName="e", EndpointConfigName=name, DeploymentConfig=rolling(1)
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"
