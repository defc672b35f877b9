"""Batch jobs whose agents run in a dask cluster."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench.deployment import Deployment
from bench.errors import ConfigError
from bench.target import Batch
from servers.cluster import cluster_executor
from tests.serving import eventually
from tests.transforming import deployment, transforming, write_model

pytest.importorskip("distributed", reason="the extra weighbridge[dask] is not installed")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

GUARD = """
import sys

def guard(event, arguments):
    if event in ("open", "os.mkdir", "os.rename") and "{forbidden}" in str(arguments[0]):
        raise PermissionError(f"another machine has no {{arguments[0]}}")

sys.addaudithook(guard)
"""
"""Takes a folder away from a worker, as if it ran on another machine."""


@contextlib.contextmanager
def started(module: str, folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of dask's programs, at work in a folder of its own, until the block ends."""
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", "--no-dashboard", *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def cluster(folder: Path, forbidden: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The scheduler's address, and one of two workers, without the folder ``forbidden``."""
    file, guard = folder / "scheduler.json", folder / "guard.py"
    guard.write_text(GUARD.format(forbidden=forbidden))
    where = ("--scheduler-file", str(file))
    alone = ("--no-nanny", "--nthreads", "1", "--preload", str(guard), "--host", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        options = (*where, "--host", "127.0.0.1", "--port", "0")
        stack.enter_context(started("dask_scheduler", folder / "scheduler", *options))
        eventually(file.exists, "dask's scheduler is up", within_s=60)
        for name in ("one", "two"):
            worker = stack.enter_context(started("dask_worker", folder / name, *where, *alone))
        yield json.loads(file.read_text())["address"], worker


def on_cluster(config: Deployment, address: str) -> Deployment:
    """The deployment with its jobs' agents in the cluster, and its objects in the store."""
    (endpoint,) = config.endpoints
    assert isinstance(endpoint.target, Batch)
    target = msgspec.structs.replace(endpoint.target, cluster=address)
    endpoint = msgspec.structs.replace(endpoint, target=target)
    return msgspec.structs.replace(config, endpoints=[endpoint], buckets=None)


def test_workers_that_share_only_an_address_do_a_job(tmp_path: Path) -> None:
    """They see the store and the containers alone; when one is killed, the other does it all."""
    home = tmp_path / "home"
    home.mkdir()
    with cluster(tmp_path, home) as (address, worker):
        config = on_cluster(deployment(write_model(home / "model"), home), address)
        with transforming(config, home) as site:
            s3 = site.client("s3", "/s3")
            s3.create_bucket(Bucket="data")
            for number in range(6):
                s3.put_object(Bucket="data", Key=f"job/in/{number}", Body=b"slow %d\n" % number * 9)
            resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
            strategy = {"BatchStrategy": "SingleRecord"}
            site.run("job", wait=False, TransformResources=resources, **strategy)
            listed = {"Bucket": "data", "Prefix": "job/out"}
            eventually(lambda: s3.list_objects_v2(**listed)["KeyCount"] > 0, "the first output")
            worker.kill()
            site.wait("job")
            described = site.client().describe_transform_job(TransformJobName="job")
            assert described["TransformJobStatus"] == "Completed", described
            for number in range(6):
                found = s3.get_object(Bucket="data", Key=f"job/out/{number}.out")["Body"].read()
                assert found == b"[slow %d]\n" % number * 9


def test_workers_are_told_an_address(tmp_path: Path) -> None:
    """Where the server listens everywhere, they could not know how to reach it."""
    config = on_cluster(deployment(write_model(tmp_path / "model"), tmp_path), "tcp://127.0.0.1:9")
    with (
        pytest.raises(ConfigError, match=r"--host 0\.0\.0\.0"),
        transforming(msgspec.structs.replace(config, host="0.0.0.0"), tmp_path),
    ):
        pass


def test_a_cluster_that_is_not_there_is_named() -> None:
    """With what would start one."""
    with pytest.raises(ConfigError, match="dask scheduler"):
        cluster_executor("tcp://127.0.0.1:9", timeout_s=0.2)
