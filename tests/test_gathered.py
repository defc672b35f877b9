"""Requests gathered into batch jobs, as a measurement."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.arrivals import Bursts
from bench.errors import MeasurementError
from bench.measure import Model, Order, Watcher, measure
from bench.payload import ChoiceSize, ConstantSize, Payload
from bench.record import Records
from bench.replay import Replay
from bench.run import Run, read_run
from bench.target import Batch
from bench.together import Together
from bench.workload import Objective, Workload
from servers.archive import fingerprint
from tests.transforming import write_model

pytestmark = pytest.mark.slow

WORKLOAD = Workload(
    name="gathered",
    title="requests for jobs",
    scenario="sustained",
    duration_s=10_000.0,
    arrivals=Bursts(mean_gap_s=400.0, mean_size=3.0, mean_spacing_s=5.0),
    objective=Objective(latency_s=7200.0),
    fast_forward=True,
)


class Silent:
    """A watcher that says nothing."""

    def expect(self, duration_s: float, scheduled: int | None) -> None: ...
    def phase(self, mode: str, text: str) -> None: ...
    def live(self, at_s: float, new: Records) -> None: ...


class Impatient(Silent):
    """A user who presses Ctrl-C when there are results."""

    def expect(self, *_: object) -> None: ...
    def live(self, at_s: float, new: Records) -> None:
        del at_s
        if len(new):
            raise KeyboardInterrupt


def ordered(folder: Path, workload: Workload, target: Batch, *bodies: bytes) -> Order:
    """The workload over these bodies, for a model that puts each line in brackets."""
    files = [folder / f"body-{number}" for number in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(body)
    path = write_model(folder / "model")
    model = Model("brackets", path, fingerprint(path))
    return Order(workload, target, model, files, "test")


def run(
    folder: Path, workload: Workload, target: Batch, *bodies: bytes, watcher: Watcher | None = None
) -> Run:
    order = ordered(folder, workload, target, *(bodies or [b"[1,\n 2]"]))
    measured = measure(order, folder / "run", watcher or Silent())
    load = measured.manifest["load"]
    assert load["balanced"]
    assert load["scheduled"] == load["sent"] == load["ok"] + load["errors"]
    assert (load["dropped"], load["unsent"], load["in_flight"]) == (0, 0, 0)
    assert (folder / "run" / "locust.log").read_text() == ""
    return measured


def together(payload: Payload, count: int) -> Workload:
    """So many bodies at once."""
    changes = {"arrivals": Together(records=count), "duration_s": 1.0, "payload": payload}
    return msgspec.structs.replace(WORKLOAD, **changes)


def test_requests_are_answered_by_the_next_job(tmp_path: Path) -> None:
    """Hours are skipped; each answer comes after its hour's job, launch included."""
    measured = run(tmp_path, WORKLOAD, Batch(every_s=3600.0))
    requests = measured.requests()
    assert (requests["error"] == "").all()
    assert (requests["response_bytes"] == len(b"[[1,2]]")).all()
    submitted = (np.floor(requests["due_s"] / 3600) + 1) * 3600
    assert np.allclose(requests["due_s"] + requests["backlog_s"], submitted, atol=5)
    # The launch is modelled, so it is in the latency although nobody waited for it here.
    assert (requests["done_s"] >= submitted + requests["placement_s"]).all()
    kinds = [event["kind"] for event in measured.events()]
    jobs = len(submitted.unique())
    assert [kinds.count(kind) for kind in ("job_started", "job_ended")] == [jobs, jobs]
    assert kinds.count("instance_started") == kinds.count("instance_stopped") == jobs
    assert measured.manifest["load"]["real_s"] < measured.duration_s / 10


def test_a_dataset_is_one_job(tmp_path: Path) -> None:
    """Its records are due at once, and done at once; the use of each instance is kept."""
    arrivals = Together(records=500)
    workload = msgspec.structs.replace(WORKLOAD, arrivals=arrivals, duration_s=1.0)
    target = Batch(every_s=0, instance_count=2, strategy="SingleRecord")
    measured = run(tmp_path, workload, target)
    requests, metrics = measured.requests(), measured.metrics()
    assert len(requests) == 500
    assert requests["done_s"].nunique() == 1
    assert (requests["status"] == 200).all()
    assert set(metrics["endpoint"]) == {"job-1"}
    for name in ("CPUUtilization", "MemoryUtilization"):
        rows = metrics[metrics["metric"] == name]
        assert (set(rows["variant"]), set(rows["unit"])) == ({"job-1-1", "job-1-2"}, {"Percent"})
        assert (rows["max"] > 0).all()


def test_a_failed_object_fails_its_requests(tmp_path: Path) -> None:
    """None is lost: those of the object have the error, those of others their answers."""
    workload = together(Payload(), 3)
    order = ordered(tmp_path, workload, Batch(every_s=0, instance_count=3), b'"refuse"', b"2")
    measured = measure(order, tmp_path / "run", Silent())
    assert list(measured.requests()["error"]) == ["TransformJobFailed", "", "TransformJobFailed"]
    load = measured.manifest["load"]
    assert (load["balanced"], load["ok"], load["errors"]) == (True, 1, 2)


def test_sized_bodies_are_records(tmp_path: Path) -> None:
    """As large as asked for, each answered; the answer of many rows is counted whole."""
    sizes = ChoiceSize((100, 90_000))
    found = run(tmp_path, together(Payload(size=sizes), 20), Batch(every_s=0)).requests()
    assert set(found["request_bytes"]) == {100, 90_000}
    assert (found["status"] == 200).all()
    (tmp_path / "csv").mkdir()
    payload = Payload(size=sizes, content_type="text/csv", accept="text/csv")
    found = run(tmp_path / "csv", together(payload, 4), Batch(every_s=0), b"1,2\n3,4\n").requests()
    rows = found["request_bytes"] // len("1,2\n")
    assert (found["response_bytes"] == rows * len("[1,2]")).all()


def test_other_bodies_are_an_object_each(tmp_path: Path) -> None:
    """A large one goes there from the disk."""
    kind = "application/octet-stream"
    payload = Payload(size=ConstantSize(300_000), fill="octets", content_type=kind, accept=kind)
    found = run(tmp_path, together(payload, 3), Batch(every_s=0)).requests()
    assert (found["request_bytes"] == 300_000).all()
    assert (found["response_bytes"] > 300_000).all()


def test_a_dataset_and_a_trace_say_what_the_bodies_are(tmp_path: Path) -> None:
    """Each record is a request; each request is as large as the trace says."""
    records = tmp_path / "records.csv"
    records.write_text("".join(f"{number},7\n" for number in range(30)))
    payload = Payload(records=str(records), content_type="text/csv", accept="text/csv")
    found = run(tmp_path, together(payload, 30), Batch(every_s=0, instance_count=2)).requests()
    assert list(found["response_bytes"]) == [len(f"[{number},7]") for number in range(30)]
    trace = tmp_path / "trace.csv"
    trace.write_text("timestamp,bytes\n0,200\n1,300\n2,200\n")
    (tmp_path / "traced").mkdir()
    arrivals = Replay(str(trace), size_column="bytes")
    workload = msgspec.structs.replace(WORKLOAD, arrivals=arrivals, duration_s=3.0)
    found = run(tmp_path / "traced", workload, Batch(every_s=0)).requests()
    assert list(found["request_bytes"]) == [200, 300, 200]


def test_the_counts_of_an_interrupted_run_add_up(tmp_path: Path) -> None:
    """What was not submitted is unsent, and each job's requests are done or in flight."""
    order = ordered(tmp_path, WORKLOAD, Batch(every_s=100.0), b"1")
    with pytest.raises(KeyboardInterrupt):
        measure(order, tmp_path / "run", Impatient())
    measured = read_run(tmp_path / "run")
    load = measured.manifest["load"]
    assert (measured.manifest["status"], load["balanced"]) == ("interrupted", True)
    assert load["scheduled"] == load["sent"] + load["unsent"]
    assert load["sent"] == len(measured.requests()) + load["in_flight"]
    assert load["unsent"] > 0
    assert "Traceback" not in (tmp_path / "run" / "locust.log").read_text()


def test_a_body_that_is_no_record_is_named(tmp_path: Path) -> None:
    """Before any job is made of it."""
    order = ordered(tmp_path, together(Payload(), 2), Batch(every_s=0), b"[1", b"2")
    with pytest.raises(MeasurementError, match="Body 0 of the payload cannot be a record"):
        measure(order, tmp_path / "run", Silent())
