"""``weighbridge transform``: a batch transform job over files of this machine."""

import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.live import Live
from rich.text import Text

from bench.children import start_servers, wait_for_servers
from bench.commands.common import MODEL_HELP, PATH, plain_console, ready_model
from bench.deployment import Deployment, Endpoint
from bench.errors import FAILED, PASSED, ConfigError
from bench.target import Batch

POLL_S = 0.25


@dataclass(frozen=True)
class TransformOptions:
    """The options of ``weighbridge transform``, as click gives them."""

    source: Path
    out: Path
    model: Path | None
    name: str
    data: Path
    content_type: str
    accept: str | None
    split: str
    strategy: str | None
    max_payload_mb: int
    concurrent: int
    instances: int
    input_filter: str
    join: bool
    output_filter: str
    gzip: bool


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True), metavar="FILE_OR_FOLDER")
@click.option("--out", type=PATH, required=True, help="Folder that takes the .out files.")
@click.option("--model", type=PATH, help=MODEL_HELP)
@click.option(
    "--name",
    default=lambda: f"job-{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
    show_default="the moment",
    help="Name of the job. The name of one that was killed takes it up again.",
)
@click.option("--data", type=PATH, default="runs/transform", show_default=True, help="Keeps jobs.")
@click.option("--content-type", default="application/jsonlines", show_default=True)
@click.option("--accept", help="Default: the content type.")
@click.option(
    "--split",
    type=click.Choice(["None", "Line", "RecordIO", "TFRecord"]),
    default="Line",
    show_default=True,
)
@click.option("--strategy", type=click.Choice(["MultiRecord", "SingleRecord"]))
@click.option("--max-payload-mb", type=click.IntRange(0, 100), default=6, show_default=True)
@click.option("--concurrent", type=click.IntRange(0, 100), default=0, help="0: the model decides.")
@click.option("--instances", type=click.IntRange(1, 100), default=1, show_default=True)
@click.option("--input-filter", default="$", show_default=True, help="JSONPath for the model.")
@click.option("--join", is_flag=True, help="Join each record with its answer.")
@click.option("--output-filter", default="$", show_default=True, help="JSONPath for the output.")
@click.option("--gzip", is_flag=True, help="The inputs are packed.")
def transform(**given: Any) -> None:
    """Transform files by a batch job.

    Each input gets an output beside the others in --out, called like it with .out.
    """
    options = TransformOptions(**given)
    console = plain_console()
    model = ready_model(options.model, console)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
        deployment = _deployment(options, model.path, Path(folder))
        console.print("Starting …")
        servers = start_servers(deployment, Path(folder))
        try:
            ready = wait_for_servers(servers)
            job = _followed(options, ready["address"], console.is_terminal)
        finally:
            servers.stop()
    for line in _told(job, options):
        console.print(line, soft_wrap=True)
    sys.exit(PASSED if job["TransformJobStatus"] == "Completed" else FAILED)


def _deployment(options: TransformOptions, model: Path, folder: Path) -> Deployment:
    """A server whose buckets are the folders of the command line."""
    buckets = folder / "buckets"
    buckets.mkdir()
    source = options.source.resolve()
    (buckets / "in").symlink_to(source if source.is_dir() else source.parent)
    (buckets / "out").symlink_to(options.out.resolve())
    target = Batch(max_instances=options.instances, profile={"placement_median_s": 0.0})
    return Deployment(
        [Endpoint("model", target, str(model.resolve()))],
        data=str(options.data.resolve()),
        buckets=str(buckets),
    )


def _followed(options: TransformOptions, address: str, terminal: bool) -> dict[str, Any]:
    """Create the job, or take it up; what it is in the end."""
    from scenarios.jobs_api import ENDED, JobRefused, JobsApi

    api = JobsApi(address)
    try:
        api.call("CreateTransformJob", **_request(options))
    except JobRefused as error:
        if error.code != "ResourceInUse":
            raise ConfigError(str(error)) from None
    with Live(refresh_per_second=4, transient=True) if terminal else _Quiet() as live:
        while True:
            job = api.call("DescribeTransformJob", TransformJobName=options.name)
            if job["TransformJobStatus"] in ENDED:
                return job
            live.update(Text(progress_line(job.get("Progress"))))
            time.sleep(POLL_S)


def _request(options: TransformOptions) -> dict[str, Any]:
    prefix = "" if options.source.is_dir() else options.source.name
    assemble = "Line" if options.split == "Line" else "None"
    wanted: dict[str, Any] = {
        "TransformJobName": options.name,
        "ModelName": "model",
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://in/{prefix}"}
            },
            "ContentType": options.content_type,
            "SplitType": options.split,
            "CompressionType": "Gzip" if options.gzip else "None",
        },
        "TransformOutput": {
            "S3OutputPath": "s3://out",
            "Accept": options.accept or options.content_type,
            "AssembleWith": assemble,
        },
        "TransformResources": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": options.instances,
        },
        "MaxPayloadInMB": options.max_payload_mb,
        "MaxConcurrentTransforms": options.concurrent,
        "DataProcessing": {
            "InputFilter": options.input_filter,
            "OutputFilter": options.output_filter,
            "JoinSource": "Input" if options.join else "None",
        },
    }
    if options.strategy:
        wanted["BatchStrategy"] = options.strategy
    return wanted


class _Quiet:
    """Where there is no terminal, nothing is drawn."""

    def __enter__(self) -> "_Quiet":
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, _: Text) -> None: ...


def progress_line(progress: dict[str, Any] | None) -> str:
    """How far a job is, in one line."""
    if progress is None:
        return "starting the model"
    eta_s = progress.get("EtaS")
    left = "" if eta_s is None else f", {eta_s:,.0f} s left"
    return (
        f"{progress['Records']:,} records, {progress['DoneBytes'] / 1e6:,.1f} of "
        f"{progress['TotalBytes'] / 1e6:,.1f} MB, {progress['RateRps']:,.0f} records/s, "
        f"{progress['RateBytesPerS'] / 1e6:,.1f} MB/s{left}"
    )


def _told(job: dict[str, Any], options: TransformOptions) -> list[str]:
    progress = job.get("Progress")
    lines = [progress_line(progress)] if progress else []
    lines.append(f"{job['TransformJobName']}: {job['TransformJobStatus']}")
    if job.get("FailureReason"):
        lines.append(job["FailureReason"])
        lines.append(f"Log: {options.data / 'jobs' / options.name / 'job.log'}")
    return [*lines, f"Outputs: {options.out}"]
