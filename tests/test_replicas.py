"""Two real instances under load: one is killed, and the endpoint heals by itself."""

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from bench.deployment import Deployment, Endpoint
from bench.raw import read_events
from bench.target import Realtime
from tests.containers import COMMAND
from tests.serving import ECHO, Serving, eventually, serving

pytestmark = pytest.mark.slow

MakeModel = Callable[[str], Path]

CALLERS = 6


class Load:
    """Callers that ask again and again, one request at a time each."""

    def __init__(self, server: Serving) -> None:
        self.server = server
        self.ended = threading.Event()
        self.outcomes: list[tuple[float, str]] = []
        self.threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def _run(self) -> None:
        client = self.server.client()
        while not self.ended.is_set():
            began_s = time.monotonic()
            try:
                answer = client.invoke_endpoint(EndpointName="two", Body=b'{"sleep_s": 0.02}')
                pid = json.loads(answer["Body"].read())["pid"]
                self.outcomes.append((began_s, str(pid)))
            except ClientError as error:
                self.outcomes.append((began_s, error.response["Error"]["Code"]))

    def stop(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def answered_by(self, since_s: float) -> set[str]:
        """Who answered what was asked since then."""
        return {who for began_s, who in self.outcomes if began_s >= since_s and who.isdigit()}


def test_a_killed_replica_loses_only_what_it_held_and_is_replaced(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """At most one request of each caller fails; soon two instances answer again."""
    model = make_model(ECHO)
    target = Realtime(instance_count=2, routing="LEAST_OUTSTANDING_REQUESTS")
    two = Endpoint("two", target, str(model), command=COMMAND)
    deployment = Deployment([two], events=str(tmp_path / "events.jsonl"))
    with serving(deployment, tmp_path / "run") as server:
        load = Load(server)
        try:
            eventually(lambda: len(load.answered_by(0.0)) == 2, "both instances answer")
            victim = server.instances()[0].pid
            killed_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            eventually(
                lambda: len(load.answered_by(killed_s) - {str(victim)}) == 2,
                "two instances answer, the killed one not among them",
                within_s=60.0,
            )
        finally:
            load.stop()
    failed = [code for _, code in load.outcomes if not code.isdigit()]
    assert len(failed) <= CALLERS
    assert set(failed) <= {"ModelError"}
    stopped = [e for e in read_events(tmp_path) if e["kind"] == "instance_stopped"]
    assert stopped[0]["reason"] == "ended with status -9"


def test_an_instance_that_says_it_is_unwell_is_restarted(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """A container whose /ping answers 503 is taken out, ended and replaced."""
    profile = {"health_check_interval_s": 0.05, "unhealthy_after": 2}
    one = Endpoint("one", Realtime(profile=profile), str(make_model(ECHO)), command=COMMAND)
    deployment = Deployment([one], events=str(tmp_path / "events.jsonl"))
    with serving(deployment, tmp_path / "run") as server:
        client = server.client()

        def pid() -> Any:
            try:
                answer = client.invoke_endpoint(EndpointName="one", Body=b"{}")
            except ClientError as error:
                assert error.response["Error"]["Code"] == "ServiceUnavailable"  # noqa: PT017
                return None
            return json.loads(answer["Body"].read())["pid"]

        before = pid()
        client.invoke_endpoint(EndpointName="one", Body=b'{"sick": true}')
        eventually(lambda: pid() not in (None, before), "another instance answers")
    reasons = [e["reason"] for e in read_events(tmp_path) if e["kind"] == "instance_stopped"]
    assert reasons == ["unhealthy: 2 health checks failed in a row", "closed"]


def test_prometheus_reads_the_metrics(tmp_path: Path, make_model: MakeModel) -> None:
    """Counters, latencies and instances of each variant, in the text that Prometheus parses."""
    one = Endpoint("one", Realtime(), str(make_model(ECHO)), command=COMMAND)
    deployment = Deployment([one], metrics=str(tmp_path / "metrics.jsonl"))
    with serving(deployment, tmp_path / "run") as server:
        client = server.client()
        for status in (200, 200, 404):
            body = json.dumps({"status": status}).encode()
            try:
                client.invoke_endpoint(EndpointName="one", Body=body)
            except ClientError:
                assert status == 404
        with urllib.request.urlopen(f"{server.address}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            values = {
                (sample.name, sample.labels.get("le")): sample.value
                for family in families
                for sample in family.samples
            }
    assert values["sagemaker_invocations_total", None] == 3
    assert values["sagemaker_invocation_4xx_errors_total", None] == 1
    assert values["sagemaker_invocation_model_errors_total", None] == 1
    assert values["sagemaker_concurrent_requests_per_model", None] == 0
    assert values["sagemaker_model_latency_microseconds_count", None] == 3
    assert values["sagemaker_model_latency_microseconds_bucket", "+Inf"] == 3
    assert values["sagemaker_instances", None] == 1
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    latency = next(each for each in written if each["kind"] == "ModelLatency")
    assert (latency["count"], latency["unit"], latency["variant"]) == (
        3,
        "Microseconds",
        "AllTraffic",
    )
    assert 0 < latency["min"] <= latency["max"] <= latency["sum"]
