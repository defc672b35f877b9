"""From zero, to zero and in between: the decisions, and a real endpoint on a skipping clock."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.arrivals import Bursts
from bench.clock import Clock
from bench.measure import Model, Order, measure
from bench.raw import read_events
from bench.target import Async
from bench.workload import Objective, Workload
from servers.async_scaling import Scaler
from servers.backlog import Counts
from servers.profile import profile_for
from tests.asynchronous import MODEL, ask, deployed, get, metric, outcome, s3
from tests.serving import eventually, serving

MakeModel = Callable[[str], Path]
MINUTE = 60.0


def scaler(target: Async) -> Scaler:
    return Scaler(target, profile_for(target))


def minutes(scaler: Scaler, backlog: int, capacity: int, count: int, start: int = 0) -> list[int]:
    """What is wanted after each of ``count`` minutes with this backlog."""
    counts = Counts(backlog, 0, 0.0)
    return [
        scaler.look((start + number) * MINUTE, counts, capacity) for number in range(1, count + 1)
    ]


def test_the_first_request_wakes_it_after_two_datapoints() -> None:
    """HasBacklogWithoutCapacity, 2 of 2 minutes; once is enough for the launch."""
    assert minutes(scaler(Async()), 1, 0, 4) == [0, 1, 1, 1]


def test_without_that_policy_only_a_backlog_above_the_target_wakes_it() -> None:
    """Five wait for ever, six wake it after three datapoints; the number is in proportion."""
    target = Async(wake_on_first_request=False, max_instances=4)
    assert minutes(scaler(target), 5, 0, 10) == [0] * 10
    assert minutes(scaler(target), 6, 0, 3) == [0, 0, 2]


def test_it_grows_in_proportion_to_the_backlog() -> None:
    """Twenty for one instance with a target of five: four, and no more than allowed."""
    assert minutes(scaler(Async(min_instances=1, max_instances=9)), 20, 1, 3) == [1, 1, 4]
    assert minutes(scaler(Async(min_instances=1, max_instances=2)), 20, 1, 3) == [1, 1, 2]


def test_it_goes_to_zero_after_a_quarter_of_an_hour() -> None:
    """With nothing to do for fifteen datapoints, not fourteen."""
    woken = scaler(Async())
    assert minutes(woken, 1, 0, 2) == [0, 1]
    assert minutes(woken, 0, 1, 15, start=10) == [1] * 14 + [0]


def test_it_does_not_go_below_its_minimum() -> None:
    """Two instances stay for ever."""
    assert set(minutes(scaler(Async(min_instances=2, max_instances=3)), 0, 2, 60)) == {2}


@pytest.mark.slow
def test_a_request_expires_in_the_queue(tmp_path: Path, make_model: MakeModel) -> None:
    """With no instance in its time, it ends in a failure object, and is counted."""
    target = Async(wake_on_first_request=False)
    clock = Clock.create(tmp_path, fast_forward=True)
    deployment = deployed(make_model(MODEL), target)
    deployment = msgspec.structs.replace(deployment, clock=str(tmp_path))
    with serving(deployment, tmp_path / "run") as server:
        began_s = clock.now()
        kind, text = outcome(server, ask(server, b"x", RequestTTLSeconds=3600))
        assert kind == "failure"
        assert b"expired after 3600 seconds" in text
        assert clock.now() - began_s >= 3600
        eventually(lambda: metric(server, "ExpiredRequests") == 1, "it is counted")
        assert metric(server, "ApproximateAgeOfOldestRequest", "maximum") > 3000
    clock.close()


@pytest.mark.slow
def test_the_clock_does_not_turn_to_the_expiry_of_what_is_done(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """An instance that stays would be billed for six hours after the last request."""
    clock = Clock.create(tmp_path, fast_forward=True)
    deployment = deployed(make_model(MODEL), Async(min_instances=1))
    deployment = msgspec.structs.replace(deployment, clock=str(tmp_path))
    with serving(deployment, tmp_path / "run") as server:
        for _ in range(2):
            assert outcome(server, ask(server, b"x")) == ("output", b"x")
            eventually(lambda: get(server, "/status")["later"]["in_flight"] == 0, "it is forgotten")
        assert clock.now() < 3600
    clock.close()


@pytest.mark.slow
def test_an_external_store_serves_as_well(tmp_path: Path, make_model: MakeModel) -> None:
    """Any S3-compatible one by its address: here that of another server."""
    model = make_model(MODEL)
    with serving(deployed(model, Async()), tmp_path / "store") as store:
        target = Async(min_instances=1, store_url=f"{store.address}/s3")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "any")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
            with serving(deployed(model, target), tmp_path / "run") as server:
                body = bytes(range(256)) * 80_000
                s3(store).put_object(Bucket="weighbridge-async", Key="in", Body=body)
                answer = server.client().invoke_endpoint_async(
                    EndpointName="later", InputLocation="s3://weighbridge-async/in"
                )
                assert outcome(store, answer) == ("output", body)
                missing = server.client().invoke_endpoint_async(
                    EndpointName="later", InputLocation="s3://weighbridge-async/none"
                )
                assert outcome(store, missing)[0] == "failure"


@pytest.mark.slow
def test_a_measured_day_goes_from_zero_to_zero(tmp_path: Path, make_model: MakeModel) -> None:
    """Every latency is the sum of its parts; launches are modelled, and silence is skipped."""
    workload = Workload(
        name="small",
        title="a few bursts in four hours",
        scenario="intermittent",
        duration_s=4 * 3600.0,
        arrivals=Bursts(mean_gap_s=3600.0, mean_size=3.0, mean_spacing_s=30.0),
        objective=Objective(latency_s=600.0),
        seed=5,
        fast_forward=True,
    )
    body = tmp_path / "body"
    body.write_bytes(b"hello")
    model = Model("echo", make_model(MODEL), "0" * 64)

    class Silent:
        def expect(self, duration_s: float, scheduled: int | None) -> None: ...
        def phase(self, mode: str, text: str) -> None: ...
        def live(self, at_s: float, new: object) -> None: ...

    run = measure(Order(workload, Async(), model, [body], "test"), tmp_path / "run", Silent())
    requests = run.requests()
    assert len(requests) > 3
    assert set(requests["status"]) == {200}
    parts = ["upload_s", "backlog_s", "placement_s", "setup_s", "download_s", "model_s", "store_s"]
    whole = requests["done_s"] - requests["due_s"]
    rest = whole - requests[[*parts, "overhead_s"]].sum(axis=1)
    assert float(np.abs(rest).max()) < 0.2
    first = requests.iloc[0]
    assert first["placement_s"] > 50
    assert 60 < first["backlog_s"] < 121
    kinds = [event["kind"] for event in run.events()]
    assert kinds.index("instance_launched") < kinds.index("instance_started")
    assert kinds.index("instance_started") < kinds.index("instance_stopped")
    assert run.manifest["load"]["real_s"] < 120
    assert not (run.folder / "data").exists()
    assert read_events(run.folder)[-1]["kind"] in ("instance_stopped", "phase", "metrics")
