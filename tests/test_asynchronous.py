"""The asynchronous endpoint through its real server, with unmodified boto3."""

import json
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
import psutil
import pytest
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from bench.metrics import DRAFT, finish_metrics, read_metrics
from bench.target import Async
from tests.asynchronous import BUCKET, MODEL, ask, deployed, found, get, lines, metric, outcome, s3
from tests.serving import Serving, eventually, serving

pytestmark = pytest.mark.slow

MakeModel = Callable[[str], Path]
ALWAYS = Async(min_instances=1, max_concurrency=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One endpoint with an instance that is always there."""
    folder = tmp_path_factory.mktemp("later")
    (folder / "model" / "code").mkdir(parents=True)
    (folder / "model" / "code" / "inference.py").write_text(MODEL)
    with serving(deployed(folder / "model", ALWAYS), folder / "run") as server:
        yield server


def test_a_request_is_accepted_and_its_result_appears(server: Serving) -> None:
    """202 with id and locations; the object is what the model answered."""
    answer = ask(server, b"hello", InferenceId="greeting")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "greeting"
    assert answer["OutputLocation"] == f"s3://{BUCKET}/output/greeting.out"
    assert outcome(server, answer) == ("output", b"hello")


def test_the_input_may_be_an_object(server: Serving) -> None:
    """What was uploaded is what the model gets, with its content type."""
    client = s3(server)
    client.put_object(Bucket=BUCKET, Key="in/one", Body=b"uploaded")
    answer = server.client().invoke_endpoint_async(
        EndpointName="later", InputLocation=f"s3://{BUCKET}/in/one", ContentType="text/csv"
    )
    assert outcome(server, answer) == ("output", b"uploaded")
    key = answer["OutputLocation"].removeprefix(f"s3://{BUCKET}/")
    assert client.head_object(Bucket=BUCKET, Key=key)["ContentType"] == "text/csv"


def test_path_extension_and_file_name_are_followed(server: Serving) -> None:
    """Both locations get them."""
    answer = ask(server, b"x", S3OutputPathExtension="day/1", Filename="mine.json")
    assert answer["OutputLocation"].endswith("/output/day/1/mine.json")
    assert answer["FailureLocation"].endswith("/failure/day/1/mine.json")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Body": b"x", "InputLocation": "s3://bucket/key"}, "Exactly one"),
        ({}, "Exactly one"),
        ({"Body": b"x" * 128_001}, "at most 128000"),
        ({"InputLocation": "ftp://bucket/key"}, "regular expression"),
        ({"InputLocation": "http://bucket/key"}, "regular expression"),
        ({"Body": b"x", "RequestTTLSeconds": 99999}, "less than or equal to 21600"),
        ({"Body": b"x", "InvocationTimeoutSeconds": 7200}, "less than or equal to 3600"),
        ({"Body": b"x", "Filename": "a.b.c"}, "at most one dot"),
        ({"Body": b"x", "Filename": "../x"}, "at most one dot"),
        ({"Body": b"x", "InferenceId": "i" * 65}, "length less than or equal to 64"),
        ({"Body": b"x", "S3OutputPathExtension": "e" * 513}, "length less than or equal to 512"),
    ],
)
def test_what_the_service_refuses_is_refused(
    server: Serving, given: dict[str, object], said: str
) -> None:
    """The client sends it; the answer is a ValidationError that names the member."""
    client = server.client()
    client.meta.events.register("before-parameter-build", lambda **_: None)
    with pytest.raises(ClientError, match=said) as caught:
        client.invoke_endpoint_async(EndpointName="later", ContentType="text/plain", **given)
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_it_accepts_only_asynchronous_calls(server: Serving) -> None:
    """A real-time call is a ValidationError."""
    with pytest.raises(ClientError, match="asynchronous"):
        server.client().invoke_endpoint(EndpointName="later", Body=b"x")


def test_the_models_own_error_is_the_failure_object(server: Serving) -> None:
    """It is not tried again."""
    before = metric(server, "Invocation4XXErrors")
    assert outcome(server, ask(server, b"fail")) == ("failure", b"the model refuses")
    eventually(lambda: metric(server, "Invocation4XXErrors") == before + 1, "it is counted")


def test_an_input_that_is_not_there_is_a_failure(server: Serving) -> None:
    """Missing keys and missing buckets end in a failure object that names the location."""
    for place in (f"{BUCKET}/nothing", "no-such-bucket/key"):
        answer = server.client().invoke_endpoint_async(
            EndpointName="later", InputLocation=f"s3://{place}"
        )
        kind, text = outcome(server, answer)
        assert kind == "failure"
        assert place.encode() in text
    assert metric(server, "RequestDownloadFailures") >= 2


def test_a_model_that_is_too_slow_is_a_failure(server: Serving) -> None:
    """After InvocationTimeoutSeconds; the next request is answered by a container at rest."""
    slow = ask(server, b"sleep30", InvocationTimeoutSeconds=1)
    after = ask(server, b"after")
    kind, text = outcome(server, slow)
    assert kind == "failure"
    assert b"within 1 seconds" in text
    assert outcome(server, after) == ("output", b"after")


def test_a_poison_payload_ends_in_a_failure_and_harms_no_other(server: Serving) -> None:
    """It kills every container that touches it, a bounded number of times."""
    poison, after = ask(server, b"die"), ask(server, b"after")
    kind, text = outcome(server, poison, within_s=90)
    assert kind == "failure"
    assert b"5 times" in text
    assert outcome(server, after) == ("output", b"after")


def test_the_concurrency_is_strict(server: Serving) -> None:
    """With one at a time, two requests of half a second take a second."""
    answers = [ask(server, b"sleep0.5") for _ in range(2)]
    eventually(lambda: get(server, "/status")["later"]["in_flight"] == 1, "one is at work")
    assert get(server, "/status")["later"]["backlog"] == 1
    for answer in answers:
        outcome(server, answer)


def test_the_metrics_have_the_units_of_the_guide(server: Serving) -> None:
    """Time in the backlog and in all in milliseconds, the parts in microseconds."""
    outcome(server, ask(server, b"sleep0.2"))
    eventually(lambda: metric(server, "TotalProcessingTime", "last") > 0, "it is counted")
    found_metrics = get(server, "/endpoints/later/metrics")
    assert found_metrics["TimeInBacklog"]["unit"] == "Milliseconds"
    assert found_metrics["TotalProcessingTime"]["last"] >= 200
    assert found_metrics["ModelLatency"]["last"] >= 200_000
    assert "OverheadLatency" not in found_metrics


def test_the_metrics_are_prometheus_text_too(server: Serving) -> None:
    """Beside those of the other options; those of the backlog have no variant."""
    outcome(server, ask(server, b"text"))
    with urllib.request.urlopen(f"{server.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    [processed] = [
        sample
        for sample in families["sagemaker_invocations_processsed"].samples
        if sample.name.endswith("_total")
    ]
    assert processed.value >= 1
    assert processed.labels == {"endpoint_name": "later", "variant_name": "AllTraffic"}
    [backlog] = families["sagemaker_approximate_backlog_size"].samples
    assert backlog.labels["variant_name"] == ""
    assert families["sagemaker_time_in_backlog_milliseconds"].type == "histogram"


def test_the_metrics_are_kept_by_the_minute(tmp_path: Path, make_model: MakeModel) -> None:
    """In the file of the run, with the guide's units."""
    deployment = deployed(make_model(MODEL), Async(min_instances=1))
    metrics = tmp_path / DRAFT
    deployment = msgspec.structs.replace(deployment, metrics=str(metrics))
    with serving(deployment, tmp_path / "run") as own:
        outcome(own, ask(own, b"text"))
        eventually(lambda: metric(own, "TotalProcessingTime", "samples") > 0, "it is counted")
    finish_metrics(tmp_path, 0.0)
    rows = read_metrics(tmp_path).set_index("metric")
    assert rows.loc["TotalProcessingTime", "unit"] == "Milliseconds"
    assert rows.loc["InvocationsProcesssed", "sum"] == 1
    assert rows.loc["ModelLatency", "period_s"] == 60


class _Inbox:
    """A web server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.posts: list[str] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                inbox.posts.append(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_notifications_have_the_form_of_the_guide(tmp_path: Path, make_model: MakeModel) -> None:
    """Success to a topic of an SNS-compatible service, failure to a file; tests come first."""
    inbox, errors = _Inbox(), tmp_path / "errors.jsonl"
    target = Async(
        min_instances=1,
        success_topic="arn:aws:sns:us-east-1:000000000000:done",
        error_topic=f"file:{errors}",
        sns_url=inbox.url,
        include_response_in=("SUCCESS_NOTIFICATION_TOPIC",),
    )
    with serving(deployed(make_model(MODEL), target), tmp_path / "run") as server:
        outcome(server, ask(server, b"good", InferenceId="g"))
        outcome(server, ask(server, b"fail", InferenceId="f"))
        eventually(lambda: len(inbox.posts) == 2 and len(lines(errors)) == 2, "all are told")
    inbox.close()
    form = parse_qs(inbox.posts[1])
    assert (form["Action"], form["TopicArn"]) == (["Publish"], [target.success_topic])
    test, done = (json.loads(parse_qs(post)["Message"][0]) for post in inbox.posts)
    assert test["eventName"] == "TestNotification"
    assert done["invocationStatus"] == "Completed"
    assert done["responseParameters"]["outputLocation"] == f"s3://{BUCKET}/output/g.out"
    assert done["responseBody"]["content"] == "good"
    assert (done["eventVersion"], done["eventName"]) == ("1.0", "InferenceResult")
    failed = lines(errors)[1]
    assert (failed["invocationStatus"], failed["inferenceId"]) == ("Failed", "f")
    assert "Received client error (400) from model" in failed["failureReason"]


def test_a_notification_that_cannot_be_delivered_is_counted(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """The result is there all the same."""
    target = Async(min_instances=1, success_topic="http://127.0.0.1:9/nobody")
    with serving(deployed(make_model(MODEL), target), tmp_path / "run") as server:
        assert outcome(server, ask(server, b"x")) == ("output", b"x")
        eventually(lambda: metric(server, "NotificationFailures") == 2, "both are counted")


def test_a_missing_output_bucket_is_a_failure(tmp_path: Path, make_model: MakeModel) -> None:
    """The model is not even asked."""
    target = Async(min_instances=1, output_path="s3://gone-bucket/output")
    with serving(deployed(make_model(MODEL), target), tmp_path / "run") as server:
        s3(server).delete_bucket(Bucket="gone-bucket")
        answer = ask(server, b"x")
        client = s3(server)
        eventually(lambda: found(client, answer["FailureLocation"]) is not None, "it has failed")
        assert b"NoSuchBucket" in (found(client, answer["FailureLocation"]) or b"") or (
            b"gone-bucket" in (found(client, answer["FailureLocation"]) or b"")
        )
        assert metric(server, "ModelLatency", "samples") == 0


def test_what_waits_survives_a_restart(tmp_path: Path, make_model: MakeModel) -> None:
    """Accepted with no instance in sight, answered by the next server on the same folder."""
    model, data = make_model(MODEL), tmp_path / "data"
    with serving(deployed(model, Async(), data), tmp_path / "one") as server:
        answers = [ask(server, b"%d" % number) for number in range(5)]
    with serving(deployed(model, ALWAYS, data), tmp_path / "two") as server:
        for number, answer in enumerate(answers):
            assert outcome(server, answer) == ("output", b"%d" % number)


def test_an_https_input_is_fetched_and_no_other(server: Serving) -> None:
    """An address that cannot be reached is a failure that does not show what signs it."""
    answer = server.client().invoke_endpoint_async(
        EndpointName="later", InputLocation="https://127.0.0.1:9/object?X-Amz-Signature=secret"
    )
    kind, text = outcome(server, answer)
    assert kind == "failure"
    assert b"https://127.0.0.1:9/object" in text
    assert b"secret" not in text


def test_a_large_object_passes_through_without_being_held(server: Serving) -> None:
    """200 MB in and out (more with WEIGHBRIDGE_OBJECT_MB); no process grows by over 100 MB."""
    processes = [psutil.Process(server.child.pid), *server.instances()]
    idle = [process.memory_info().rss for process in processes]
    most = [0] * len(processes)
    client, parts_count = s3(server), int(os.environ.get("WEIGHBRIDGE_OBJECT_MB", "200")) // 8
    size = parts_count * 8 << 20
    block = bytes(range(256)) * 4096

    def look() -> None:
        for number, process in enumerate(processes):
            most[number] = max(most[number], process.memory_info().rss - idle[number])

    upload = client.create_multipart_upload(Bucket=BUCKET, Key="large")["UploadId"]
    parts = []
    for number in range(1, parts_count + 1):
        part = client.upload_part(
            Bucket=BUCKET, Key="large", UploadId=upload, PartNumber=number, Body=block * 8
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
        look()
    client.complete_multipart_upload(
        Bucket=BUCKET, Key="large", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    answer = server.client().invoke_endpoint_async(
        EndpointName="later", InputLocation=f"s3://{BUCKET}/large"
    )
    key = answer["OutputLocation"].removeprefix(f"s3://{BUCKET}/")

    def there() -> bool:
        look()
        try:
            return bool(client.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == size)
        except ClientError:
            return False

    eventually(there, "the result is there", within_s=120)
    body = client.get_object(Bucket=BUCKET, Key=key)["Body"]
    while piece := body.read(1 << 20):
        assert piece == block
    look()
    assert max(most) <= 100 << 20, most
