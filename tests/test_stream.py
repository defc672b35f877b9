"""``InvokeEndpointWithResponseStream`` and the container contract, by unmodified boto3."""

import concurrent.futures
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from bench.deployment import Deployment, Endpoint
from bench.target import Realtime
from tests.containers import COMMAND
from tests.serving import ECHO, Serving, eventually, serving

pytestmark = pytest.mark.slow

LIMITS = {"stream_timeout_s": 2.0, "invocation_timeout_s": 1.0, "max_outstanding": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A container of our own that streams, behind an impatient real-time endpoint."""
    folder = tmp_path_factory.mktemp("stream")
    (folder / "model" / "code").mkdir(parents=True)
    (folder / "model" / "code" / "inference.py").write_text(ECHO)
    own = Endpoint("own", Realtime(profile=LIMITS), str(folder / "model"), command=COMMAND)
    with serving(Deployment([own]), folder / "run") as running:
        yield running


@pytest.fixture(scope="module")
def runtime(server: Serving) -> Any:
    return server.client()


def stream(runtime: Any, order: dict[str, Any], **more: Any) -> Any:
    return runtime.invoke_endpoint_with_response_stream(
        EndpointName="own", Body=json.dumps(order).encode(), ContentType="application/json", **more
    )


def invoke(runtime: Any, order: dict[str, Any], **more: Any) -> Any:
    return runtime.invoke_endpoint(EndpointName="own", Body=json.dumps(order).encode(), **more)


def pieces(answer: Any) -> list[bytes]:
    with contextlib.closing(answer["Body"]) as body:
        return [event["PayloadPart"]["Bytes"] for event in body]


def seen(answer: Any) -> dict[str, str]:
    """The headers that reached the container."""
    headers: dict[str, str] = json.loads(answer["Body"].read())["headers"]
    return headers


def test_a_streamed_answer_comes_in_parts_as_the_container_sends_them(runtime: Any) -> None:
    """The first part is there before the last is made, and together they are the answer."""
    answer = stream(runtime, {"pieces": ["one ", "two ", "three"], "gap_s": 0.3})
    assert answer["ContentType"] == "text/event-stream"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    with contextlib.closing(answer["Body"]) as body:
        arrived = [(time.monotonic(), part["PayloadPart"]["Bytes"]) for part in body]
    assert b"".join(part for _, part in arrived) == b"one two three"
    assert arrived[-1][0] - arrived[0][0] > 0.3
    assert (
        'instance;desc="instance-1"' in answer["ResponseMetadata"]["HTTPHeaders"]["server-timing"]
    )


def test_a_large_part_arrives_whole(runtime: Any) -> None:
    """Three megabytes and an empty answer, byte for byte."""
    assert b"".join(pieces(stream(runtime, {"pieces": ["x" * 3_000_000]}))) == b"x" * 3_000_000
    assert pieces(stream(runtime, {"pieces": []})) == []


def test_accept_of_a_stream_reaches_the_container_as_accept(runtime: Any) -> None:
    """On this call it travels in a header of its own."""
    answer = stream(runtime, {}, Accept="text/event-stream")
    assert seen_in(pieces(answer))["accept"] == "text/event-stream"


def seen_in(parts: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = json.loads(b"".join(parts))["headers"]
    return headers


def test_a_stream_that_breaks_is_a_model_stream_error(runtime: Any) -> None:
    """``ModelStreamError`` with ``StreamBroken``, after the parts that came."""
    with contextlib.closing(stream(runtime, {"pieces": ["one"], "break": True})["Body"]) as body:
        received = iter(body)
        assert next(received)["PayloadPart"]["Bytes"] == b"one"
        with pytest.raises(EventStreamError) as caught:
            next(received)
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert "closed the connection" in caught.value.response["Error"]["Message"]


def test_a_stream_that_takes_too_long_is_a_model_stream_error(runtime: Any) -> None:
    """``ModelInvocationTimeExceeded``: its text is the service's about a time-out."""
    answer = stream(runtime, {"pieces": ["x"] * 30, "gap_s": 0.2})
    with pytest.raises(EventStreamError, match=r"ModelStreamError.*timed out"):
        pieces(answer)


def test_an_error_before_the_stream_is_a_model_error(runtime: Any) -> None:
    """424 with the container's status, as for a plain invocation."""
    with pytest.raises(ClientError, match=r"Received client error \(418\) from primary") as caught:
        stream(runtime, {"status": 418})
    assert caught.value.response["Error"]["Code"] == "ModelError"


def test_a_session_cannot_be_opened_by_a_stream(runtime: Any) -> None:
    """ValidationError."""
    with pytest.raises(ClientError, match="cannot be opened by a streamed") as caught:
        stream(runtime, {}, SessionId="NEW_SESSION")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_a_caller_that_leaves_ends_the_stream(runtime: Any, server: Serving) -> None:
    """What it had open is given up at once, long before the container would be done."""
    began = time.monotonic()
    answer = stream(runtime, {"pieces": ["x"] * 8, "gap_s": 0.2})
    next(iter(answer["Body"]))
    answer["Body"].close()
    eventually(lambda: server.status()["own"]["in_flight"] == 0, "nothing is in flight")
    assert time.monotonic() - began < 1.5


def test_an_answer_whose_body_breaks_off_is_worded_as_such(runtime: Any) -> None:
    """The status is known, the text is not."""
    with pytest.raises(ClientError) as caught:
        invoke(runtime, {"cut": True})
    response = caught.value.response
    assert response["OriginalStatusCode"] == 500
    assert (
        "Received server error (500) from primary and could not load the entire response body."
        in (response["Error"]["Message"])
    )


def test_headers_of_the_api_reach_the_container_and_no_others(runtime: Any) -> None:
    """What the API defines goes on verbatim; what the caller omits is not invented."""
    plain = seen(invoke(runtime, {}))
    assert set(plain) <= {"host", "content-length"}
    full = seen(
        invoke(
            runtime,
            {},
            ContentType="a/b",
            Accept="c/d",
            CustomAttributes="k=v; w",
            InferenceId="id-1",
            SessionId="s-1",
        )
    )
    assert (full["content-type"], full["accept"]) == ("a/b", "c/d")
    assert full["x-amzn-sagemaker-custom-attributes"] == "k=v; w"
    assert full["x-amzn-sagemaker-inference-id"] == "id-1"
    assert full["x-amzn-sagemaker-session-id"] == "s-1"


def test_the_containers_headers_come_back(runtime: Any) -> None:
    """Custom attributes and the ids of sessions; others do not leave."""
    sent = {
        "X-Amzn-SageMaker-Custom-Attributes": "mine",
        "X-Amzn-SageMaker-New-Session-Id": "s-7; Expires=2099-01-01T00:00:00Z",
        "X-Secret": "1",
    }
    answer = invoke(runtime, {"headers": sent})
    assert answer["CustomAttributes"] == "mine"
    assert answer["NewSessionId"].startswith("s-7; Expires=")
    assert "x-secret" not in answer["ResponseMetadata"]["HTTPHeaders"]
    closed = invoke(runtime, {"headers": {"X-Amzn-SageMaker-Closed-Session-Id": "s-7"}})
    assert closed["ClosedSessionId"] == "s-7"


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ({"TargetModel": "a.tar.gz"}, "is not a multi-model endpoint"),
        ({"TargetContainerHostname": "second"}, "is not a multi-container endpoint"),
        ({"InferenceComponentName": "part"}, "has no inference components"),
        ({"EnableExplanations": "`true`"}, "has no explainer"),
        ({"TargetVariant": "nosuch"}, "has no production variant nosuch"),
        ({"InferenceId": "x" * 65}, "less than or equal to 64"),
        ({"SessionId": "x" * 257}, "less than or equal to 256"),
        ({"ContentType": "x" * 1025}, "less than or equal to 1024"),
    ],
)
def test_what_the_endpoint_is_not_made_for_is_a_validation_error(
    runtime: Any, parameter: dict[str, str], words: str
) -> None:
    """400 with a text that names what is wrong."""
    with pytest.raises(ClientError, match=words) as caught:
        invoke(runtime, {}, **parameter)
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_more_than_an_instance_may_hold_is_throttled(runtime: Any) -> None:
    """400 ThrottlingException with a null message, and room again afterwards."""
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(invoke, runtime, {"sleep_s": 0.5}) for _ in range(5)]
        failed = [call.exception() for call in calls]
    refused = [error for error in failed if isinstance(error, ClientError)]
    assert [error.response["Error"]["Code"] for error in refused] == ["ThrottlingException"] * 2
    assert refused[0].response["Error"]["Message"] is None
    invoke(runtime, {})


def test_an_endpoint_without_an_instance_is_unavailable(runtime: Any) -> None:
    """503 ServiceUnavailable while the only instance is started again; then it answers."""
    with pytest.raises(ClientError, match=r"Received server error \(0\) from primary"):
        invoke(runtime, {"die": True})
    with pytest.raises(runtime.exceptions.ServiceUnavailable) as caught:
        invoke(runtime, {})
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503

    def answers() -> bool:
        with contextlib.suppress(ClientError):
            return bool(invoke(runtime, {}))
        return False

    eventually(answers, "the instance has been replaced")
