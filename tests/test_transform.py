"""Batch transform jobs over the wire, driven by unmodified boto3."""

import gzip
import json
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from tests.serving import eventually
from tests.transforming import Transforming, deployment, request, transforming, write_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transforming]:
    """One server for all tests; each job has a name of its own."""
    folder = tmp_path_factory.mktemp("transform")
    config = deployment(write_model(folder / "model"), folder, max_restarts=1)
    with transforming(config, folder) as running:
        yield running


def metrics(site: Transforming) -> str:
    with urllib.request.urlopen(f"{site.server.address}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def test_every_object_gets_an_output(site: Transforming) -> None:
    """Called like its input, below the output path, in the order of its records."""
    site.put("data/all/in/a.txt", b"1\n2\n")
    site.put("data/all/in/more/b.txt", b"3\n")
    site.put("data/all/inside", b"no part of the prefix\n")
    described = site.run("all")
    assert described["TransformJobStatus"] == "Completed"
    assert site.outputs("data/all/out") == {"a.txt.out": b"[1]\n[2]\n", "more/b.txt.out": b"[3]\n"}
    assert described["TransformStartTime"] <= described["TransformEndTime"]
    assert described["TransformInput"]["SplitType"] == "Line"


def test_several_instances_share_the_objects(site: Transforming) -> None:
    """Each object is one instance's alone, and all come out."""
    for number in range(5):
        site.put(f"data/two/in/{number}", b"%d\n" % number)
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
    described = site.run("two", TransformResources=resources)
    assert described["TransformJobStatus"] == "Completed"
    expected = {f"{number}.out": b"[%d]\n" % number for number in range(5)}
    assert site.outputs("data/two/out") == expected


def test_one_bad_object_fails_the_job_and_no_other_object(site: Transforming) -> None:
    """The job's log says which and why; FailureReason is SageMaker's own."""
    site.put("data/bad/in/1", b"fine\n")
    site.put("data/bad/in/2", b"good\nrefuse\n")
    site.put("data/bad/in/3", b"fine too\n")
    described = site.run("bad")
    assert described["TransformJobStatus"] == "Failed"
    assert described["FailureReason"] == "ClientError: See job logs for more information"
    assert set(site.outputs("data/bad/out")) == {"1.out", "3.out"}
    log = (site.buckets.parent / "data" / "jobs" / "bad" / "job.log").read_text()
    assert "data/bad/in/2: ClientError: 422 the model refuses it" in log
    assert "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD" in log


def test_a_model_that_dies_fails_its_object_alone(site: Transforming) -> None:
    """It is started again for the others."""
    site.put("data/dies/in/1", b"die\n")
    site.put("data/dies/in/2", b"fine\n")
    described = site.run("dies")
    assert described["TransformJobStatus"] == "Failed"
    assert "AlgorithmError: the container ended" in described["FailureReason"]
    assert site.outputs("data/dies/out") == {"2.out": b"[fine]\n"}


def test_the_environment_is_that_of_a_batch_job(site: Transforming) -> None:
    """SAGEMAKER_BATCH always; the others as far as the caller set them; the caller's own."""
    names = [
        "SAGEMAKER_BATCH",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB",
        "SAGEMAKER_BATCH_STRATEGY",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS",
        "MINE",
    ]
    for name in names:
        site.put(f"data/env/in/{name}", f"environment {name}".encode())
    site.run("env", BatchStrategy="SingleRecord", MaxPayloadInMB=3, Environment={"MINE": "yes"})
    found = [site.outputs("data/env/out")[f"{name}.out"].decode().strip() for name in names]
    assert found == ["true", "3", "SINGLE_RECORD", "-", "yes"]


def test_a_manifest_names_the_objects(site: Transforming) -> None:
    """A prefix, then keys below it."""
    for name in ("1", "2", "3"):
        site.put(f"data/listed/in/{name}", name.encode())
    manifest = json.dumps([{"prefix": "s3://data/listed/in/"}, "1", "3"])
    site.put("data/listed/manifest", manifest.encode())
    site.run("listed", uri="s3://data/listed/manifest", data_type="ManifestFile")
    assert site.outputs("data/listed/out") == {"1.out": b"[1]\n", "3.out": b"[3]\n"}


def test_packed_rows_are_filtered_and_joined(site: Transforming) -> None:
    """Gzip, CSV, InputFilter, join and OutputFilter together."""
    site.put("data/join/in/a.csv.gz", gzip.compress(b"a,1,x\nb,2,y\n"))
    site.run(
        "join",
        input={"ContentType": "text/csv", "CompressionType": "Gzip"},
        output={"Accept": "text/csv"},
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )
    # The model answers [1,x] and [2,y], two fields each: the last is the end of the second.
    assert site.outputs("data/join/out") == {"a.csv.gz.out": b"a,x]\nb,y]\n"}


def test_no_objects_fail_the_job(site: Transforming) -> None:
    """And so does a bucket that is not there; the reason names the place."""
    described = site.run("none")
    assert described["TransformJobStatus"] == "Failed"
    assert "s3://data/none/in/" in described["FailureReason"]
    described = site.run("nowhere", uri="s3://nobody/in/")
    assert "nobody" in described["FailureReason"]


def test_a_stopped_job_keeps_no_output(site: Transforming) -> None:
    """Not even that of objects that were finished. Until then ``/metrics`` shows what it uses."""
    site.put("data/halt/in/0", b"quick\n")
    site.put("data/halt/in/1", b"slow\n" * 2000)
    site.run("halt", wait=False, BatchStrategy="SingleRecord")
    eventually(lambda: set(site.outputs("data/halt/out")) == {"0.out"}, "the first output")
    shown = 'sagemaker_cpu_utilization{endpoint_name="halt",variant_name="halt-1"}'
    eventually(lambda: shown in metrics(site), "its use of the CPU")
    client = site.client()
    client.stop_transform_job(TransformJobName="halt")
    site.wait("halt")
    described = client.describe_transform_job(TransformJobName="halt")
    assert described["TransformJobStatus"] == "Stopped"
    assert site.outputs("data/halt/out") == {}
    with pytest.raises(ClientError, match="it is Stopped"):
        client.stop_transform_job(TransformJobName="halt")


def test_captured_data_is_listed_in_manifests(site: Transforming) -> None:
    """One of the inputs and one of the outputs, by the hour."""
    site.put("data/capture/in/x", b"1")
    site.run("capture", DataCaptureConfig={"DestinationS3Uri": "s3://data/captured"})
    found = site.outputs("data/captured")
    assert sorted(name.split("/")[0] for name in found) == ["input", "output"]
    keys = {name.split("/")[0]: json.loads(content) for name, content in found.items()}
    assert keys["input"] == [{"prefix": "s3://data/"}, "capture/in/x"]
    assert keys["output"] == [{"prefix": "s3://data/"}, "capture/out/x.out"]


def test_each_captured_record_can_have_an_id(site: Transforming) -> None:
    """GenerateInferenceId: a column more with an id, one with the job's start, in the output."""
    site.put("data/ids/in/x.csv", b"1\n2\n")
    site.put("data/ids/in/y.csv", b"1\n")
    described = site.run(
        "ids",
        input={"ContentType": "text/csv"},
        output={"Accept": "text/csv"},
        DataCaptureConfig={"DestinationS3Uri": "s3://data/noted", "GenerateInferenceId": True},
    )
    assert described["TransformJobStatus"] == "Completed"
    found = site.outputs("data/ids/out")
    rows = [row.split(",") for name in sorted(found) for row in found[name].decode().splitlines()]
    assert [row[0] for row in rows] == ["[1]", "[2]", "[1]"]
    assert len({uuid.UUID(row[1]) for row in rows}) == 3
    began = described["TransformStartTime"].astimezone(UTC)
    assert {row[2] for row in rows} == {f"{began:%Y-%m-%dT%H:%M:%SZ}"}


def test_jobs_are_listed_as_asked(site: Transforming) -> None:
    """By name, by status, in pages."""
    for name in ("list-a", "list-b", "list-c"):
        site.put(f"data/{name}/in/x", b"1")
        site.run(name)
    client = site.client()
    asked = {"NameContains": "list-", "SortBy": "Name", "SortOrder": "Ascending"}
    first = client.list_transform_jobs(**asked, MaxResults=2)
    second = client.list_transform_jobs(**asked, MaxResults=2, NextToken=first["NextToken"])
    pages = [
        [job["TransformJobName"] for job in page["TransformJobSummaries"]]
        for page in (first, second)
    ]
    assert pages == [["list-a", "list-b"], ["list-c"]]
    assert (
        client.list_transform_jobs(**asked, StatusEquals="Stopped")["TransformJobSummaries"] == []
    )


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"ModelName": "nobody"}, "ValidationException", "Could not find model"),
    ({"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3}, "ValidationException", "3 x 50"),
    ({"data_type": "AugmentedManifestFile"}, "ValidationException", "S3DataType"),
    (
        {"input": {"SplitType": "None"}, "BatchStrategy": "MultiRecord"},
        "ValidationException",
        "needs a SplitType",
    ),
    (
        {"DataProcessing": {"JoinSource": "Input"}, "input": {"ContentType": "image/png"}},
        "ValidationException",
        "image/png",
    ),
    (
        {"DataProcessing": {"JoinSource": "Input"}, "input": {"ContentType": "text/csv"}},
        "ValidationException",
        "must be equal",
    ),
    (
        {
            "DataProcessing": {"OutputFilter": "$.a"},
            "input": {"ContentType": "text/csv"},
            "output": {"Accept": "text/csv"},
        },
        "ValidationException",
        "indices only",
    ),
    (
        {
            "DataProcessing": {"InputFilter": "id"},
            "input": {"ContentType": "application/json"},
            "output": {"Accept": "application/json"},
        },
        "ValidationException",
        "must begin with",
    ),
    (
        {
            "DataCaptureConfig": {
                "DestinationS3Uri": "s3://data/noted",
                "GenerateInferenceId": True,
            },
            "output": {"Accept": "image/png"},
        },
        "ValidationException",
        "Accept 'image/png'",
    ),
    ({"Environment": {f"K{n}": "v" for n in range(17)}}, "ValidationException", "Environment"),
    (
        {"TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 5}},
        "ResourceLimitExceeded",
        "batch.max_instances",
    ),
]


@pytest.mark.parametrize(("change", "code", "why"), REFUSED)
def test_a_request_that_breaks_a_rule_is_refused(
    site: Transforming, change: dict[str, Any], code: str, why: str
) -> None:
    """With the API's error code, and a text that names the value."""
    with pytest.raises(ClientError) as caught:
        site.client().create_transform_job(**request("wrong", **dict(change)))
    assert caught.value.response["Error"]["Code"] == code
    assert why in caught.value.response["Error"]["Message"]


def test_a_name_is_used_once(site: Transforming) -> None:
    """ResourceInUse, and ResourceNotFound for a name that is unknown."""
    site.put("data/once/in/x", b"1")
    site.run("once")
    with pytest.raises(site.client().exceptions.ResourceInUse):
        site.run("once")
    with pytest.raises(site.client().exceptions.ResourceNotFound):
        site.client().describe_transform_job(TransformJobName="never")


def test_a_model_of_ones_own_can_be_created(site: Transforming, tmp_path: Path) -> None:
    """CreateModel from a file, then a job that names it."""
    client = site.client()
    url = f"file://{write_model(tmp_path / 'own')}"
    client.create_model(
        ModelName="own",
        PrimaryContainer={"ModelDataUrl": url},
        ExecutionRoleArn="arn:aws:iam::0:role/x",
    )
    assert client.describe_model(ModelName="own")["PrimaryContainer"]["ModelDataUrl"] == url
    site.put("data/own/in/x", b"1")
    assert site.run("own", ModelName="own")["TransformJobStatus"] == "Completed"
    with pytest.raises(ClientError, match="there is no"):
        client.create_model(
            ModelName="bad",
            PrimaryContainer={"ModelDataUrl": "file:///nowhere"},
            ExecutionRoleArn="arn:aws:iam::0:role/x",
        )


def test_an_endpoint_is_told_apart_from_a_batch_model(site: Transforming) -> None:
    """Invoking it says what to do instead."""
    with pytest.raises(ClientError, match="CreateTransformJob"):
        site.client("sagemaker-runtime").invoke_endpoint(EndpointName="brackets", Body=b"1")


@pytest.mark.slow
def test_objects_of_the_store_are_transformed(tmp_path: Path) -> None:
    """What boto3's S3 client has uploaded is transformed, and can be downloaded."""
    config = deployment(write_model(tmp_path / "model"), tmp_path)
    config = msgspec.structs.replace(config, buckets=None)
    with transforming(config, tmp_path) as site:
        s3 = site.client("s3", "/s3")
        s3.create_bucket(Bucket="data")
        s3.put_object(Bucket="data", Key="s3/in/ä b?.txt", Body=b"1\n2\n")
        assert site.run("s3")["TransformJobStatus"] == "Completed"
        found = s3.get_object(Bucket="data", Key="s3/out/ä b?.txt.out")
        assert found["Body"].read() == b"[1]\n[2]\n"
