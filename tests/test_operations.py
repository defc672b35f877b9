"""The control API of a running endpoint, by unmodified boto3."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bench.deployment import Deployment, Endpoint
from bench.raw import read_events
from bench.target import Async, Batch, Lambda, Realtime, Serverless, Variant
from tests.containers import COMMAND
from tests.serving import ECHO, Serving, eventually, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operations")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    """Two variants of one instance each, and a serverless endpoint."""
    (folder / "model" / "code").mkdir(parents=True)
    (folder / "model" / "code" / "inference.py").write_text(ECHO)
    model = str(folder / "model")
    two = Realtime(variants=[Variant("a"), Variant("b")], profile={"launch_median_s": 0.05})
    deployment = Deployment(
        [
            Endpoint("two", two, model, command=COMMAND),
            Endpoint("zero", Serverless(), model),
            Endpoint("later", Async(), model),
            Endpoint("function", Lambda(), model),
            Endpoint("jobs", Batch(), model),
        ],
        events=str(folder / "events.jsonl"),
    )
    with serving(deployment, folder / "run") as running:
        yield running


@pytest.fixture(scope="module")
def control(server: Serving) -> Any:
    return server.client("sagemaker")


def variant(control: Any, name: str) -> dict[str, Any]:
    shown = control.describe_endpoint(EndpointName="two")
    return next(each for each in shown["ProductionVariants"] if each["VariantName"] == name)


def update(control: Any, **change: Any) -> None:
    control.update_endpoint_weights_and_capacities(
        EndpointName="two", DesiredWeightsAndCapacities=[{"VariantName": "b", **change}]
    )


def test_an_instance_that_is_removed_finishes_what_it_holds(
    server: Serving, control: Any, folder: Path
) -> None:
    """From one instance to two and back, under load: no request is lost."""
    update(control, DesiredInstanceCount=2)
    assert control.describe_endpoint(EndpointName="two")["EndpointStatus"] == "Updating"
    eventually(lambda: variant(control, "b")["CurrentInstanceCount"] == 2, "two serve")
    failed: list[str] = []
    runtime = server.client()

    def ask() -> None:
        body = json.dumps({"sleep_s": 2.0}).encode()
        try:
            runtime.invoke_endpoint(EndpointName="two", Body=body, TargetVariant="b")
        except ClientError as error:
            failed.append(str(error))

    callers = [threading.Thread(target=ask) for _ in range(8)]
    for caller in callers:
        caller.start()
    eventually(lambda: server.status()["two"]["in_flight"] == 8, "all are in flight")
    update(control, DesiredInstanceCount=1)
    for caller in callers:
        caller.join()
    assert failed == []
    eventually(lambda: server.status()["two"]["instances"] == 2, "the instance has gone")
    assert control.describe_endpoint(EndpointName="two")["EndpointStatus"] == "InService"
    reasons = [event.get("reason") for event in read_events(folder)]
    assert "scaled in" in reasons


def test_a_weight_is_changed_while_the_endpoint_runs(server: Serving, control: Any) -> None:
    """At zero a variant gets nothing more, but for who names it."""
    update(control, DesiredWeight=0.0)
    assert variant(control, "b")["CurrentWeight"] == 0.0
    runtime = server.client()
    answers = [runtime.invoke_endpoint(EndpointName="two", Body=b"{}") for _ in range(20)]
    assert {answer["InvokedProductionVariant"] for answer in answers} == {"a"}
    update(control, DesiredWeight=1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"EndpointName": "nosuch"}, 'Could not find endpoint "arn:aws:sagemaker'),
        ({"EndpointName": "zero"}, "has no variants with instances"),
        ({"EndpointName": "later"}, "its instances follow its backlog"),
        ({"EndpointName": "function"}, 'Could not find endpoint "arn:aws:sagemaker'),
        ({"Variant": {"VariantName": "c", "DesiredWeight": 1.0}}, "no production variant c"),
        ({"Variant": {"VariantName": "a", "DesiredInstanceCount": 101}}, "<= 100"),
    ],
)
def test_what_cannot_be_changed_is_a_validation_exception(
    control: Any, change: dict[str, Any], words: str
) -> None:
    """The control API's code, with what is wrong."""
    with pytest.raises(ClientError, match=words) as caught:
        control.update_endpoint_weights_and_capacities(
            EndpointName=change.get("EndpointName", "two"),
            DesiredWeightsAndCapacities=[change.get("Variant", {"VariantName": "a"})],
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_every_option_of_sagemakers_is_described(control: Any) -> None:
    """With what is its own; functions and batch models are no endpoints."""
    shown = {
        name: control.describe_endpoint(EndpointName=name) for name in ("two", "zero", "later")
    }
    assert {each["EndpointStatus"] for each in shown.values()} == {"InService"}
    variants = {name: each["ProductionVariants"] for name, each in shown.items()}
    assert [each["VariantName"] for each in variants["two"]] == ["a", "b"]
    assert variants["zero"][0]["CurrentServerlessConfig"]["MemorySizeInMB"] == 2048
    assert variants["later"][0]["DesiredInstanceCount"] == 0
    output = shown["later"]["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3OutputPath"] == "s3://weighbridge-async/output"
    for name in ("function", "jobs"):
        with pytest.raises(ClientError, match="Could not find endpoint"):
            control.describe_endpoint(EndpointName=name)


def test_endpoints_are_listed_in_pages(control: Any) -> None:
    """By name, by what the name contains, and the next ones by the token."""

    def names(**asked: Any) -> list[str]:
        return [each["EndpointName"] for each in control.list_endpoints(**asked)["Endpoints"]]

    assert names(SortBy="Name", SortOrder="Ascending") == ["later", "two", "zero"]
    assert names(NameContains="at") == ["later"]
    assert names(StatusEquals="Failed") == []
    first = control.list_endpoints(SortBy="Name", MaxResults=2)
    assert [each["EndpointName"] for each in first["Endpoints"]] == ["zero", "two"]
    assert names(SortBy="Name", MaxResults=2, NextToken=first["NextToken"]) == ["later"]
    with pytest.raises(ClientError, match="MaxResults is 1 to 100"):
        control.list_endpoints(MaxResults=1000)


def test_the_configuration_of_each_endpoint_can_be_read(control: Any) -> None:
    """It is what CreateEndpointConfig takes."""
    config = control.describe_endpoint(EndpointName="two")["EndpointConfigName"]
    [a, b] = control.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    assert (a["ModelName"], b["InitialInstanceCount"]) == ("two", 1)
    control.create_endpoint_config(EndpointConfigName="copy", ProductionVariants=[a, b])
    listed = control.list_endpoint_configs(NameContains="copy")["EndpointConfigs"]
    assert [each["EndpointConfigName"] for each in listed] == ["copy"]
    control.delete_endpoint_config(EndpointConfigName="copy")
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        control.describe_endpoint_config(EndpointConfigName="copy")


def test_other_operations_are_unknown(control: Any) -> None:
    """An error that lists those that there are, of every option."""
    with pytest.raises(ClientError, match=r"CreateTransformJob.*DescribeEndpoint.*ListEndpoints"):
        control.list_training_jobs()
