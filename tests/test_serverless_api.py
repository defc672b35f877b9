"""Each documented limit of a serverless endpoint, as an unmodified boto3 client sees it."""

import concurrent.futures
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from bench.deployment import Deployment, Endpoint
from bench.raw import read_events
from bench.target import Lambda, Serverless
from tests.serving import ECHO, Serving, eventually, serving

pytestmark = pytest.mark.slow

NOW: dict[str, float | bool] = {"placement_median_s": 0}
SLOW_TO_LOAD = "import time\ndef model_fn(d): time.sleep(30)\ndef predict_fn(x, m): return x"
LARGE = """
def model_fn(d):
    return bytearray(b"x") * (1500 * 2**20)
def predict_fn(x, m):
    return x
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One endpoint for each limit, made small enough to be reached."""
    folder = tmp_path_factory.mktemp("limits")
    for name, program in {"echo": ECHO, "slow": SLOW_TO_LOAD, "large": LARGE}.items():
        (folder / name / "code").mkdir(parents=True)
        (folder / name / "code" / "inference.py").write_text(program)
    targets = {
        "plain": (Serverless(memory_mb=1024, profile=NOW), "echo"),
        "single": (Serverless(memory_mb=1024, max_concurrency=1, profile=NOW), "echo"),
        "hasty": (Serverless(memory_mb=1024, profile=NOW | {"invocation_timeout_s": 0.5}), "echo"),
        "slow": (Serverless(memory_mb=1024, profile=NOW | {"startup_timeout_s": 1.0}), "slow"),
        "large": (Serverless(memory_mb=1024, profile=NOW), "large"),
        "ready": (
            Serverless(memory_mb=1024, max_concurrency=4, provisioned_concurrency=1, profile=NOW),
            "echo",
        ),
        "peak": (Serverless(memory_mb=1024, max_concurrency=4, profile=NOW), "echo"),
        "function": (Lambda(memory_mb=512, profile=NOW), "echo"),
        "single-function": (Lambda(memory_mb=512, max_concurrency=1, profile=NOW), "echo"),
    }
    endpoints = [
        Endpoint(name, target, str(folder / model)) for name, (target, model) in targets.items()
    ]
    events = str(folder / "events.jsonl")
    with serving(Deployment(endpoints, events=events), folder / "run") as running:
        yield running


def ask(server: Serving, endpoint: str, value: Any) -> Any:
    return server.client().invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=json.dumps(value).encode()
    )


def refusal(call: Callable[[], Any]) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call()
    response: dict[str, Any] = caught.value.response
    return response


def metrics(server: Serving, endpoint: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.address}/status") as answer:
        found: dict[str, Any] = json.load(answer)[endpoint]["metrics"]
    return found


def control(server: Serving) -> Any:
    return server.client("sagemaker")


def test_a_request_above_4_mb_is_a_validation_error(server: Serving) -> None:
    """With the service's own words; one just below is answered."""
    found = refusal(lambda: ask(server, "plain", "x" * (4 * 2**20)))
    assert found["Error"]["Code"] == "ValidationError"
    assert found["Error"]["Message"].endswith(" has oversize body.")
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 400
    largest = "x" * (4 * 2**20 - 2)
    assert len(ask(server, "plain", largest)["Body"].read()) == 4 * 2**20


def test_an_answer_above_4_mb_is_a_model_error(server: Serving) -> None:
    """4 MB hold for both ways."""
    found = refusal(lambda: ask(server, "plain", {"answer_mb": 5}))
    assert found["Error"]["Code"] == "ModelError"
    assert "exceeds the limit of 4194304 bytes" in found["OriginalMessage"]


def test_a_request_beyond_its_time_is_a_model_error(server: Serving) -> None:
    """60 s on SageMaker, half a second here: status 424, original status 0."""
    found = refusal(lambda: ask(server, "hasty", {"sleep_s": 5}))
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert found["OriginalStatusCode"] == 0
    assert found["OriginalMessage"].startswith("Your invocation timed out while waiting")


def test_requests_above_max_concurrency_are_throttled_with_a_null_message(server: Serving) -> None:
    """Exactly those that exceed it, when nobody tries again: 400, and no message."""
    ask(server, "single", 1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(ask, server, "single", {"sleep_s": 1}) for _ in range(4)]
    errors = [found for call in calls if (found := call.exception())]
    assert len(errors) == 3
    for found in errors:
        assert isinstance(found, ClientError)
        assert found.response["Error"] == {"Code": "ThrottlingException", "Message": None}
        assert found.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_model_beyond_the_startup_limit_is_explained(server: Serving) -> None:
    """Three minutes on SageMaker, one second here; the event log says the same."""
    found = refusal(lambda: ask(server, "slow", 1))
    assert found["Error"]["Code"] == "ModelError"
    reason = "it did not pass /ping within 1 s"
    assert reason in found["OriginalMessage"]
    events = read_events(Path(server.child.log).parent.parent)
    assert reason in [event.get("reason") for event in events if event["kind"] == "instance_failed"]


def test_a_model_that_does_not_fit_dies_and_is_explained(server: Serving) -> None:
    """1.5 GB do not fit into 1024 MB, however this machine enforces it."""
    found = refusal(lambda: ask(server, "large", 1))
    assert "it needs more than its memory size of 1024 MB" in found["OriginalMessage"]


def test_an_update_through_boto3_loses_the_environments(server: Serving) -> None:
    """The next request starts cold, by UpdateEndpoint alone."""
    ask(server, "plain", 1)
    assert "setup" not in _timing(ask(server, "plain", 1))
    control(server).update_endpoint(EndpointName="plain", EndpointConfigName="plain")
    assert "setup" in _timing(ask(server, "plain", 1))


def test_concurrency_is_changed_and_described_through_boto3(server: Serving) -> None:
    """UpdateEndpointWeightsAndCapacities takes both; wrong ones are a ValidationException."""
    client = control(server)

    def change(**config: int) -> Any:
        return client.update_endpoint_weights_and_capacities(
            EndpointName="ready",
            DesiredWeightsAndCapacities=[
                {"VariantName": "AllTraffic", "ServerlessUpdateConfig": config}
            ],
        )

    change(MaxConcurrency=3, ProvisionedConcurrency=2)
    [variant] = client.describe_endpoint(EndpointName="ready")["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == {
        "MemorySizeInMB": 1024,
        "MaxConcurrency": 3,
        "ProvisionedConcurrency": 2,
    }
    found = refusal(lambda: change(MaxConcurrency=3, ProvisionedConcurrency=4))
    assert found["Error"]["Code"] == "ValidationException"
    found = refusal(lambda: client.describe_endpoint(EndpointName="nobody"))
    assert found["Error"]["Code"] == "ValidationException"


def test_an_update_takes_the_concurrency_of_the_new_configuration(server: Serving) -> None:
    """Its memory size has to stay; the waiter sees the end of it."""
    client = control(server)

    def renew(name: str, memory_mb: int, most: int) -> None:
        config = {"MemorySizeInMB": memory_mb, "MaxConcurrency": most}
        variant = {"VariantName": "AllTraffic", "ModelName": "hasty", "ServerlessConfig": config}
        client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        client.update_endpoint(EndpointName="hasty", EndpointConfigName=name)

    renew("wider", 1024, 7)
    client.get_waiter("endpoint_in_service").wait(EndpointName="hasty")
    shown = client.describe_endpoint(EndpointName="hasty")
    assert shown["EndpointConfigName"] == "wider"
    assert shown["ProductionVariants"][0]["CurrentServerlessConfig"]["MaxConcurrency"] == 7
    found = refusal(lambda: renew("larger", 2048, 7))
    assert "memory size" in found["Error"]["Message"]


def test_metrics_are_exposed_with_cloudwatchs_names(server: Serving) -> None:
    """As Prometheus text, beside those of the other options, and functions' with AWS Lambda's."""
    ask(server, "plain", 1)
    with urllib.request.urlopen(f"{server.address}/metrics") as answer:
        families = {
            each.name: each for each in text_string_to_metric_families(answer.read().decode())
        }
    for name in (
        "sagemaker_invocations",
        "sagemaker_model_setup_time_microseconds",
        "sagemaker_overhead_latency_microseconds",
        "sagemaker_serverless_provisioned_concurrency_spillover_invocations",
        "sagemaker_throttles",
    ):
        assert "plain" in {sample.labels["endpoint_name"] for sample in families[name].samples}
    kinds = {name: family.type for name, family in families.items()}
    assert kinds["sagemaker_serverless_provisioned_concurrency_utilization"] == "gauge"
    for name in ("lambda_invocations", "lambda_errors", "lambda_duration_milliseconds"):
        labels = [sample.labels for sample in families[name].samples]
        assert {each["function_name"] for each in labels} == {"function", "single-function"}
        assert not any("variant_name" in each for each in labels)
    assert kinds["lambda_concurrent_executions"] == "gauge"


def test_the_provisioned_environment_answers_warm_from_the_first_request(server: Serving) -> None:
    """And its metrics say so."""
    eventually(lambda: "setup" not in _timing(ask(server, "ready", 1)), "a warm answer")
    found = metrics(server, "ready")
    assert found["ServerlessProvisionedConcurrencyInvocations"]["Sum"] >= 1


def test_at_the_provisioned_peak_nobody_is_cold_and_above_it_the_spill_over_is(
    server: Serving,
) -> None:
    """Real environments: two ready for two at once, and of three at once exactly one is cold."""
    control(server).update_endpoint_weights_and_capacities(
        EndpointName="peak",
        DesiredWeightsAndCapacities=[
            {"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"ProvisionedConcurrency": 2}}
        ],
    )
    eventually(lambda: server.status()["peak"]["instances"] == 2, "two environments")

    def cold(requests: int) -> int:
        with concurrent.futures.ThreadPoolExecutor(requests) as pool:
            calls = [pool.submit(ask, server, "peak", {"sleep_s": 1}) for _ in range(requests)]
        return sum("setup" in _timing(call.result()) for call in calls)

    assert (cold(2), cold(3)) == (0, 1)
    found = metrics(server, "peak")
    assert found["ServerlessProvisionedConcurrencySpilloverInvocations"]["Sum"] == 1
    assert found["ServerlessProvisionedConcurrencyInvocations"]["Sum"] == 4


def test_a_lambda_function_has_its_own_limits(server: Serving) -> None:
    """5 MB pass, 6 MB of request do not; memory sizes are free."""
    assert ask(server, "function", "x" * (5 * 2**20))["Body"].read()
    found = refusal(lambda: ask(server, "function", "x" * (6 * 2**20)))
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 413
    profile = {each["name"]: each for each in server.ready["endpoints"]["function"]["profile"]}
    assert profile["invocation_timeout_s"]["value"] == 900


def test_an_unmodified_lambda_client_invokes_the_function(server: Serving) -> None:
    """Answers, errors of the function, throttling and unknown names as Lambda has them."""
    client = server.client("lambda")

    def call(name: str, value: Any) -> Any:
        return client.invoke(FunctionName=name, Payload=json.dumps(value).encode())

    answer = call("function", [1, 2])
    assert (answer["StatusCode"], json.loads(answer["Payload"].read())) == (200, [1, 2])
    failed = call("function", "fail")
    assert failed["FunctionError"] == "Unhandled"
    assert "the model broke" in json.loads(failed["Payload"].read())["errorMessage"]
    found = refusal(lambda: call("nobody", 1))
    assert found["Error"]["Code"] == "ResourceNotFoundException"
    found = refusal(lambda: call("plain", 1))  # an endpoint of SageMaker's is no function
    assert found["Error"]["Code"] == "ResourceNotFoundException"
    call("single-function", 1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(call, "single-function", {"sleep_s": 1}) for _ in range(2)]
    [error] = [failure for each in calls if (failure := each.exception())]
    assert isinstance(error, ClientError)
    assert error.response["Error"]["Code"] == "TooManyRequestsException"


def _timing(answer: Any) -> str:
    return str(answer["ResponseMetadata"]["HTTPHeaders"]["server-timing"])
