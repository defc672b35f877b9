"""Killed at random points: each accepted request has one outcome, whole, and nothing stays behind.

``WEIGHBRIDGE_KILLS=200`` makes it as long as the nightly form.
"""

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from bench.deployment import Deployment
from bench.target import Async
from servers.backlog_nats import NatsBacklog
from tests.asynchronous import (
    BUCKET,
    MODEL,
    ask,
    deployed,
    found,
    get,
    lines,
    nats_server,
    outcome,
    s3,
)
from tests.serving import Serving, eventually, serving

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("WEIGHBRIDGE_KILLS", "20"))
NATS_KILLS = KILLS if "WEIGHBRIDGE_KILLS" in os.environ else 6
NATS_LEASE_S = 7.0
"""Little longer than the time in which a server renews it: a killed one's jobs wait it out."""
TARGET = Async(min_instances=1, max_concurrency=2)

MakeModel = Callable[[str], Path]


def fill(number: int) -> bytes:
    """What request ``number`` sends: it says how long it is."""
    size = 100 + number * 7919 % 90_000
    return b"%010d" % size + bytes([number % 256]) * (size - 10)


def send(server: Serving, numbers: range, accepted: dict[int, dict[str, Any]]) -> None:
    """Invoke; a call that broke may have been accepted or not, so it is not counted."""
    for number in numbers:
        try:
            accepted[number] = ask(server, fill(number), InferenceId=f"n{number}")
        except (ClientError, BotoCoreError):
            continue


def kill_a_container(server: Serving, draw: random.Random) -> None:
    containers = server.instances()
    if containers:
        draw.choice(containers).send_signal(signal.SIGKILL)


@pytest.mark.timeout(60 + 6 * KILLS)
def test_nothing_is_lost_whatever_is_killed(tmp_path: Path, make_model: MakeModel) -> None:
    """Containers and servers by turns, at random moments, with requests coming all the time."""
    model, data = make_model(MODEL), tmp_path / "data"
    target, draw = deployed(model, TARGET, data), random.Random(KILLS)
    accepted = killed_at_random(target, tmp_path, KILLS, lambda: None, draw)
    each_has_one_outcome(target, tmp_path, accepted)
    with lmdb.open(str(data / "backlog" / "later.lmdb"), subdir=False, max_dbs=2) as queue:
        bodies = queue.open_db(b"bodies", create=False)
        with queue.begin() as transaction:
            assert [key for key, _ in transaction.cursor()] == [b"bodies", b"boot", b"expiry"]
            assert transaction.stat(bodies)["entries"] == 0


@pytest.mark.timeout(120 + 9 * NATS_KILLS)
def test_nothing_is_lost_on_nats_either(tmp_path: Path, make_model: MakeModel) -> None:
    """The queue's own server is killed, too; afterwards it holds no job, no lease, no decision."""
    draw, model = random.Random(NATS_KILLS), make_model(MODEL)
    with nats_server(tmp_path / "nats") as nats:

        def kill_the_queue() -> None:
            nats.kill()
            nats.start()

        asyncio.run(lease_for(nats.url, NATS_LEASE_S))
        target = msgspec.structs.replace(TARGET, backlog_url=nats.url)
        given = deployed(model, target, tmp_path / "data")
        accepted = killed_at_random(given, tmp_path, NATS_KILLS, kill_the_queue, draw)
        each_has_one_outcome(given, tmp_path, accepted)
        assert asyncio.run(left_over(nats.url)) == (0, 0)


def killed_at_random(
    deployment: Deployment,
    folder: Path,
    kills: int,
    kill_the_queue: Callable[[], None],
    draw: random.Random,
) -> dict[int, dict[str, Any]]:
    """What was accepted while containers, the queue and servers were killed by turns."""
    accepted: dict[int, dict[str, Any]] = {}
    done = 0
    while done < kills:
        with serving(deployment, folder / f"run{done}") as server:
            for _ in range(3):
                send(server, range(10 * done, 10 * done + 10), accepted)
                time.sleep(draw.uniform(0, 0.3))  # the random moment
                done += 1
                if done % 3 == 0:
                    os.kill(server.child.pid, signal.SIGKILL)
                    break
                kill_a_container(server, draw)
                if done % 3 == 2:
                    kill_the_queue()
    assert len(accepted) >= kills * 5
    return accepted


def each_has_one_outcome(
    deployment: Deployment, folder: Path, accepted: dict[int, dict[str, Any]]
) -> None:
    """One new server brings what is left to its end, and no object is torn."""
    with serving(deployment, folder / "last") as server:
        client = s3(server)
        wanted = {str(answer["InferenceId"]) for answer in accepted.values()}
        eventually(lambda: not wanted - ended(client), "each has an outcome", 60)
        eventually(lambda: not backlog(server), "the backlog is empty", 60)
        given_up = 0
        for number, answer in accepted.items():
            outcomes = [found(client, answer[f"{kind}Location"]) for kind in ("Output", "Failure")]
            assert sum(each is not None for each in outcomes) == 1, (number, answer)
            if outcomes[0] is None:  # given up, which only the fifth end on the way may cause
                assert re.search(rb"ended 5 times|after 5 attempts", outcomes[1] or b""), number
                given_up += 1
            else:
                assert outcomes[0] == fill(number), f"the object of {number} is torn"
        # How many kills hit the same request is chance and load; most are not hit so often.
        assert given_up < len(accepted) / 4


def ended(client: Any) -> set[str]:
    """Inference ids with a result or a failure in the store."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [Path(each["Key"]) for page in pages for each in page.get("Contents", [])]
    return {key.stem for key in keys if key.parent.name in ("output", "failure")}


async def lease_for(url: str, lease_s: float) -> None:
    """Make the queue with this lease, which whoever opens it then keeps."""
    queue = NatsBacklog(url, "later", lease_s=lease_s)
    await queue.open()
    await queue.close()


async def left_over(url: str) -> tuple[int, int]:
    """Jobs that the queue holds, and the decisions."""
    queue = NatsBacklog(url, "later")
    await queue.open()
    try:
        jobs = (await queue.counts()).all
        bucket = await queue._jetstream.stream_info("KV_weighbridge-later-decided")
        return jobs, bucket.state.messages
    finally:
        await queue.close()


def backlog(server: Serving) -> int:
    status = get(server, "/status")["later"]
    return int(status["backlog"] + status["in_flight"])


def test_two_servers_share_one_queue(tmp_path: Path, make_model: MakeModel) -> None:
    """Both work on it, each request is done once, and one goes on when the other is killed."""
    model, data, told = make_model(MODEL), tmp_path / "data", tmp_path / "told.jsonl"
    target = Async(min_instances=1, max_concurrency=1, success_topic=f"file:{told}")
    with (
        serving(deployed(model, target, data), tmp_path / "one") as one,
        serving(deployed(model, target, data), tmp_path / "two") as two,
    ):
        answers = [ask(one, b"sleep0.05 %d" % number) for number in range(40)]
        eventually(
            lambda: all(get(each, "/status")["later"]["in_flight"] for each in (one, two)),
            "both are at work",
        )
        os.kill(one.child.pid, signal.SIGKILL)
        for answer in answers:
            assert outcome(two, answer)[0] == "output"
        eventually(lambda: not backlog(two), "the backlog is empty")
    ids = [line["inferenceId"] for line in lines(told) if line["eventName"] == "InferenceResult"]
    assert sorted(set(ids)) == sorted(answer["InferenceId"] for answer in answers)
    assert len(ids) <= len(answers) + 1  # killed between message and end, one is told again


def test_a_disk_without_room_loses_nothing(tmp_path: Path, make_model: MakeModel) -> None:
    """The result waits until there is room; meanwhile no new request is accepted.

    A limit on the size of files stands for the full disk: writing fails in the same way.
    """
    with serving(deployed(make_model(MODEL), TARGET), tmp_path / "run") as server:
        client, body = s3(server), os.urandom(8 << 20)
        client.put_object(Bucket=BUCKET, Key="input", Body=body)
        process = psutil.Process(server.child.pid)
        process.rlimit(psutil.RLIMIT_FSIZE, (4 << 20, psutil.RLIM_INFINITY))
        answer = server.client().invoke_endpoint_async(
            EndpointName="later", InputLocation=f"s3://{BUCKET}/input"
        )
        eventually(lambda: "cannot be written" in server.child.log.read_text(), "it has failed")
        assert found(client, answer["OutputLocation"]) is None
        process.rlimit(psutil.RLIMIT_FSIZE, (1, psutil.RLIM_INFINITY))
        with pytest.raises(ClientError) as caught:
            ask(server, b"x" * 1000)
        assert caught.value.response["Error"]["Code"] == "ServiceUnavailable"
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        assert outcome(server, answer) == ("output", body)
