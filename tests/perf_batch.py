"""What a batch job costs beside the model itself: ``make perf ARGS=batch``.

``WEIGHBRIDGE_BATCH_RECORDS`` (1e6) is the largest input of the linearity, ``WEIGHBRIDGE_BATCH_MB``
(500) the size of that whose memory is watched, ``WEIGHBRIDGE_BATCH_JOB_MB`` (50) that of the
checked job; 1e7, 10000 and 1000 are the nightly form. ``WEIGHBRIDGE_BATCH_PARTS`` names some of the
parts: split, bare, memory, linear, checked. Nothing that is waited for takes longer than LONGEST_S.
"""

import http.client
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import numpy as np
import orjson

from bench.deployment import Deployment, Endpoint
from bench.process import peak_memory_bytes
from bench.target import Batch, Realtime
from servers.agent import ObjectOrder, ObjectResult, ready, transform_object
from servers.caller import CallOrder
from servers.digits.build import build
from servers.job_run import local_executor
from servers.places import Draft, file_location, read_chunks
from servers.samples import samples
from servers.splitting import Splitting, mini_batches
from tests.conftest import CACHE
from tests.http_container import container
from tests.serving import serving

RECORDS = int(float(os.environ.get("WEIGHBRIDGE_BATCH_RECORDS", "1e6")))
MEMORY_MB = int(os.environ.get("WEIGHBRIDGE_BATCH_MB", "500"))
JOB_MB = int(os.environ.get("WEIGHBRIDGE_BATCH_JOB_MB", "50"))
COMPARED = 100_000
"""Records of the jobs that are timed against a bare loop."""
LONGEST_S = 3600.0
TOGETHER = 256
ALONE = 2_000
ID_STEP = 1 << 32
"""Between the first ids of two objects of the checked job."""
LINEAR = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)

BARE = """
import sys, time, orjson, torch
sys.path.insert(0, sys.argv[1] + "/code")
import inference
torch.set_num_threads(1)
model = inference.model_fn(sys.argv[1])
inference.model_warmup_fn(sys.argv[1], model)
began = time.perf_counter()
with open(sys.argv[2], "rb") as source, open(sys.argv[3], "wb") as target, torch.inference_mode():
    while lines := source.readlines(int(sys.argv[4])):
        images = torch.tensor([orjson.loads(line) for line in lines], dtype=torch.float32)
        best = model(images).softmax(dim=1).max(dim=1)
        for label, p in zip(best.indices.tolist(), best.values.tolist()):
            target.write(orjson.dumps({"label": label, "probability": round(p, 4)}) + b"\\n")
print(time.perf_counter() - began)
"""
"""The loop that one would write by hand: orjson, a torch batch, orjson."""


def batch(folder: Path) -> list[str]:
    """All rows of the table."""
    rows = ["| batch transform | found | goal | |", "|---|---|---|---|"]
    for name in os.environ.get("WEIGHBRIDGE_BATCH_PARTS", ",".join(PARTS)).split(","):
        below = folder / name
        below.mkdir()
        began = time.monotonic()
        rows += PARTS[name](below)
        shutil.rmtree(below)
        rows.append(_row(f"the part {name}", f"{time.monotonic() - began:.0f} s"))
    return rows


def _row(what: str, found: str, goal: str = "", kept: bool | None = None) -> str:
    verdict = "" if kept is None else "pass" if kept else "FAIL"
    return f"| {what} | {found} | {goal} | {verdict} |"


def _images() -> list[bytes]:
    return [orjson.dumps(orjson.loads(each)) for each in samples(build(CACHE / "weighbridge"))]


def _dataset(path: Path, count: int) -> int:
    """``count`` digits as JSON Lines; its bytes."""
    lines = [image + b"\n" for image in _images()]
    block = b"".join(lines)
    with path.open("wb") as file:
        for _ in range(count // len(lines)):
            file.write(block)
        file.write(b"".join(lines[: count % len(lines)]))
    return path.stat().st_size


def _split_and_assemble(folder: Path) -> list[str]:
    """Reading, cutting and writing alone: the model's answers are the lines themselves."""
    size = _dataset(folder / "in", COMPARED)
    took = []
    for _ in range(5):
        began = time.process_time()
        with Draft(file_location(folder / "out"), folder / "draft") as draft:
            for part in mini_batches(
                read_chunks(file_location(folder / "in")), Splitting("Line", limit_bytes=6 << 20)
            ):
                draft.write(part.body)
            draft.publish()
        took.append(time.process_time() - began)
    rate = size / 1e6 / float(np.median(took))
    assert (folder / "out").read_bytes() == (folder / "in").read_bytes()
    return [_row("split and assemble, a core", f"{rate:,.0f} MB/s", ">= 150 MB/s", rate >= 150)]


def _jobs(folder: Path) -> Deployment:
    (folder / "buckets" / "data").mkdir(parents=True, exist_ok=True)
    archive = str(build(CACHE / "weighbridge"))
    return Deployment(
        [
            Endpoint("digits", Batch(profile={"placement_median_s": 0.0}), archive),
            Endpoint("kept", Realtime(), archive),
        ],
        data=str(folder / "data"),
        buckets=str(folder / "buckets"),
    )


def _client(address: str) -> Any:
    return boto3.client(
        "sagemaker",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )


def _job(address: str, name: str, instances: int = 1, **more: Any) -> float:
    """Run a job over ``data/in`` with the waiter; seconds from its start to its end."""
    client, lines = _client(address), "application/jsonlines"
    where = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in"}}
    client.create_transform_job(
        TransformJobName=name,
        ModelName="digits",
        TransformInput={"DataSource": where, "ContentType": lines, "SplitType": "Line"},
        TransformOutput={
            "S3OutputPath": f"s3://data/{name}",
            "Accept": lines,
            "AssembleWith": "Line",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": instances},
        **more,
    )
    waiter = client.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": int(LONGEST_S)})
    job = client.describe_transform_job(TransformJobName=name)
    assert job["TransformJobStatus"] == "Completed", job
    return float((job["TransformEndTime"] - job["TransformStartTime"]).total_seconds())


def _against_a_bare_loop(folder: Path) -> list[str]:
    """The same records in the same batches: by hand, as a job, and one record at a time."""
    with serving(_jobs(folder), folder / "server") as server:
        source = folder / "buckets" / "data" / "in" / "x.jsonl"
        source.parent.mkdir()
        size = _dataset(source, COMPARED)
        jobs, bare = [], []
        for number in range(3):
            bare.append(_bare(folder, source, size // COMPARED * TOGETHER))
            jobs.append(_job(server.address, f"job-{number}", MaxPayloadInMB=1))
        alone_s = _one_at_a_time(server.address)
    job_s, bare_s = float(np.median(jobs)), float(np.median(bare))
    share = bare_s / job_s
    return [
        _row("records a second, bare loop", f"{COMPARED / bare_s:,.0f}"),
        _row(
            "records a second, a job of one instance",
            f"{COMPARED / job_s:,.0f} ({share:.2f} of the bare loop)",
            ">= 0.8",
            share >= 0.8,
        ),
        _row(
            "records a second, one at a time as SDK local mode does",
            f"{1 / alone_s:,.0f} (the job: {COMPARED / job_s * alone_s:.0f} times as many)",
        ),
    ]


def _bare(folder: Path, source: Path, block: int) -> float:
    model = folder / "model"
    if not model.exists():
        from servers.archive import unpack_model

        unpack_model(build(CACHE / "weighbridge"), model)
    command = [
        sys.executable,
        "-c",
        BARE,
        str(model),
        str(source),
        str(folder / "bare"),
        str(block),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kept: dict[str, Any] = {"capture_output": True, "text": True, "check": True}
    done = subprocess.run(command, env=environment, timeout=LONGEST_S, **kept)
    return float(done.stdout)


def _one_at_a_time(address: str) -> float:
    """Seconds a record, each a request of its own to a kept endpoint."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    images = _images()
    began = time.perf_counter()
    for number in range(ALONE):
        headers = {"Content-Type": "application/json"}
        body = images[number % len(images)]
        connection.request("POST", "/endpoints/kept/invocations", body, headers)
        connection.getresponse().read()
    return (time.perf_counter() - began) / ALONE


def _agent_order(folder: Path, url: str) -> ObjectOrder:
    return ObjectOrder(
        0,
        file_location(folder / "in"),
        file_location(folder / "out"),
        CallOrder(url),
        str(folder / "draft"),
        split="Line",
    )


def _in_an_agent(work: Callable[[Executor], Any]) -> Any:
    executor = local_executor(1)
    try:
        executor.submit(ready).result()
        return work(executor)
    finally:
        executor.shutdown()


def _memory(folder: Path) -> list[str]:
    """An agent's memory over an input of many times its size, fed through a pipe."""
    os.mkfifo(folder / "in")
    block = b"".join(image + b"\n" for image in _images()) * 100

    def feed() -> None:
        with (folder / "in").open("wb") as pipe:
            for _ in range(MEMORY_MB * 1_000_000 // len(block)):
                pipe.write(block)

    feeder = threading.Thread(target=feed, daemon=True)  # it waits for a reader
    feeder.start()
    with container(lambda body, _: (200, b"1\n" * body.count(b"\n"))) as url:

        def peaks(executor: Executor) -> tuple[int, int]:
            before = executor.submit(peak_memory_bytes).result()
            work = executor.submit(transform_object, _agent_order(folder, url))
            result = work.result(LONGEST_S)
            assert result.status == "done", result
            return before, executor.submit(peak_memory_bytes).result()

        before, after = _in_an_agent(peaks)
    feeder.join()
    grown = (after - before) / 1e6
    what = f"peak memory over {MEMORY_MB / 1000:g} GB of input"
    return [_row(what, f"{grown:.0f} MB more", "<= 300 MB", grown <= 300)]


def _cpu_of(order: ObjectOrder) -> tuple[ObjectResult, float]:
    began = time.process_time()
    return transform_object(order), time.process_time() - began


def _linear(folder: Path) -> list[str]:
    """CPU time of an agent a record as inputs grow, the best of three; the container only counts.

    CPU time: what else the machine does, its disk included, is another matter.
    """
    with container(lambda body, _: (200, b"1\n" * body.count(b"\n"))) as url:

        def times(executor: Executor) -> Iterator[tuple[int, float]]:
            for count in LINEAR:
                if count > RECORDS:
                    return
                _dataset(folder / "in", count)
                took = []
                for _ in range(3):
                    work = executor.submit(_cpu_of, _agent_order(folder, url))
                    result, used_s = work.result(LONGEST_S)
                    took.append(used_s)
                    assert result.records == count, result
                yield count, min(took)

        found = _in_an_agent(lambda executor: list(times(executor)))
    each_us = [took / count * 1e6 for count, took in found]
    cells = ", ".join(f"{count:,}: {us:.2f}" for (count, _), us in zip(found, each_us, strict=True))
    # A record never costs more because there are more; fewer share what an object costs.
    kept = all(later <= earlier * 1.25 for earlier, later in itertools.pairwise(each_us))
    return [
        _row(
            "CPU microseconds of the agent a record, without a model",
            cells,
            "none 1.25 times the one before",
            kept,
        )
    ]


def _checked_job(folder: Path) -> list[str]:
    """A job with filters and join through boto3 and its waiter; every record is checked."""
    with serving(_jobs(folder), folder / "server") as server:
        images, data = _images(), folder / "buckets" / "data"
        instances = min(4, os.cpu_count() or 1)
        counts = [_numbered(data / "in" / f"{n}.jsonl", n, instances) for n in range(instances)]
        took = _job(
            server.address,
            "checked",
            instances,
            DataProcessing={
                "InputFilter": "$.image",
                "JoinSource": "Input",
                "OutputFilter": "$['id','SageMakerOutput']",
            },
        )
        labels: list[Any] = [None] * len(images)
        for number, count in enumerate(counts):
            _check(data / "checked" / f"{number}.jsonl.out", number * ID_STEP, count, labels)
    wrong = sum(
        orjson.loads(sample)["label"] != label
        for sample, label in zip(_labelled(), labels, strict=True)
    )
    found = f"{sum(counts):,} records in {took:.0f} s by {instances} instances, "
    found += f"{sum(counts) / took:,.0f} a second; {wrong} of {len(images)} digits misread"
    # _check has raised otherwise.
    what = f"{JOB_MB / 1000:g} GB with filters and join, every record checked"
    return [_row(what, found, "all in place", True)]


def _numbered(path: Path, number: int, parts: int) -> int:
    """One of so many parts of the checked job's input; how many records it has."""
    images, count = _images(), 0
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        while file.tell() < JOB_MB * 1_000_000 // parts:
            first = number * ID_STEP + count
            lines = [b'{"id":%d,"image":%s}\n' % (first + n, i) for n, i in enumerate(images)]
            file.write(b"".join(lines))
            count += len(images)
    return count


def _check(output: Path, first: int, count: int, labels: list[Any]) -> None:
    """Every record is there, in its place, with the label that its image always has."""
    seen = 0
    with output.open("rb") as file:
        for number, line in enumerate(file):
            record = orjson.loads(line)
            expected, label = labels[number % len(labels)], record["SageMakerOutput"]["label"]
            assert record["id"] == first + number, line
            assert expected in (None, label), line
            labels[number % len(labels)] = label
            seen += 1
    assert seen == count, f"{output.name}: {seen} of {count} records"


def _labelled() -> list[bytes]:
    import tarfile

    with tarfile.open(build(CACHE / "weighbridge")) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("samples.json"))
        file = archive.extractfile(member)
        assert file is not None
        return [orjson.dumps(each) for each in orjson.loads(file.read())]


PARTS: dict[str, Callable[[Path], list[str]]] = {
    "split": _split_and_assemble,
    "bare": _against_a_bare_loop,
    "memory": _memory,
    "linear": _linear,
    "checked": _checked_job,
}
