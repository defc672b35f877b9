"""One object through a model and back."""

import gzip
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.agent import PROGRESS, Filters, ObjectOrder, ObjectResult, transform_object
from servers.caller import CallOrder
from servers.places import file_location
from tests.http_container import Reply, container

LINES = b"".join(b"%d\n" % number for number in range(100))


def double(body: bytes, _: dict[str, str]) -> Reply:
    """Answers each line's number twice as large; refuses what is no number."""
    try:
        return 200, b"".join(b"%d\n" % (2 * int(line)) for line in body.split())
    except ValueError as error:
        return 400, str(error).encode()


class Bench:
    """A folder with an input object, and orders to transform it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.output = folder / "out" / "x.out"

    def run(self, content: bytes = LINES, call: dict[str, Any] | None = None, **more: Any) -> Any:
        source = self.folder / "x"
        source.write_bytes(content)
        order = ObjectOrder(
            0,
            file_location(source),
            file_location(self.output),
            CallOrder(self.url, **(call or {})),
            str(self.folder / "drafts" / "0"),
            **{"split": "Line", "limit_bytes": 20, **more},
        )
        return transform_object(order)

    def leftovers(self) -> list[str]:
        """Everything but the input."""
        return sorted(p.name for p in self.folder.rglob("*") if p.is_file() and p.name != "x")


@pytest.fixture(scope="module")
def doubling() -> Iterator[str]:
    with container(double) as url:
        yield url


@pytest.fixture
def bench(tmp_path: Path, doubling: str) -> Bench:
    return Bench(tmp_path, doubling)


@pytest.mark.parametrize("concurrent", [1, 4])
def test_answers_stand_in_the_order_of_the_records(bench: Bench, concurrent: int) -> None:
    """However many calls are under way."""
    result = bench.run(concurrent=concurrent)
    expected = b"".join(b"%d\n" % (2 * number) for number in range(100))
    assert bench.output.read_bytes() == expected
    assert (result.status, result.records, result.read_bytes) == ("done", 100, len(LINES))
    assert result.written_bytes == len(expected)
    assert bench.leftovers() == ["x.out"]


def test_a_slow_answer_does_not_pass_a_quick_one(tmp_path: Path) -> None:
    """The first call is answered last, and yet stands first."""
    others = threading.Event()

    def answer(body: bytes, _: dict[str, str]) -> Reply:
        if body == b"0":
            assert others.wait(10)
        elif body == b"2":
            others.set()
        return 200, body

    with container(answer) as url:
        bench = Bench(tmp_path, url)
        result = bench.run(b"0\n1\n2\n3\n", single=True, concurrent=3, assemble_lines=True)
    assert result.status == "done"
    assert bench.output.read_bytes() == b"0\n1\n2\n3\n"


def test_no_more_calls_are_under_way_than_allowed(tmp_path: Path) -> None:
    """MaxConcurrentTransforms is a promise to the container."""
    lock, now, most = threading.Lock(), 0, 0

    def answer(body: bytes, _: dict[str, str]) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        return 200, body

    with container(answer) as url:
        Bench(tmp_path, url).run(single=True, concurrent=2)
    assert 1 <= most <= 2


@pytest.mark.parametrize(("lines", "expected"), [(False, b"012"), (True, b"0\n1\n2\n")])
def test_answers_are_put_together_bare_or_a_line_each(
    tmp_path: Path, lines: bool, expected: bytes
) -> None:
    """AssembleWith None and Line."""
    with container(lambda body, _: (200, body)) as url:
        bench = Bench(tmp_path, url)
        bench.run(b"0\n1\n2\n", single=True, assemble_lines=lines)
    assert bench.output.read_bytes() == expected


def test_the_container_gets_the_headers_of_the_job(tmp_path: Path) -> None:
    """ContentType and Accept go with every call."""
    seen = []

    def answer(body: bytes, headers: dict[str, str]) -> Reply:
        seen.append(headers)
        return 200, body

    with container(answer) as url:
        Bench(tmp_path, url).run(b"a", call={"content_type": "text/csv", "accept": "a/b"})
    assert (seen[0]["content-type"], seen[0]["accept"]) == ("text/csv", "a/b")


def test_packed_objects_are_unpacked(bench: Bench) -> None:
    """CompressionType Gzip, a file of several members too."""
    result = bench.run(gzip.compress(LINES[:50]) + gzip.compress(LINES[50:]), gzip=True)
    assert (result.status, result.records) == ("done", 100)


def test_an_object_of_any_length_is_streamed(tmp_path: Path) -> None:
    """MaxPayloadInMB 0: one call in chunks, one answer."""
    with container(
        lambda body, headers: (200, body + headers["transfer-encoding"].encode())
    ) as url:
        bench = Bench(tmp_path, url)
        result = bench.run(LINES * 100, limit_bytes=0, split="None")
    assert result.status == "done"
    assert bench.output.read_bytes() == LINES * 100 + b"chunked"


def test_filters_and_join_are_applied(bench: Bench) -> None:
    """From the input's column to the joined row."""
    filters = Filters("csv", "$[1]", True, "$[0,-1]")
    result = bench.run(b"a,1\nb,2\nc,3\n", filters=filters, assemble_lines=True)
    assert result.status == "done"
    assert bench.output.read_bytes() == b"a,2\nb,4\nc,6\n"


FAULTS: list[tuple[bytes, dict[str, Any], str]] = [
    (b"1\nx\n", {}, r"ClientError: 400 invalid literal"),
    (b"1\n" + b"2" * 30, {}, r"ClientError: record 2 is larger than MaxPayloadInMB"),
    (LINES, {"split": "None"}, r"ClientError: the object is larger"),
    (b"plain", {"gzip": True}, r"ClientError: it is not a gzip file"),
    (gzip.compress(LINES)[:-20], {"gzip": True}, r"ClientError: the gzip file is cut short"),
    (b"1,2\n", {"filters": Filters("csv", "$[7]")}, r"ClientError: record 1: the JSONPath \$\[7\]"),
    (b"{\n", {"filters": Filters("jsonlines", "$.a")}, r"ClientError: record 1 is malformed"),
]


@pytest.mark.parametrize(("content", "order", "reason"), FAULTS)
def test_a_failed_object_leaves_no_output(
    bench: Bench, content: bytes, order: dict[str, Any], reason: str
) -> None:
    """All or nothing, and the reason says what to look for."""
    result = bench.run(content, **order)
    assert result.status == "failed"
    assert re.search(reason, result.reason), result.reason
    assert bench.leftovers() == []


def _failing(times: int, status: int) -> Callable[[bytes, dict[str, str]], Reply]:
    left = [times]

    def answer(body: bytes, _: dict[str, str]) -> Reply:
        left[0] -= 1
        return (status, b"busy") if left[0] >= 0 else (200, body)

    return answer


@pytest.mark.parametrize(
    ("times", "status", "retries", "expected"),
    [(2, 503, 2, "done"), (2, 503, 1, "failed"), (1, 400, 3, "failed")],
)
def test_calls_are_tried_again_as_often_as_asked(
    tmp_path: Path, times: int, status: int, retries: int, expected: str
) -> None:
    """InvocationsMaxRetries; what the container calls our mistake is not sent again."""
    with container(_failing(times, status)) as url:
        result = Bench(tmp_path, url).run(b"a\n", call={"retries": retries})
    assert result.status == expected


@pytest.mark.slow
def test_a_call_has_a_time_limit(tmp_path: Path) -> None:
    """InvocationsTimeoutInSeconds counts from the call to the end of the answer."""
    end = threading.Event()
    with container(lambda body, _: (end.wait(10), (200, body))[1]) as url:
        result = Bench(tmp_path, url).run(b"a\n", call={"timeout_s": 0.3, "retries": 0})
        end.set()
    assert (result.status, "InvocationsTimeoutInSeconds" in result.reason) == ("failed", True)


def test_a_container_that_is_gone_is_no_failure_of_the_object(tmp_path: Path) -> None:
    """It may be tried again with another."""
    with container(double) as url:
        pass
    assert Bench(tmp_path, url).run().status == "lost"


def test_an_agent_leaves_when_it_is_told_to(bench: Bench) -> None:
    """A stop file ends the object, and nothing is left of it."""
    stop = bench.folder / "drafts" / "stop"
    stop.parent.mkdir()
    stop.touch()
    assert bench.run(stop=str(stop)).status == "stopped"
    assert bench.leftovers() == ["stop"]


def test_an_agent_tells_how_far_it_is(bench: Bench) -> None:
    """Records, bytes read and bytes written, in a file that others may look at."""
    result = bench.run(progress=str(bench.folder / "p"))
    assert PROGRESS.unpack((bench.folder / "p").read_bytes()) == (
        result.records,
        result.read_bytes,
        result.written_bytes,
    )


def test_a_full_disk_fails_the_object(bench: Bench) -> None:
    """The reason is the system's own word."""
    drafts = bench.folder / "drafts"
    drafts.mkdir()
    (drafts / "0").symlink_to("/dev/full")
    result: ObjectResult = bench.run()
    assert result.status == "failed"
    assert "No space left on device" in result.reason
    assert not bench.output.exists()


def test_an_input_that_is_gone_fails_the_object(bench: Bench) -> None:
    """As when it is removed after it was listed."""
    order = ObjectOrder(
        0,
        file_location(bench.folder / "gone"),
        file_location(bench.output),
        CallOrder(bench.url),
    )
    assert transform_object(order).reason.startswith("InternalServerError: gone cannot be read")
