"""The inputs of asynchronous requests in a store of one's own, through boto3's S3 client."""

import os
from typing import Any

from bench.errors import ConfigError
from bench.target import Async
from bench.workload import Workload
from scenarios.request import CONNECT_TIMEOUT_S


class Inputs:
    """Puts inputs beside the results: into the bucket of ``output_path``."""

    def __init__(self, target: Async, workload: Workload) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise ConfigError(
                f"async.store_url = {target.store_url!r}: inputs are put there with boto3: "
                "pip install boto3."
            ) from error
        self._bucket = target.output_path.removeprefix("s3://").partition("/")[0]
        self._content_type = workload.payload.content_type
        self._client = boto3.client(
            "s3",
            endpoint_url=target.store_url,
            # Keys come from the AWS_* variables, as the server's do.
            config=Config(
                retries={"total_max_attempts": 1},
                max_pool_connections=workload.max_in_flight,
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=workload.request_timeout_s,
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
            ),
            **_region(),
        )

    def put(self, body: Any, name: str) -> str:
        """Store a body, bytes or a file; its address."""
        key = f"input/{name}"
        self._client.put_object(
            Bucket=self._bucket, Key=key, Body=body, ContentType=self._content_type
        )
        return f"s3://{self._bucket}/{key}"


def _region() -> dict[str, str]:
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return {"region_name": named or "us-east-1"}
