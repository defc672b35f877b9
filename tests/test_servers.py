"""The server process as a whole: what ends, what starts again, what is left behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from bench.children import start_servers
from bench.deployment import Deployment, Endpoint
from bench.errors import ConfigError
from bench.raw import read_events
from bench.target import Realtime, Serverless
from servers.limits import Rlimits, find_limiter
from tests.serving import ECHO, Serving, eventually, serving

pytestmark = pytest.mark.slow

MakeModel = Callable[[str], Path]


def deployed(model: Path, **targets: Realtime | Serverless) -> Deployment:
    endpoints = [Endpoint(name, target, str(model)) for name, target in targets.items()]
    return Deployment(endpoints, events=str(model.parent / "events.jsonl"))


def test_the_process_starts_without_what_only_tables_need() -> None:
    """pandas alone takes as long to import as all the rest; models bring their own libraries."""
    heavy = "{'pandas', 'numpy', 'torch', 'scipy'} & set(sys.modules)"
    program = f"import sys, servers.__main__; sys.exit(str(found) if (found := {heavy}) else 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def ask(server: Serving, endpoint: str, value: Any) -> Any:
    return server.client().invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=json.dumps(value).encode()
    )


def events(model: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(model.parent) if event["kind"] == kind]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() for process in processes)


def test_sigterm_ends_the_servers_and_every_instance(tmp_path: Path, make_model: MakeModel) -> None:
    """Nothing is left running, and the process ends with exit code 0."""
    target = Serverless(profile={"placement_median_s": 0})
    model = make_model(ECHO)
    with serving(deployed(model, kept=Realtime(), zero=target), tmp_path / "run") as server:
        ask(server, "zero", 1)
        instances = server.instances()
        assert len(instances) == 2
        server.child.stop()
        assert server.child.exit_code == 0
        assert gone(instances)
    stopped = [event["reason"] for event in events(model, "instance_stopped")]
    assert stopped == ["closed", "closed"]


def test_instances_do_not_outlive_a_killed_server(tmp_path: Path, make_model: MakeModel) -> None:
    """kill -9 of the front end takes its instances along."""
    with serving(deployed(make_model(ECHO), kept=Realtime()), tmp_path / "run") as server:
        instances = server.instances()
        os.kill(server.child.pid, signal.SIGKILL)
        eventually(lambda: gone(instances), "the instances are gone")


def test_an_idle_environment_is_ended(tmp_path: Path, make_model: MakeModel) -> None:
    """After the keep-alive its process is gone, and the next request starts another."""
    target = Serverless(profile={"placement_median_s": 0, "keep_alive_s": 0.2})
    model = make_model(ECHO)
    with serving(deployed(model, zero=target), tmp_path / "run") as server:
        ask(server, "zero", 1)
        eventually(lambda: not server.instances(), "the idle environment has ended")
        ask(server, "zero", 1)
    assert [event["instance"] for event in events(model, "cold_start")] == [
        "environment-1",
        "environment-2",
    ]


def test_a_cold_start_is_told_in_its_parts(tmp_path: Path, make_model: MakeModel) -> None:
    """Measured set-up with import and load in it, modelled placement, all in one event."""
    target = Serverless(profile={"placement_median_s": 0.05, "placement_sigma": 0})
    model = make_model(ECHO)
    with serving(deployed(model, zero=target), tmp_path / "run") as server:
        timing = ask(server, "zero", 1)["ResponseMetadata"]["HTTPHeaders"]["server-timing"]
    assert 'placement.machine;dur=50.000;desc="modelled"' in timing
    [cold] = events(model, "cold_start")
    assert cold["placement_s"] == 0.05
    assert 0 < cold["import_s"] + cold["load_s"] < cold["setup_s"]


def test_a_real_time_instance_that_dies_is_started_again(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """The request that it held is a ModelError; then the endpoint answers again."""
    model = make_model(ECHO)
    with serving(deployed(model, kept=Realtime()), tmp_path / "run") as server:
        with pytest.raises(ClientError) as caught:
            ask(server, "kept", "die")
        assert caught.value.response["Error"]["Code"] == "ModelError"

        def answers() -> bool:
            with contextlib.suppress(ClientError):
                return bool(ask(server, "kept", 1))
            return False

        eventually(answers, "the endpoint answers again")
    assert [event["instance"] for event in events(model, "instance_started")] == [
        "instance-1",
        "instance-2",
    ]


def test_an_environment_that_dies_at_work_is_replaced(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """Its request is a ModelError; the next one starts another environment."""
    target = Serverless(profile={"placement_median_s": 0})
    with serving(deployed(make_model(ECHO), zero=target), tmp_path / "run") as server:
        with pytest.raises(ClientError, match="closed the connection"):
            ask(server, "zero", "die")
        assert json.loads(ask(server, "zero", 5)["Body"].read()) == 5


@pytest.mark.skipif(isinstance(find_limiter(), Rlimits), reason="no control groups may be made")
def test_a_model_that_does_not_fit_its_memory_size_fails(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """1.5 GB do not fit into 1024 MB, and the caller reads why; 300 MB do."""
    target = Serverless(memory_mb=1024, profile={"placement_median_s": 0})
    with serving(deployed(make_model(ECHO), zero=target), tmp_path / "run") as server:
        assert ask(server, "zero", {"allocate_mb": 300})["Body"].read()
        with pytest.raises(ClientError, match="it needs more than its memory size of 1024 MB"):
            ask(server, "zero", {"allocate_mb": 1500})
        assert json.loads(ask(server, "zero", 1)["Body"].read()) == 1
        enforced = server.ready["endpoints"]["zero"]["enforced"]
        assert enforced["memory"].startswith("capped at 1024 MB (cgroup v")
        assert enforced["cpu"].startswith("capped at 0.58 vCPU (cgroup v")


def test_a_model_that_cannot_load_is_told_at_once(tmp_path: Path, make_model: MakeModel) -> None:
    """Real-time refuses to open, with the reason, exit code 2 and nothing left running."""
    model = make_model("def model_fn(d): raise OSError('no weights')\ndef predict_fn(x, m): pass")
    with (
        pytest.raises(ConfigError, match=r"The model could not be served: .*no weights"),
        serving(deployed(model, kept=Realtime()), tmp_path / "run"),
    ):
        pass


def test_a_serverless_model_that_cannot_load_is_a_model_error(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """The endpoint opens, as the service's does; the request tells."""
    model = make_model("def model_fn(d): raise OSError('no weights')\ndef predict_fn(x, m): pass")
    target = Serverless(profile={"placement_median_s": 0})
    with (
        serving(deployed(model, zero=target), tmp_path / "run") as server,
        pytest.raises(ClientError, match=r"could not be started.*no weights"),
    ):
        ask(server, "zero", 1)


def test_a_port_in_use_is_named(tmp_path: Path, make_model: MakeModel) -> None:
    """Before anything is started, with the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        deployment = Deployment([Endpoint("e", Realtime(), str(make_model(ECHO)))], port=port)
        with (
            pytest.raises(ConfigError, match=rf"Cannot listen on 127\.0\.0\.1:{port}: .*in use"),
            serving(deployment, tmp_path / "run"),
        ):
            pass


def test_two_endpoints_of_one_name_are_refused(tmp_path: Path, make_model: MakeModel) -> None:
    """A name stands for one endpoint."""
    one = Endpoint("twin", Serverless(), str(make_model(ECHO)))
    with (
        pytest.raises(ConfigError, match="Two endpoints are called 'twin'"),
        serving(Deployment([one, one]), tmp_path / "run"),
    ):
        pass


def test_an_interrupted_start_leaves_nothing(tmp_path: Path, make_model: MakeModel) -> None:
    """SIGTERM while a slow model loads ends the process and the instance."""
    model = make_model("import time\ndef model_fn(d): time.sleep(60)\ndef predict_fn(x, m): pass")
    (tmp_path / "run").mkdir()
    child = start_servers(deployed(model, kept=Realtime()), tmp_path / "run")
    front = psutil.Process(child.pid)
    eventually(lambda: bool(front.children()), "the instance has been started")
    instances = front.children()
    child.stop()
    assert gone(instances)
    assert child.exit_code == 0
