"""The object store behind its S3 address, with unmodified boto3."""

import hashlib
import io
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from bench.target import Async
from tests.asynchronous import MODEL, deployed, s3
from tests.serving import Serving, serving

pytestmark = pytest.mark.slow

BUCKET = "some-bucket"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with an asynchronous endpoint that never has an instance."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "model" / "code").mkdir(parents=True)
    (folder / "model" / "code" / "inference.py").write_text(MODEL)
    deployment = deployed(folder / "model", Async(), folder / "data")
    with serving(deployment, folder / "run") as server:
        s3(server).create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture
def client(server: Serving) -> Any:
    return s3(server)


def code(caught: Any) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_what_is_put_is_what_is_got(client: Any) -> None:
    """Bytes, content type, metadata and ETag."""
    client.put_object(
        Bucket=BUCKET, Key="a b/ü.bin", Body=b"bytes", ContentType="text/x", Metadata={"k": "v"}
    )
    got = client.get_object(Bucket=BUCKET, Key="a b/ü.bin")
    assert got["Body"].read() == b"bytes"
    assert (got["ContentType"], got["Metadata"]) == ("text/x", {"k": "v"})
    head = client.head_object(Bucket=BUCKET, Key="a b/ü.bin")
    assert head["ETag"] == f'"{hashlib.md5(b"bytes").hexdigest()}"'
    assert head["ContentLength"] == 5


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-3", b"0123"),
        ("bytes=4-", b"456789"),
        ("bytes=-3", b"789"),
        ("bytes=8-99", b"89"),
    ],
)
def test_a_range_is_a_part(client: Any, asked: str, expected: bytes) -> None:
    """Status 206, and which part of how much it is."""
    client.put_object(Bucket=BUCKET, Key="digits", Body=b"0123456789")
    got = client.get_object(Bucket=BUCKET, Key="digits", Range=asked)
    assert got["Body"].read() == expected
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"].endswith("/10")


def test_a_range_beyond_the_end_is_refused(client: Any) -> None:
    """416, as S3 says it."""
    client.put_object(Bucket=BUCKET, Key="digits", Body=b"0123456789")
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket=BUCKET, Key="digits", Range="bytes=10-20")
    assert code(caught) == "InvalidRange"


def test_what_is_not_there_has_its_own_error(client: Any) -> None:
    """A key, and a bucket."""
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket=BUCKET, Key="nothing")
    with pytest.raises(client.exceptions.NoSuchBucket):
        client.get_object(Bucket="no-such-bucket", Key="nothing")
    with pytest.raises(client.exceptions.NoSuchBucket):
        client.put_object(Bucket="no-such-bucket", Key="nothing", Body=b"")


def test_lists_are_in_order_page_by_page(client: Any) -> None:
    """With prefix and delimiter as folders, and every key once."""
    client.create_bucket(Bucket="listed")
    keys = ["a", "a/b", "b/1", "b/2", "b/3/x", "c", "é"]
    for key in reversed(keys):
        client.put_object(Bucket="listed", Key=key, Body=b"x")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket="listed", PaginationConfig={"PageSize": 2}
    )
    assert [each["Key"] for page in pages for each in page["Contents"]] == keys
    top = client.list_objects_v2(Bucket="listed", Delimiter="/")
    assert [each["Key"] for each in top["Contents"]] == ["a", "c", "é"]
    assert [each["Prefix"] for each in top["CommonPrefixes"]] == ["a/", "b/"]
    inside = client.list_objects_v2(Bucket="listed", Prefix="b/", Delimiter="/", MaxKeys=2)
    assert [each["Key"] for each in inside["Contents"]] == ["b/1", "b/2"]
    assert inside["IsTruncated"]
    token = inside["NextContinuationToken"]
    rest = client.list_objects_v2(
        Bucket="listed", Prefix="b/", Delimiter="/", ContinuationToken=token
    )
    assert [each["Prefix"] for each in rest["CommonPrefixes"]] == ["b/3/"]
    assert not rest["IsTruncated"]


def test_a_multipart_upload_is_one_object(client: Any) -> None:
    """boto3's own transfer of 20 MB in parts, both ways."""
    content = os.urandom(20 << 20)
    parts = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    client.upload_fileobj(io.BytesIO(content), BUCKET, "large", Config=parts)
    assert client.head_object(Bucket=BUCKET, Key="large")["ETag"].endswith('-3"')
    back = io.BytesIO()
    client.download_fileobj(BUCKET, "large", back, Config=parts)
    assert back.getvalue() == content
    across = client.get_object(Bucket=BUCKET, Key="large", Range="bytes=8388600-8388620")
    assert across["Body"].read() == content[8388600:8388621]


def test_an_aborted_upload_leaves_nothing(client: Any, server: Serving, tmp_path: Path) -> None:
    """Neither an object nor its parts."""
    del tmp_path
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="never")["UploadId"]
    client.upload_part(Bucket=BUCKET, Key="never", UploadId=upload, PartNumber=1, Body=b"x" * 99)
    assert len(client.list_parts(Bucket=BUCKET, Key="never", UploadId=upload)["Parts"]) == 1
    client.abort_multipart_upload(Bucket=BUCKET, Key="never", UploadId=upload)
    with pytest.raises(ClientError) as caught:
        client.list_parts(Bucket=BUCKET, Key="never", UploadId=upload)
    assert code(caught) == "NoSuchUpload"
    blobs = server.child.log.parent.parent / "data" / "objects" / "blobs"
    assert not [path for path in blobs.iterdir() if path.stat().st_size == 99]


def test_objects_are_deleted_and_copied(client: Any) -> None:
    """One, several, and a bucket only when it is empty."""
    client.create_bucket(Bucket="emptied")
    client.put_object(Bucket="emptied", Key="one", Body=b"1")
    client.copy_object(
        Bucket="emptied", Key="two words", CopySource={"Bucket": "emptied", "Key": "one"}
    )
    assert client.get_object(Bucket="emptied", Key="two words")["Body"].read() == b"1"
    with pytest.raises(ClientError) as caught:
        client.delete_bucket(Bucket="emptied")
    assert code(caught) == "BucketNotEmpty"
    client.delete_object(Bucket="emptied", Key="one")
    client.delete_objects(Bucket="emptied", Delete={"Objects": [{"Key": "two words"}]})
    client.delete_bucket(Bucket="emptied")
    assert "emptied" not in [each["Name"] for each in client.list_buckets()["Buckets"]]


def test_a_presigned_url_works_until_it_expires(server: Serving, client: Any) -> None:
    """For putting and getting, without any client; signed in either way."""
    where = {"Bucket": BUCKET, "Key": "signed"}
    newer = s3(server, Config(signature_version="s3v4"))
    put = newer.generate_presigned_url("put_object", Params=where)
    request = urllib.request.Request(put, data=b"by url", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
    get = client.generate_presigned_url("get_object", Params=where)
    with urllib.request.urlopen(get, timeout=10) as answer:
        assert answer.read() == b"by url"
    for each in (client, newer):
        old = each.generate_presigned_url("get_object", Params=where, ExpiresIn=-1)
        with pytest.raises(urllib.error.HTTPError, match="403") as caught:
            urllib.request.urlopen(old, timeout=10)
        caught.value.close()


def put(server: Serving, body: bytes, headers: dict[str, str]) -> int:
    """The status of a put that boto3 would not make."""
    url = f"{server.address}/s3/{BUCKET}/raw"
    request = urllib.request.Request(url, body, headers, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_body_that_is_not_what_its_digest_says_is_refused(server: Serving, client: Any) -> None:
    """And leaves the old object as it was."""
    client.put_object(Bucket=BUCKET, Key="raw", Body=b"old")
    for name, wrong in (
        ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-content-sha256", "0" * 64),
    ):
        assert put(server, b"new", {name: wrong}) == 400
    assert client.get_object(Bucket=BUCKET, Key="raw")["Body"].read() == b"old"


def test_chunks_of_the_aws_form_are_taken_apart(server: Serving, client: Any) -> None:
    """Sizes, signatures and trailers are not part of the object; a broken form is refused."""
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "8",
    }
    good = b"5;chunk-signature=abc\r\nfirst\r\n3\r\n2nd\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"
    assert put(server, good, headers) == 200
    assert client.get_object(Bucket=BUCKET, Key="raw")["Body"].read() == b"first2nd"
    assert put(server, b"5\r\nfir", headers) == 400
    assert put(server, b"-5\r\nfirst\r\n0\r\n\r\n", headers) == 400
    assert put(server, b"3\r\n2nd\r\n0\r\n\r\n", headers) == 400


@pytest.mark.parametrize("key", ["../../outside", "/etc/passwd", "a/../../b", "..", "x" * 1024])
def test_a_key_cannot_leave_the_store(server: Serving, client: Any, key: str) -> None:
    """It is a name and never a path: nothing is written but the store's own files."""
    folder = server.child.log.parent.parent
    client.put_object(Bucket=BUCKET, Key=key, Body=b"kept")
    assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"kept"
    outside = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size == 4]
    assert {path.parent.name for path in outside} == {"blobs"}


def test_names_that_s3_forbids_are_refused(client: Any) -> None:
    """Keys over 1024 bytes, and buckets with capitals."""
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=BUCKET, Key="é" * 513, Body=b"")
    assert code(caught) == "InvalidArgument"


def test_a_hostile_document_is_refused(server: Serving) -> None:
    """Entities could grow without end."""
    body = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><Delete><Object><Key>&a;</Key></Object></Delete>'
    url = f"{server.address}/s3/{BUCKET}?delete"
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=10)
    assert b"MalformedXML" in caught.value.read()
    caught.value.close()
