import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.deployment import Deployment, Endpoint, OpenInference
from bench.errors import ConfigError
from bench.open_inference import request_body, request_files
from bench.run import read_run
from bench.target import Realtime, Triton
from reports.costs import read_prices
from reports.peers import peers_of, write_peers
from servers.elsewhere import contact_of
from servers.signature import Signature
from servers.triton.endpoint import TritonMeans, write_repository
from servers.triton.environment import default_environment, ready_environment, server_of
from tests.serving import Serving, serving

IMAGES = [{"name": "images", "datatype": "FP32", "shape": [-1, 4]}]


@pytest.fixture(scope="module")
def digits(digits_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The digits model behind a real-time endpoint that speaks both protocols."""
    deployment = Deployment(
        [Endpoint("digits", Realtime(), str(digits_archive))],
        open_inference=OpenInference("digits", 0, 0),
    )
    with serving(deployment, tmp_path_factory.mktemp("served")) as server:
        yield server


def test_a_body_becomes_a_request_of_the_protocol() -> None:
    """One item becomes a batch of one; a batch stays; a whole request is sent as it is."""
    one = json.loads(request_body(b"[1, 2, 3, 4]", IMAGES))["inputs"][0]
    assert (one["shape"], one["data"]) == ([1, 4], [1, 2, 3, 4])
    two = json.loads(request_body(b"[[1,2,3,4],[5,6,7,8]]", IMAGES))["inputs"][0]
    assert two["shape"] == [2, 4]
    whole = request_body(b"[1, 2, 3, 4]", IMAGES)
    assert request_body(whole, IMAGES) is whole
    both = [*IMAGES, {"name": "text", "datatype": "BYTES", "shape": [-1]}]
    named = json.loads(request_body(b'{"images": [[1,2,3,4]], "text": "a"}', both))["inputs"]
    assert [each["data"] for each in named] == [[1, 2, 3, 4], ["a"]]


@pytest.mark.parametrize("body", [b"x", b"[1]", b"[[[1,2,3,4]]]", b'["a"]', b'{"other": [1]}'])
def test_a_body_that_does_not_fit_is_named(body: bytes, tmp_path: Path) -> None:
    """The error names the file and says what to give."""
    file = tmp_path / "body.json"
    file.write_bytes(body)
    with pytest.raises(ConfigError, match=r"body\.json cannot be sent.*Give JSON arrays"):
        request_files([file], IMAGES, tmp_path / "out")


@pytest.mark.slow
def test_a_servers_address_tells_its_protocol(digits: Serving) -> None:
    """A model, a server with one model and an /invocations path are each called in their way."""
    spoken = digits.ready["endpoints"]["digits"]["open_inference"]
    assert spoken["model"] == "digits"
    base = spoken["http"]
    model = f"{base}/v2/models/digits"
    for address in (model, f"{model}/infer", base, f"{base}/"):
        contact = asyncio.run(contact_of(address))
        assert (contact.protocol, contact.url) == ("open-inference", f"{model}/infer")
        assert contact.inputs[0]["name"] == "images"
    invocations = f"{digits.address}/endpoints/digits/invocations"
    contact = asyncio.run(contact_of(invocations))
    assert (contact.protocol, contact.url) == ("sagemaker", invocations)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://host/x", "give an address like"),
        ("http://127.0.0.1:1/invocations", "cannot be reached"),
        ("{oip}/v2/models/other", "does not say which inputs the model 'other' takes"),
        ("{front}", "answers neither /v2 nor /ping"),
    ],
)
def test_an_address_of_no_use_is_named(digits: Serving, address: str, reason: str) -> None:
    """The error says what the address does not answer, and what to give."""
    oip = digits.ready["endpoints"]["digits"]["open_inference"]["http"]
    with pytest.raises(ConfigError, match=reason):
        asyncio.run(contact_of(address.format(oip=oip, front=digits.address)))


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_running_server_is_measured_by_its_address(digits: Serving, tmp_path: Path) -> None:
    """The same scenario against a server's Open Inference Protocol: all answered, none priced."""
    base = digits.ready["endpoints"]["digits"]["open_inference"]["http"]
    options = ("--set", "duration_s=2", "--set", "url.instance_type=ml.m5.large")
    done = command_line("run", "sustained", "--target-url", base, *options, "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    [peers] = tmp_path.glob("*-sustained-*/peers.json")
    [peer] = json.loads(peers.read_text())["peers"]
    assert (peer["mode"], peer["error_rate"]) == ("url", 0)
    assert peer["month_usd"] > 0
    run = read_run(peers.parent / "url")
    assert (run.requests()["status"] == 200).all()
    assert {"gpu_share", "gpu_memory_bytes"} <= set(run.samples().columns)
    table, valid = write_peers(peers_of([run], read_prices()), tmp_path)
    assert table.row_count == 1
    assert valid


def test_tritons_repository_says_what_the_signature_says(tmp_path: Path) -> None:
    """The configuration has the inputs and outputs without the dimension of the batch."""
    signature = msgspec.convert(
        {
            "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 64]}],
            "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}],
        },
        Signature,
    )
    means = TritonMeans(tmp_path, tmp_path / "log", None, 2)  # type: ignore[arg-type]
    write_repository(means, Triton(max_batch=8, max_delay_s=0.001), signature)
    config = (tmp_path / "repository" / "model" / "config.pbtxt").read_text()
    assert 'input { name: "images" data_type: TYPE_FP32 dims: [64] }' in config
    assert "dims: [1] reshape: { shape: [] }" in config
    assert "max_queue_delay_microseconds: 1000 " in config
    assert "max_batch_size: 8" in config


def test_an_environment_without_triton_is_named(tmp_path: Path) -> None:
    """A folder that the user names and that holds no Triton is told apart from one that does."""
    with pytest.raises(ConfigError, match="holds no nvidia-pytriton"):
        server_of(tmp_path)


@pytest.mark.slow
def test_a_real_triton_gives_our_servers_labels(
    digits: Serving, digits_archive: Path, tmp_path: Path
) -> None:
    """Triton serves the digits model under tritonclient; skipped where it has not been made yet."""
    from tests.conftest import CACHE

    folder = default_environment(CACHE / "weighbridge")
    if not (folder / "complete").is_file():
        pytest.skip("no environment for Triton: run `make perf ARGS=model-server` once to make it")
    import tritonclient.http as client

    images = np.random.default_rng(1).integers(0, 17, (4, 64)).astype(np.float32)

    def labels(host: str, model: str) -> Any:
        given = client.InferInput("images", list(images.shape), "FP32")
        given.set_data_from_numpy(images)
        with client.InferenceServerClient(host) as server:
            return server.infer(model, [given]).as_numpy("label").ravel().tolist()

    target = Triton(environment=str(ready_environment(folder, print)))
    deployment = Deployment([Endpoint("triton", target, str(digits_archive))])
    with serving(deployment, tmp_path) as server:
        url: str = server.ready["endpoints"]["triton"]["contact"]["url"]
        found = labels(url.removeprefix("http://").partition("/")[0], "model")
    oip: str = digits.ready["endpoints"]["digits"]["open_inference"]["http"]
    assert found == labels(oip.removeprefix("http://"), "digits")


def test_a_model_without_a_signature_cannot_go_to_triton(
    make_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """The error names the file that is missing."""
    model = make_model("def model_fn(d): ...\ndef predict_fn(d, m): return d")
    deployment = Deployment([Endpoint("t", Triton(environment=str(tmp_path)), str(model))])
    with (
        pytest.raises(ConfigError, match=r"has no signature\.json"),
        serving(deployment, tmp_path / "served"),
    ):
        pass
