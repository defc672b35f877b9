"""Batch jobs for tests: a small model, a server with folders for buckets, unmodified boto3."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.deployment import Deployment, Endpoint
from bench.target import Batch
from tests.serving import Serving, serving

BRACKETS = """
import os, time

class Refused(Exception):
    status_code = 422

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    body = body if isinstance(body, bytes) else body.encode()
    if b"die" in body:
        os._exit(3)
    if b"refuse" in body:
        raise Refused("the model refuses it")
    if b"break" in body:
        raise RuntimeError("the model broke")
    if b"slow" in body:
        time.sleep(0.02)
    if b"environment" in body:
        return os.environ.get(body.split()[1].decode(), "-"), accept
    return b"".join(b"[" + line + b"]\\n" for line in body.splitlines()), accept
"""
"""A model that puts each line in brackets, or does what a word in it says."""


@dataclass(frozen=True)
class Transforming:
    """A running server, and the folder whose folders are the buckets."""

    server: Serving
    buckets: Path

    def client(self, service: str = "sagemaker", path: str = "") -> Any:
        """An unmodified boto3 client of the service."""
        return self.server.client(service, path)

    def put(self, where: str, content: bytes) -> None:
        """Store an input: ``bucket/key``."""
        path = self.buckets / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def outputs(self, folder: str) -> dict[str, bytes]:
        """What lies below ``bucket/prefix``, by the rest of the key."""
        root = self.buckets / folder
        files = [path for path in root.rglob("*") if path.is_file()]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    def run(self, name: str, wait: bool = True, **more: Any) -> dict[str, Any]:
        """Create a job over ``data/NAME/in``, wait for its end, describe it."""
        client = self.client()
        client.create_transform_job(**request(name, **more))
        if wait:
            self.wait(name)
        described: dict[str, Any] = client.describe_transform_job(TransformJobName=name)
        return described

    def wait(self, name: str) -> None:
        """boto3's own waiter, in a hurry."""
        waiter = self.client().get_waiter("transform_job_completed_or_stopped")
        with contextlib.suppress(Exception):  # it raises for a job that failed
            waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 2000})


def request(name: str, **more: Any) -> dict[str, Any]:
    """The members of a job that cuts lines; ``more`` replaces or adds, in the input too."""
    source = {"S3DataType": "S3Prefix", "S3Uri": more.pop("uri", f"s3://data/{name}/in/")}
    source["S3DataType"] = more.pop("data_type", "S3Prefix")
    return {
        "TransformJobName": name,
        "ModelName": "brackets",
        "TransformInput": {
            "DataSource": {"S3DataSource": source},
            "SplitType": "Line",
            **more.pop("input", {}),
        },
        "TransformOutput": {
            "S3OutputPath": f"s3://data/{name}/out",
            "AssembleWith": "Line",
            **more.pop("output", {}),
        },
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **more,
    }


def deployment(model: Path, folder: Path, **profile: float) -> Deployment:
    """A batch model called ``brackets``; its jobs and buckets are kept in ``folder``."""
    (folder / "buckets" / "data").mkdir(parents=True, exist_ok=True)
    target = Batch(profile={"placement_median_s": 0.0, **profile})
    return Deployment(
        [Endpoint("brackets", target, str(model))],
        data=str(folder / "data"),
        buckets=str(folder / "buckets"),
    )


@contextlib.contextmanager
def transforming(config: Deployment, folder: Path) -> Iterator[Transforming]:
    """Run the deployment until the block ends."""
    with serving(config, folder / "server") as server:
        yield Transforming(server, folder / "buckets")


def write_model(folder: Path) -> Path:
    """The model of brackets in ``folder``."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(BRACKETS, encoding="utf-8")
    return folder
