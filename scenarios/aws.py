"""boto3's sagemaker-runtime as a client, as production code uses it."""

from typing import Any
from urllib.parse import unquote, urlsplit

from bench.clients import Boto3
from bench.errors import ConfigError
from bench.workload import Workload
from scenarios.compatible import Call
from scenarios.request import CONNECT_TIMEOUT_S

CHUNK_BYTES = 64 * 1024


class Boto3Caller:
    """One client for all requests, which never tries again by itself."""

    def __init__(self, kind: Boto3, url: str, workload: Workload) -> None:
        try:
            import boto3
            import botocore.exceptions
            from botocore.config import Config
        except ImportError as error:
            raise ConfigError("client.kind = 'boto3' needs boto3: pip install boto3.") from error
        parts = urlsplit(url)
        self._name = unquote(parts.path.removesuffix("/invocations").rpartition("/endpoints/")[2])
        self._error = botocore.exceptions.ClientError
        self._client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=f"{parts.scheme}://{parts.netloc}",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(
                retries={"total_max_attempts": 1},
                max_pool_connections=workload.max_in_flight,
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=workload.request_timeout_s,
            ),
        )
        self._stream = kind.stream
        self._options = {"EndpointName": self._name, "ContentType": workload.payload.content_type}
        if workload.payload.accept:
            self._options["Accept"] = workload.payload.accept

    def call(self, call: Call) -> None:
        """Invoke the endpoint and read the answer."""
        invoke = self._client.invoke_endpoint
        if self._stream:
            invoke = self._client.invoke_endpoint_with_response_stream
        try:
            self._read(call, invoke(Body=call.body(), **self._options))
        except self._error as error:
            call.first_byte()
            code = str(error.response.get("Error", {}).get("Code", "ClientError"))
            meta = error.response.get("ResponseMetadata", {})
            call.refused(int(meta.get("HTTPStatusCode", call.status)), code)
            call.error = code  # also inside a stream, whose status is 200

    def _read(self, call: Call, answer: Any) -> None:
        _note(call, answer)
        if self._stream:
            for event in answer["Body"]:
                call.first_byte()
                call.response_bytes += len(event.get("PayloadPart", {}).get("Bytes", b""))
        else:
            call.first_byte()
            while piece := answer["Body"].read(CHUNK_BYTES):
                call.response_bytes += len(piece)

    def close(self) -> None:
        """Let all connections go."""
        self._client.close()


def _note(call: Call, answer: Any) -> None:
    meta = answer["ResponseMetadata"]
    call.status = int(meta["HTTPStatusCode"])
    call.server_timing = str(meta["HTTPHeaders"].get("server-timing", ""))
