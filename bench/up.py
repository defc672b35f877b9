"""The endpoints kept running for other programs."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.children import start_servers, wait_for_servers
from bench.deployment import Deployment
from bench.errors import MeasurementError


def keep_up(deployment: Deployment, say: Callable[[str], None]) -> None:
    """Run the endpoints until Ctrl-C, and tell how to talk to them."""
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
        say("Starting the endpoints …")
        servers = start_servers(deployment, Path(folder))
        try:
            ready = wait_for_servers(servers)
            say(_instructions(ready["address"], list(ready["endpoints"])))
            for name, described in ready["endpoints"].items():
                if spoken := described.get("open_inference"):
                    say(_open_inference(name, spoken))
            while servers.exit_code is None:
                time.sleep(0.2)
            raise MeasurementError(
                f"The servers ended (exit code {servers.exit_code}):\n{servers.last_lines(5)}"
            )
        except KeyboardInterrupt:
            say("\nStopping the endpoints …")
        finally:
            servers.stop()
    say("All are stopped.")


_ASYNCHRONOUS = """
  The asynchronous endpoint has an object store: boto3.client("s3", endpoint_url=ADDRESS + "/s3", …)
"""


def _instructions(address: str, names: list[str]) -> str:
    return f"""Listening on {address}, until Ctrl-C. Endpoints: {", ".join(names)}

  import boto3
  runtime = boto3.client("sagemaker-runtime", endpoint_url="{address}", region_name="us-east-1",
                         aws_access_key_id="any", aws_secret_access_key="any")
  answer = runtime.invoke_endpoint(EndpointName="{names[0]}",
                                   ContentType="application/json", Body=b"...")

  Batch jobs: boto3.client("sagemaker", …).create_transform_job(ModelName="…-batch", …)
  over objects of boto3.client("s3", endpoint_url="{address}/s3", …)

{_ASYNCHRONOUS if any(name.endswith("-async") for name in names) else ""}
  curl -H 'Content-Type: application/json' -d @body.json {address}/endpoints/{names[0]}/invocations
"""


def _open_inference(name: str, spoken: dict[str, str]) -> str:
    return f"""{name} speaks the Open Inference Protocol (KServe v2) as well:
  HTTP {spoken["http"]}/v2/models/{spoken["model"]}
  gRPC {spoken["grpc"]}
"""
