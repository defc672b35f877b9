"""A user's own heavy model: half a gigabyte of weights behind a large library."""

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from bench.deployment import Deployment, Endpoint
from bench.raw import read_events
from bench.target import Lambda, Serverless
from tests.heavy import heavy_model, why_not
from tests.serving import Serving, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The model at a size that holds it and as a function that is too small."""
    folder = tmp_path_factory.mktemp("heavy")
    model = str(heavy_model(folder / "model"))
    quick: dict[str, float | bool] = {"placement_median_s": 0, "placement_sigma": 0}
    large = Serverless(memory_mb=3072, profile={**quick, "pull_mb_per_s": 1000})
    small = Lambda(memory_mb=512, profile={**quick, "image_sigma": 0, "image_pull_mb_per_s": 1e6})
    endpoints = [Endpoint("large", large, model), Endpoint("small", small, model)]
    deployment = Deployment(endpoints, events=str(folder / "events.jsonl"))
    with serving(deployment, folder / "run") as running:
        yield running


def ask(server: Serving, endpoint: str) -> list[float]:
    answer = server.client().invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=b"[1, 2, 3]"
    )
    found: list[float] = json.loads(answer["Body"].read())
    return found


def test_it_is_served_and_each_part_of_its_start_is_told(server: Serving) -> None:
    """Fetching in proportion to its 503 MB, importing and loading as they were."""
    assert len(ask(server, "large")) == 10
    [cold] = [e for e in read_events(server.child.log.parent.parent) if e["kind"] == "cold_start"]
    assert cold["pull_s"] == pytest.approx(0.504, abs=0.01)
    assert cold["import_s"] > 0.2
    assert cold["load_s"] > 0.05
    assert ask(server, "large") == ask(server, "large")


def test_where_it_does_not_fit_it_dies_and_the_caller_reads_why(server: Serving) -> None:
    """503 MB of weights and their copies exceed 512 MB."""
    with pytest.raises(ClientError, match="it needs more than its memory size of 512 MB"):
        ask(server, "small")
