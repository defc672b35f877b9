"""Batch jobs whose agents run in a dask cluster."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench.errors import ConfigError
from bench.target import Batch
from servers.cluster import cluster_executor
from tests.transforming import deployment, transforming, write_model

pytest.importorskip("distributed", reason="the extra weighbridge[dask] is not installed")

pytestmark = pytest.mark.slow

CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(host="127.0.0.1", **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """The scheduler's address of two workers in processes of their own."""
    program = folder / "cluster.py"
    program.write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def test_two_workers_of_a_cluster_do_a_job(tmp_path: Path) -> None:
    """The same outputs come from another executor."""
    with cluster(tmp_path) as address:
        config = deployment(write_model(tmp_path / "model"), tmp_path, max_restarts=10)
        target = config.endpoints[0].target
        assert isinstance(target, Batch)
        endpoint = msgspec.structs.replace(
            config.endpoints[0], target=msgspec.structs.replace(target, cluster=address)
        )
        config = msgspec.structs.replace(config, endpoints=[endpoint])
        with transforming(config, tmp_path) as site:
            for number in range(6):
                site.put(f"data/job/in/{number}", b"slow %d\n" % number * 20)
            resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
            described = site.run("job", TransformResources=resources, BatchStrategy="SingleRecord")
            assert described["TransformJobStatus"] == "Completed", described
            expected = {f"{n}.out": b"[slow %d]\n" % n * 20 for n in range(6)}
            assert site.outputs("data/job/out") == expected


def test_a_cluster_that_is_not_there_is_named() -> None:
    """With what would start one."""
    with pytest.raises(ConfigError, match="dask scheduler"):
        cluster_executor("tcp://127.0.0.1:9")
