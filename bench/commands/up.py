"""``weighbridge up``: the local endpoints, for boto3 and curl."""

import re
from pathlib import Path
from typing import Any

import click
import msgspec

from bench.commands.common import (
    DEVICE_HELP,
    MODEL_HELP,
    PATH,
    SCENARIOS,
    checked_modes,
    device_settings,
    plain_console,
    ready_model,
)
from bench.config import read_experiment, scenario_path
from bench.deployment import Deployment, Endpoint, OpenInference
from bench.measure import Model
from bench.target import TARGETS, Batch, Peer, Target
from bench.up import keep_up

PORT = click.IntRange(0, 65535)
OIP_HELP = "Port of the Open Inference Protocol; if it is taken, a free one."


@click.command()
@click.option("--model", type=PATH, help=MODEL_HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=PORT)
@click.option("--oip-port", default=8000, show_default=True, type=PORT, help=OIP_HELP)
@click.option("--grpc-port", default=8001, show_default=True, type=PORT, help="Its gRPC.")
@click.option("--device", help=DEVICE_HELP)
@click.option(
    "--data",
    type=PATH,
    default="runs/up",
    show_default=True,
    help="Folder of objects and queues, which survive a restart.",
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="As for `run`.")
def up(model: Path | None, host: str, port: int, changes: tuple[str, ...], **given: Any) -> None:
    """Run the endpoints, for boto3, tritonclient and curl.

    They share one address and stay until Ctrl-C.
    """
    changes += device_settings(given["device"])
    console = plain_console()
    experiment = read_experiment(scenario_path("sustained", SCENARIOS), list(changes), SCENARIOS)
    checked_modes(",".join(TARGETS), experiment)
    ready = ready_model(model, console)
    endpoints = [
        Endpoint(f"{_endpoint_name(ready)}-{mode}", _at_once(target), str(ready.path.resolve()))
        for mode, target in experiment.targets.items()
        if mode in TARGETS
    ]
    spoken = OpenInference(_endpoint_name(ready), given["oip_port"], given["grpc_port"])
    folder = str(given["data"].resolve())
    deployment = Deployment(endpoints, host=host, port=port, open_inference=spoken, data=folder)
    keep_up(deployment, console.print)


def _at_once(target: Target | Peer) -> Target | Peer:
    """A batch job's machines take minutes on SageMaker; here nobody waits for them."""
    if not isinstance(target, Batch):
        return target
    return msgspec.structs.replace(target, profile={"placement_median_s": 0.0, **target.profile})


def _endpoint_name(model: Model) -> str:
    """The model's name as the API lets an endpoint be called."""
    return "-".join(re.findall("[a-zA-Z0-9]+", model.name))[:50].strip("-") or "model"
