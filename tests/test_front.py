"""The runtime API, driven by unmodified boto3."""

import concurrent.futures
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bench.deployment import Deployment, Endpoint
from bench.target import Realtime, Serverless
from servers.samples import samples
from tests.perf_load import load
from tests.serving import ECHO, Serving, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, digits_archive: Path) -> Iterator[Serving]:
    """Digits behind real-time; an echo behind a small serverless and an impatient real-time."""
    folder = tmp_path_factory.mktemp("front")
    (folder / "echo" / "code").mkdir(parents=True)
    (folder / "echo" / "code" / "inference.py").write_text(ECHO)
    echo = str(folder / "echo")
    small = Serverless(
        memory_mb=1024, max_concurrency=1, profile={"placement_median_s": 0, "keep_alive_s": 60}
    )
    deployment = Deployment(
        [
            Endpoint("digits", Realtime(), str(digits_archive)),
            Endpoint("echo", Realtime(profile={"invocation_timeout_s": 1.0}), echo),
            Endpoint("small", small, echo),
        ]
    )
    with serving(deployment, folder / "run") as running:
        yield running


@pytest.fixture(scope="module")
def runtime(server: Serving) -> Any:
    return server.client()


def invoke(runtime: Any, endpoint: str, value: Any, **more: Any) -> Any:
    body = json.dumps(value).encode()
    return runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=body, **more
    )


def error(runtime: Any, endpoint: str, value: Any, **more: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        invoke(runtime, endpoint, value, **more)
    response: dict[str, Any] = caught.value.response
    return response


def test_boto3_gets_predictions(runtime: Any, digits_archive: Path) -> None:
    """A real digit is recognised, and the answer carries the service's own members."""
    answer = runtime.invoke_endpoint(
        EndpointName="digits", ContentType="application/json", Body=samples(digits_archive)[0]
    )
    prediction = json.loads(answer["Body"].read())["predictions"][0]
    assert prediction["label"] in range(10)
    assert 0 < prediction["probability"] <= 1
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["ResponseMetadata"]["RequestId"])


@pytest.mark.parametrize("images", [1, 60, 230, 400])
def test_bodies_of_any_size_at_once_are_all_answered(server: Serving, images: int) -> None:
    """Behind one another on a connection to the instance, or too large for that."""
    url = f"{server.address}/endpoints/digits/invocations"
    found = load(url, json.dumps([[3.5] * 64] * images).encode(), 16, 1.0)
    assert found["requests"] > 16
    assert found["wrong"] == 0


def test_a_model_that_raises_is_a_model_error(runtime: Any) -> None:
    """424 with the container's status and text, worded as the service does."""
    response = error(runtime, "echo", "fail")
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 500
    assert "the model broke" in response["OriginalMessage"]
    assert response["LogStreamArn"].endswith("/aws/sagemaker/Endpoints/echo")
    text = response["Error"]["Message"]
    assert text.startswith('Received server error (500) from primary with message "')
    assert text.endswith("in account 000000000000 for more information.")


def test_the_typed_exception_is_raised(runtime: Any) -> None:
    """Client code that catches ``ModelError`` by its class works."""
    with pytest.raises(runtime.exceptions.ModelError):
        invoke(runtime, "echo", "fail")


def test_a_request_that_the_model_refuses_is_a_client_error(runtime: Any) -> None:
    """A 400 of the container is a ModelError that says so."""
    with pytest.raises(ClientError, match=r"Received client error \(400\) from primary"):
        runtime.invoke_endpoint(EndpointName="echo", ContentType="application/json", Body=b"{")


def test_an_unknown_endpoint_is_a_validation_error(runtime: Any) -> None:
    """400, in the service's words."""
    response = error(runtime, "nosuch", 1)
    assert response["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint nosuch of account 000000000000 not found.",
    }
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_names_of_endpoints_are_case_sensitive(runtime: Any) -> None:
    """Another case is another name."""
    assert error(runtime, "Echo", 1)["Error"]["Code"] == "ValidationError"


def test_a_body_above_4_mb_is_too_much_for_serverless(runtime: Any) -> None:
    """ValidationError with the id of the request; at the limit it is served."""
    response = error(runtime, "small", "x" * (4 * 2**20))
    assert response["Error"]["Code"] == "ValidationError"
    request_id = response["ResponseMetadata"]["RequestId"]
    assert response["Error"]["Message"] == f"Request {request_id} has oversize body."


def test_a_body_above_25_mb_is_too_much_for_real_time(runtime: Any) -> None:
    """413, as the service words it; 7 MB pass."""
    response = error(runtime, "echo", "x" * (25 * 2**20))
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert response["Error"]["Message"] == "HTTP content length exceeded 26214400 bytes."
    assert len(invoke(runtime, "echo", "x" * 7 * 2**20)["Body"].read()) == 7 * 2**20 + 2


def test_requests_above_the_maximum_concurrency_are_throttled(runtime: Any) -> None:
    """ThrottlingException, 400, with a null message: boto3 shows None."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(invoke, runtime, "small", {"sleep_s": 0.5}) for _ in range(2)]
        failures = [call.exception() for call in calls]
    refused = [failure for failure in failures if isinstance(failure, ClientError)]
    assert len(refused) == 1
    assert refused[0].response["Error"] == {"Code": "ThrottlingException", "Message": None}
    assert refused[0].response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_answer_that_takes_too_long_is_a_model_error(runtime: Any) -> None:
    """Status 0 and the service's words about the time-out."""
    response = error(runtime, "echo", {"sleep_s": 1.5})
    assert response["Error"]["Code"] == "ModelError"
    assert response["OriginalStatusCode"] == 0
    assert "Your invocation timed out" in response["Error"]["Message"]


def test_custom_attributes_reach_the_container_within_their_limit(runtime: Any) -> None:
    """1024 characters pass, 1025 are a ValidationError that names the header."""
    invoke(runtime, "echo", 1, CustomAttributes="x" * 1024)
    response = error(runtime, "echo", 1, CustomAttributes="x" * 1025)
    assert response["Error"]["Code"] == "ValidationError"
    assert "x-amzn-sagemaker-custom-attributes" in response["Error"]["Message"]


def test_the_parts_of_the_time_are_in_server_timing(runtime: Any) -> None:
    """A warm answer has the model's part and the overhead, and names its instance."""
    headers = invoke(runtime, "echo", 1)["ResponseMetadata"]["HTTPHeaders"]
    assert re.fullmatch(
        r'model;dur=[\d.]+, overhead;dur=[\d.]+, instance;desc="instance-1"',
        headers["server-timing"],
    )


def test_a_response_stream_is_refused_in_words(runtime: Any) -> None:
    """An operation that the endpoint does not offer is a ValidationError, not a silence."""
    with pytest.raises(ClientError, match="does not support this kind of invocation"):
        runtime.invoke_endpoint_with_response_stream(EndpointName="small", Body=b"1")


def test_any_other_path_is_not_found(server: Serving) -> None:
    """404 for what the API does not have."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.address}/models", timeout=10)
    assert caught.value.code == 404
    caught.value.close()


def test_the_status_tells_how_each_endpoint_stands(server: Serving) -> None:
    """Instances, requests in flight and waiting, by name."""
    with urllib.request.urlopen(f"{server.address}/status", timeout=10) as answer:
        status = json.load(answer)
    assert status["digits"] == {"instances": 1, "in_flight": 0, "backlog": 0}
    assert set(status) == {"digits", "echo", "small"}
