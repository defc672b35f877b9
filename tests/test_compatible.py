"""The clients of users' programs against the servers that stand for SageMaker, not stand-ins."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.deployment import Deployment, Endpoint, OpenInference
from bench.target import Realtime
from tests.containers import COMMAND
from tests.loading import load, sets
from tests.serving import Serving, serving

pytestmark = pytest.mark.slow

STEADY = ("duration_s=1", 'arrivals={kind="constant", rate_rps=10}')
PIECES = ["one", "two", "three"]
GAP_S = 0.05


@pytest.fixture(scope="module")
def server(digits_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The digits model, which also speaks the Open Inference Protocol, and one that streams."""
    folder = tmp_path_factory.mktemp("compatible")
    endpoints = [
        Endpoint("digits", Realtime(), str(digits_archive)),
        Endpoint("own", Realtime(), str(digits_archive), command=COMMAND),
    ]
    spoken = OpenInference("digits", http_port=0, grpc_port=0)
    with serving(Deployment(endpoints, open_inference=spoken), folder / "run") as running:
        yield running


@pytest.mark.parametrize("kind", ["direct", "fasthttp", "boto3"])
def test_a_stream_of_the_real_endpoint_comes_in_parts(
    server: Serving, tmp_path: Path, kind: str
) -> None:
    """The first piece is there long before the last."""
    options = sets(*STEADY, f'client={{kind="{kind}", stream=true}}')
    bodies = [{"pieces": PIECES, "gap_s": GAP_S}]
    records = load(server.address, tmp_path, bodies, "--endpoint", "own", *options)
    assert len(records) == 10
    assert set(records["error"]) == {b""}
    assert (records["done_s"] - records["first_byte_s"]).min() >= GAP_S * 1.5
    assert (records["response_bytes"] >= sum(map(len, PIECES))).all()


@pytest.mark.parametrize(("kind", "protocol"), [("triton-http", "http"), ("triton-grpc", "grpc")])
def test_tritonclient_talks_to_our_own_server(
    server: Serving, tmp_path: Path, kind: str, protocol: str
) -> None:
    """Each body is a tensor of the model's one input; a batch is as good as a single image."""
    spoken = server.ready["endpoints"]["digits"]["open_inference"]
    address = spoken[protocol].removeprefix("http://")
    client = f'{{kind="{kind}", model="digits", input="images", address="{address}"}}'
    bodies = [np.full((count, 64), 8.0).tolist() for count in (1, 3)]
    options = sets(*STEADY, f"client={client}")
    records = load(server.address, tmp_path, bodies, *options)
    assert len(records) == 10
    assert set(records["error"]) == {b""}
    assert (records["response_bytes"][1::2] > records["response_bytes"][0]).all()
