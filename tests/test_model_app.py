import http.client
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.test_model_server import call, free_port, request, serving, wait_for

pytestmark = pytest.mark.slow

MakeModel = Callable[[str], Path]

STREAM = """
import os, time
def model_fn(model_dir): return model_dir
def predict_fn(data, model):
    for number in range(int(data)):
        if number == 2:
            until = time.monotonic() + 20
            while not os.path.exists(model + "/release") and time.monotonic() < until:
                time.sleep(0.005)
        if number == 7:
            raise RuntimeError("the model broke")
        yield {"token": number}
def output_fn(prediction, accept):
    import json
    return json.dumps(prediction) + "\\n", "application/jsonlines"
"""


def connected(port: int) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30))


def post(connection: http.client.HTTPConnection, body: bytes) -> http.client.HTTPResponse:
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    return connection.getresponse()


def test_an_iterator_leaves_piece_by_piece(make_model: MakeModel) -> None:
    """What predict_fn yields is encoded by output_fn and sent before the next is there.

    A second stream and a plain call get their turn between the pieces of the first.
    """
    folder = make_model(STREAM)
    with (
        serving(folder) as (_, port),
        connected(port) as one,
    ):
        answer = post(one, b"4")
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.headers["Content-Type"] == "application/jsonlines"
        assert answer.headers["Server-Timing"].startswith("queue;dur=")
        assert answer.readline() == b'{"token": 0}\n'
        (folder / "release").touch()
        assert answer.read().splitlines() == [b'{"token": %d}' % n for n in (1, 2, 3)]
        assert post(one, b"0").read() == b""


def test_a_failure_amid_a_stream_breaks_it_off(make_model: MakeModel) -> None:
    """The answer ends without its last chunk, so that no caller takes it for whole."""
    folder = make_model(STREAM)
    (folder / "release").touch()
    with (
        serving(folder) as (_, port),
        connected(port) as one,
    ):
        with pytest.raises(http.client.IncompleteRead) as broken:
            post(one, b"9").read()
        assert broken.value.partial.count(b"token") == 7
        one.close()
        assert len(post(one, b"3").read().splitlines()) == 3


def test_a_failure_before_the_first_piece_is_a_500(make_model: MakeModel) -> None:
    """Nothing has been sent, so the status can still say it."""
    folder = make_model(
        """
        def model_fn(model_dir): return None
        def predict_fn(data, model):
            raise RuntimeError("no first piece")
            yield 1
        """
    )
    sent = call(folder, "POST", "/invocations", [b"1"])
    assert sent[0]["status"] == 500
    assert b"no first piece" in sent[1]["body"]


def test_a_stream_whose_caller_is_gone_is_closed(make_model: MakeModel) -> None:
    """The generator is closed, so that it lets go what it holds; the server goes on."""
    folder = make_model(
        """
        import time
        def model_fn(model_dir): return model_dir
        def predict_fn(data, model):
            if data == "plain":
                return data
            return endless(model)
        def endless(model):
            try:
                while True:
                    time.sleep(0.001)
                    yield "x" * 10_000
            finally:
                open(model + "/closed", "w").close()
        """
    )
    with serving(folder) as (_, port):
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            assert caller.recv(100)
        wait_for((folder / "closed").exists, "the generator to be closed")
        assert request(port, "GET", "/ping").status == 200


ECHO = """
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): return body
"""


def peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_a_large_body_is_held_at_most_three_times(make_model: MakeModel) -> None:
    """25 MB in and out again raise the peak of the memory by three times 25 MB at most."""
    with serving(make_model(ECHO)) as (process, port):
        request(port, "POST", "/invocations", bytes(1000))
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
        before = peak_kb(process.pid)
        body = bytes(25_000_000)
        answer = request(port, "POST", "/invocations", body)
        assert answer.content == body  # type: ignore[attr-defined]
        assert (peak_kb(process.pid) - before) * 1024 <= 3 * len(body)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_sample_decides_whether_calls_are_put_together(make_model: MakeModel) -> None:
    """The real server says at its start what it found, and /v2 describes what the samples show."""
    folder = make_model(
        """
        def model_fn(model_dir): return None
        def predict_fn(data, model): return data * 2.0
        """
    )
    (folder / "samples.json").write_text('[{"body": [[1, 2, 3]]}, {"body": [[4, 5, 6]]}]')
    port = free_port()
    with serving(folder, WEIGHBRIDGE_GRPC_PORT=str(port)) as (_, http_port):
        answer = request(http_port, "GET", "/v2/models/model")
        content: bytes = answer.content  # type: ignore[attr-defined]
        assert b'{"name":"input","datatype":"INT64","shape":[-1,3]}' in content
        assert request(http_port, "POST", "/invocations", b"x").status == 415


def test_a_model_of_files_gets_and_gives_them(make_model: MakeModel) -> None:
    """transform_stream_fn reads a file that stands at its beginning; its iterator is the answer."""
    folder = make_model(
        """
        def model_fn(model_dir): return None
        def transform_stream_fn(model, stream, content_type, accept):
            return (line.upper() for line in stream), "text/plain"
        """
    )
    with serving(folder, SAGEMAKER_MAX_PAYLOAD_IN_MB="3") as (_, port):
        body = b"a line\n" * 300_000
        answer = request(port, "POST", "/invocations", body)
        assert answer.content == body.upper()  # type: ignore[attr-defined]
        assert answer.headers["Content-Length"] == str(len(body))
        assert request(port, "POST", "/invocations", body * 2).status == 413
        assert request(port, "POST", "/invocations", b"x").status == 200
