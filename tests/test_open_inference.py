import asyncio
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException

from servers.archive import unpack_model
from tests.test_model_server import free_port, serving, wait_for

pytestmark = pytest.mark.slow

Make = Callable[[str], Path]


@dataclass(frozen=True)
class Digits:
    """A model server of the digits model, and what it must answer."""

    http: str
    grpc: str
    images: np.ndarray[Any, Any]
    labels: list[int]


@pytest.fixture(scope="module")
def digits(digits_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Digits]:
    """The digits model served for the whole file; the labels come from /invocations."""
    folder = unpack_model(digits_archive, tmp_path_factory.mktemp("served") / "model")
    samples = json.loads((folder / "samples.json").read_bytes())[:8]
    grpc, oip = free_port(), free_port()
    ports = {"WEIGHBRIDGE_GRPC_PORT": str(grpc), "WEIGHBRIDGE_OIP_PORT": str(oip)}
    with serving(folder, WEIGHBRIDGE_THREADS="1", WEIGHBRIDGE_MODEL_NAME="digits", **ports) as (
        _,
        port,
    ):
        images = np.array([each["body"] for each in samples], np.float32)
        body = json.dumps(images.tolist()).encode()
        kind = {"Content-Type": "application/json"}
        sent = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, kind)
        with urllib.request.urlopen(sent) as answer:
            labels = [each["label"] for each in json.load(answer)["predictions"]]
        yield Digits(f"127.0.0.1:{oip}", f"127.0.0.1:{grpc}", images, labels)


def inputs(module: Any, images: "np.ndarray[Any, Any]", **how: bool) -> list[Any]:
    """The one input of the digits model, as a client's module makes it."""
    tensor = module.InferInput("images", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, **how)
    return [tensor]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_tritonclients_http_gets_the_labels(
    digits: Digits, binary_in: bool, binary_out: bool
) -> None:
    """JSON and binary tensors, each way, are the answers that /invocations gives."""
    client = http_client.InferenceServerClient(digits.http)
    outputs = [
        http_client.InferRequestedOutput(name, binary_data=binary_out)
        for name in ("label", "probability")
    ]
    given = inputs(http_client, digits.images, binary_data=binary_in)
    result = client.infer("digits", given, outputs=outputs, request_id="one")
    assert result.as_numpy("label").tolist() == digits.labels
    assert result.as_numpy("probability").dtype == np.float32
    assert result.get_response()["id"] == "one"


def test_a_compressed_request_is_read(digits: Digits) -> None:
    """tritonclient's gzip and deflate bodies are unpacked."""
    client = http_client.InferenceServerClient(digits.http)
    for algorithm in ("gzip", "deflate"):
        given = inputs(http_client, digits.images)
        result = client.infer("digits", given, request_compression_algorithm=algorithm)
        assert result.as_numpy("label").tolist() == digits.labels


def test_tritonclients_grpc_gets_the_labels(digits: Digits) -> None:
    """Raw contents over gRPC are the answers that /invocations gives; so is a stream of them."""
    with grpc_client.InferenceServerClient(digits.grpc) as client:
        result = client.infer("digits", inputs(grpc_client, digits.images), request_id="two")
        assert result.as_numpy("label").tolist() == digits.labels
        assert result.get_response().id == "two"


def test_the_other_ways_of_tritonclients_grpc_get_the_labels(digits: Digits) -> None:
    """Callbacks, packed requests, a deadline, and a stream, where an error ends nothing."""
    given, found = inputs(grpc_client, digits.images), SimpleQueue[tuple[Any, Any]]()

    def labels() -> list[int]:
        result, error = found.get(timeout=30)
        assert error is None
        return list(result.as_numpy("label"))

    def callback(result: Any, error: Any) -> None:
        found.put((result, error))

    with grpc_client.InferenceServerClient(digits.grpc) as client:
        call = client.async_infer("digits", given, callback)
        assert labels() == digits.labels
        assert not call.cancel()
        for packed in ("gzip", "deflate"):
            result = client.infer("digits", given, compression_algorithm=packed)
            assert result.as_numpy("label").tolist() == digits.labels
        result = client.infer("digits", given, client_timeout=30)
        assert result.as_numpy("label").tolist() == digits.labels
        client.start_stream(callback)
        for model in ("digits", "other", "digits"):
            client.async_stream_infer(model, given, request_id=model)
        assert labels() == digits.labels
        _, error = found.get(timeout=30)
        assert "no model 'other'" in str(error)
        assert labels() == digits.labels
        client.stop_stream()


def test_the_asynchronous_clients_get_the_labels(digits: Digits) -> None:
    """tritonclient's aio modules work over both wires, many calls at once, each with its own."""

    async def calls() -> list[Any]:
        async with (
            http_aio.InferenceServerClient(digits.http) as http,
            grpc_aio.InferenceServerClient(digits.grpc) as grpc,
        ):
            rows = [digits.images[n : n + 1] for n in range(len(digits.labels))]
            return await asyncio.gather(
                *(http.infer("digits", inputs(http_client, row)) for row in rows),
                *(grpc.infer("digits", inputs(grpc_client, row)) for row in rows),
            )

    found = [int(result.as_numpy("label")[0]) for result in asyncio.run(calls())]
    assert found == digits.labels * 2


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_server_and_model_describe_themselves(digits: Digits, wire: str) -> None:
    """Readiness, metadata, configuration, index and statistics, as perf_analyzer asks for them."""
    module: Any = http_client if wire == "http" else grpc_client
    how = {} if wire == "http" else {"as_json": True}
    with module.InferenceServerClient(getattr(digits, wire)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.get_server_metadata(**how)["name"] == "weighbridge"
        metadata = client.get_model_metadata("digits", **how)
        assert [each["name"] for each in metadata["inputs"]] == ["images"]
        assert [int(size) for size in metadata["inputs"][0]["shape"]] == [-1, 64]
        config = client.get_model_config("digits", **how)
        config = config.get("config", config)
        assert config["max_batch_size"] == 32
        assert config["input"][0]["data_type"] == "TYPE_FP32"
        index = client.get_model_repository_index(**how)
        assert (index if wire == "http" else index["models"])[0]["name"] == "digits"

        def count() -> int:
            [stats] = client.get_inference_statistics("digits", **how)["model_stats"]
            return int(stats["inference_stats"]["success"]["count"])

        client.infer("digits", inputs(module, digits.images))
        before = count()
        client.infer("digits", inputs(module, digits.images))
        assert count() == before + 1


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("other", "images", [1, 64], "FP32"), "no model 'other'"),
        (("digits", "pixels", [1, 64], "FP32"), "input 'images' is missing"),
        (("digits", "images", [1, 63], "FP32"), r"send FP32 of \[-1, 64\]"),
        (("digits", "images", [1, 64], "FP64"), r"send FP32 of \[-1, 64\]"),
    ],
)
@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_a_wrong_request_is_refused(
    digits: Digits, wire: str, asked: tuple[str, str, list[int], str], reason: str
) -> None:
    """The error names what is wrong and what to send, over both wires."""
    module: Any = http_client if wire == "http" else grpc_client
    model, name, shape, datatype = asked
    tensor = module.InferInput(name, shape, datatype)
    kind = np.float32 if datatype == "FP32" else np.float64
    tensor.set_data_from_numpy(np.zeros(shape, kind))
    with (
        module.InferenceServerClient(getattr(digits, wire)) as client,
        pytest.raises(InferenceServerException, match=reason),
    ):
        client.infer(model, [tensor])


ONE = b'{"name": "images", "shape": [1, 64], "datatype": "FP32", "data": [%b0]}' % (b"0," * 63)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 400),
        (b"[]", 400),
        (b'{"id": "\xff"}', 400),
        (b'{"inputs": [{"name": "images", "shape": [1], "datatype": "FP32", "data": ', 400),
        (b'{"inputs": ' + b"[" * 5000, 400),
        (b'{"inputs": [{"name": "images", "shape": [1.5], "datatype": "FP32"}]}', 400),
        (b'{"inputs": ["images"]}', 400),
        (b'{"inputs": [], "outputs": 7}', 400),
        (b'{"inputs": [%b, %b]}' % (ONE, ONE), 400),
        (b'{"inputs": [{"shape": [1]}]}', 400),
        (b'{"inputs": [{"name": "images", "shape": [-1, 64], "datatype": "FP32"}]}', 400),
        (b'{"inputs": [{"name": "images", "shape": [1, 64], "datatype": "FP32"}]}', 400),
        (
            b'{"inputs": [{"name": "images", "shape": [9999999999, 64], "datatype": "FP32",'
            b' "data": [1]}]}',
            400,
        ),
        (
            b'{"inputs": [{"name": "images", "shape": [1, 64], "datatype": "FP32",'
            b' "parameters": {"binary_data_size": 256}}]}',
            400,
        ),
    ],
)
def test_a_malformed_body_is_a_400(digits: Digits, body: bytes, status: int) -> None:
    """Whatever is wrong with a body, the answer is a JSON error, and the server goes on."""
    url = f"http://{digits.http}/v2/models/digits/infer"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, body))
    assert refused.value.code == status
    assert orjson.loads(refused.value.read())["error"]


def test_the_id_of_a_request_comes_back(digits: Digits) -> None:
    """A text as it is, a number as a text; what is null is as if it were not there."""
    for sent, back in ((b'"one"', "one"), (b"7", "7"), (b"null", None)):
        rest = b'"outputs": null, "parameters": null'
        body = b'{"inputs": [%b], "id": %b, %b}' % (ONE, sent, rest)
        url = f"http://{digits.http}/v2/models/digits/infer"
        with urllib.request.urlopen(url, body) as answer:
            assert orjson.loads(answer.read()).get("id") == back


def test_values_one_by_one_are_read_over_grpc(digits: Digits) -> None:
    """Contents that are not raw are taken too."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="digits")
    tensor = request.inputs.add(name="images", datatype="FP32", shape=[1, 64])
    tensor.contents.fp32_contents.extend(digits.images[0].tolist())
    with grpc.insecure_channel(digits.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request)
        streamed = list(stub.ModelStreamInfer(iter([request, request])))
    assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == digits.labels[:1]
    assert [each.infer_response.raw_output_contents[0] for each in streamed] == [
        answer.raw_output_contents[0]
    ] * 2


def test_a_model_with_samples_in_json_is_batched_over_the_protocol(make_model: Make) -> None:
    """Its samples are tried as the tensors that its signature asks for, too."""
    folder = make_model(
        """
        import time
        import torch

        def model_fn(model_dir):
            return torch.nn.Linear(2, 1)

        def predict_fn(data, model):
            time.sleep(0.02)  # so that others come meanwhile
            with torch.inference_mode():
                return model(torch.as_tensor(data, dtype=torch.float32)).numpy()
        """
    )
    tensors = {"datatype": "FP32", "shape": [-1, 2]}, {"datatype": "FP32", "shape": [-1, 1]}
    declared = {"inputs": [{"name": "x", **tensors[0]}], "outputs": [{"name": "y", **tensors[1]}]}
    (folder / "signature.json").write_bytes(orjson.dumps({**declared, "library": "torch"}))
    (folder / "samples.json").write_bytes(orjson.dumps([{"body": [[1, 2]]}, {"body": [[3, 4]]}]))

    async def ask(port: int) -> None:
        tensor = http_aio.InferInput("x", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 2), np.float32))
        async with http_aio.InferenceServerClient(f"127.0.0.1:{port}", conn_limit=16) as client:
            await asyncio.gather(*(client.infer("model", [tensor]) for _ in range(16)))

    with serving(folder, WEIGHBRIDGE_THREADS="1") as (_, port):
        asyncio.run(ask(port))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/model/stats") as answer:
            [stats] = json.load(answer)["model_stats"]
    assert max(each["batch_size"] for each in stats["batch_stats"]) > 1


HELD = """
import os, time
def model_fn(model_dir): return model_dir
def predict_fn(data, model):
    if data.ravel()[0] == 9:
        open(model + "/begun", "w").close()
        until = time.monotonic() + 20
        while not os.path.exists(model + "/release") and time.monotonic() < until:
            time.sleep(0.005)
    return data * 2
"""


def test_what_a_server_holds_is_bounded_and_answered(make_model: Make) -> None:
    """A call too many is refused; at SIGTERM those that are held are answered, then exit 0."""
    folder = make_model(HELD)
    (folder / "samples.json").write_text('[{"body": [[1, 2]]}, {"body": [[3, 4]]}]')
    port, limits = free_port(), {"WEIGHBRIDGE_MAX_WAITING": "2"}
    tensor = grpc_client.InferInput("input", [1, 2], "INT64")
    tensor.set_data_from_numpy(np.array([[9, 9]]))
    found: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    with (
        serving(folder, WEIGHBRIDGE_GRPC_PORT=str(port), **limits) as (process, _),
        grpc_client.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):

        def infer() -> Any:
            return client.async_infer(
                "model", [tensor], lambda result, error: found.put((result, error))
            )

        calls = [infer()]  # a call that nobody holds is cancelled
        wait_for((folder / "begun").exists, "the model to begin")
        calls += [infer(), infer()]
        _, error = found.get(timeout=30)
        assert error.status() == "StatusCode.RESOURCE_EXHAUSTED"
        process.send_signal(signal.SIGTERM)
        (folder / "release").touch()
        for _ in range(2):
            result, error = found.get(timeout=30)
            assert error is None
            assert result.as_numpy("output").tolist() == [[18, 18]]
        assert process.wait(timeout=10) == 0
