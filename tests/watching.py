"""A server whose metrics and alarms tests look at, on a clock that stands until it is let go."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from botocore.exceptions import ClientError

from bench.clock import Clock
from bench.deployment import Deployment, Endpoint
from bench.target import Lambda, Realtime
from tests.containers import COMMAND
from tests.serving import ECHO, serving
from tests.test_scheduled_actions import Day

HERE = [
    {"Name": "EndpointName", "Value": "e"},
    {"Name": "VariantName", "Value": "AllTraffic"},
]
FIVE = {"Namespace": "AWS/SageMaker", "MetricName": "Invocation5XXErrors", "Dimensions": HERE}


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[Day]:
    """A real-time endpoint of two instances, a launch of which takes 100 s, and a function."""
    (folder / "model" / "code").mkdir(parents=True)
    (folder / "model" / "code" / "inference.py").write_text(ECHO)
    model = str(folder / "model")
    real = Realtime(profile={"launch_median_s": 100.0, "launch_sigma": 0.0}, instance_count=2)
    endpoints = [
        Endpoint("e", real, model, command=COMMAND),
        Endpoint("f", Lambda(profile={"placement_median_s": 0}), model, command=COMMAND),
    ]
    (folder / "c").mkdir()
    clock = Clock.create(folder / "c", fast_forward=True)
    hold = clock.join()
    hold.update(work=1)
    deployment = Deployment(endpoints, clock=str(folder / "c"), events=str(folder / "events.jsonl"))
    with serving(deployment, folder / "run") as server:
        yield Day(server, clock, hold, folder)
    clock.close()


def quiet(day: Day) -> None:
    """Go to the beginning of a minute, after some of silence."""
    day.wait(300.1 - day.clock.now() % 60)


def ask(day: Day, *statuses: int) -> None:
    """One request for each status that the container is to answer with."""
    runtime = day.server.client()
    for status in statuses:
        with contextlib.suppress(ClientError):
            runtime.invoke_endpoint(EndpointName="e", Body=json.dumps({"status": status}))
