"""A request that says its length is answered by a call, one in chunks by the application: alike."""

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.deployment import Deployment, Endpoint
from bench.target import Realtime
from tests.serving import ECHO, Serving, serving

pytestmark = pytest.mark.slow

MakeModel = Callable[[str], Path]
Found = tuple[int, dict[str, str], bytes]

ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
OF_THE_MOMENT = ("date", "server-timing", "x-amzn-requestid")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("direct")
    (folder / "echo" / "code").mkdir(parents=True)
    (folder / "echo" / "code" / "inference.py").write_text(ECHO)
    deployment = Deployment([Endpoint("echo", Realtime(), str(folder / "echo"))])
    with serving(deployment, folder / "run") as running:
        yield running


def sent(server: Serving, body: bytes, whole: bool, **headers: str) -> Found:
    """Status, headers and body of the answer, but for what changes from moment to moment."""
    host, port = server.address.removeprefix("http://").split(":")
    caller = http.client.HTTPConnection(host, int(port), timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content: Any = body if whole else iter([body])
    caller.request("POST", "/endpoints/echo/invocations", content, named)
    answer = caller.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    assert set(OF_THE_MOMENT) <= set(found) | ({"server-timing"} if answer.status > 299 else set())
    kept = {name: value for name, value in found.items() if name not in OF_THE_MOMENT}
    content = answer.read()
    caller.close()
    return answer.status, kept, content


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"a": [1, 2]}', {"content_type": "application/json", "user_agent": "x"}, 200),
        (b'"fail"', {}, 424),
        (b"{", {"content_type": "application/json"}, 424),
        (b"1", {ATTRIBUTES: "x" * 1025}, 400),
        (b"1", {"x-amzn-sagemaker-target-model": "another"}, 400),
        (b"1", {"x-amzn-sagemaker-target-variant": "nosuch"}, 400),
    ],
)
def test_both_ways_give_the_same_answer(
    server: Serving, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Status, headers and body; for errors, too."""
    direct, application = (sent(server, body, whole, **headers) for whole in (True, False))
    assert direct == application
    assert direct[0] == status
    if status == 200:
        assert json.loads(direct[2]) == json.loads(body)
