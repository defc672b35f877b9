"""tritonclient as a client, over HTTP and over gRPC: each body is one input tensor."""

import json
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bench.clients import TritonGrpc, TritonHttp
from bench.errors import ConfigError
from bench.workload import Workload
from scenarios.compatible import Call
from scenarios.request import CONNECT_TIMEOUT_S

_TYPES: dict[str, Any] = {
    "FP32": np.float32,
    "FP64": np.float64,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
}
_KEPT = 256
"""So many bodies are kept as tensors."""


class _Tensors:
    """Bodies as input tensors of tritonclient's ``library``, each made once."""

    def __init__(self, kind: TritonHttp | TritonGrpc, workload: Workload, library: Any) -> None:
        self._kind = kind
        self._npy = workload.payload.content_type.startswith("application/x-npy")
        self._library = library
        self._made: dict[int, Any] = {}

    def of(self, call: Call) -> Any:
        """The input tensor of a request."""
        if call.index not in self._made:
            if len(self._made) >= _KEPT:
                self._made.clear()
            self._made[call.index] = self._make(call.content())
        return self._made[call.index]

    def _make(self, body: bytes) -> Any:
        kind = self._kind
        try:
            value = np.load(BytesIO(body), allow_pickle=False) if self._npy else json.loads(body)
            array = np.asarray(value, dtype=_TYPES[kind.datatype])
        except (ValueError, TypeError) as error:
            raise ConfigError(f"A body is no tensor of {kind.datatype}: {error}.") from error
        made = self._library.InferInput(kind.input, list(array.shape), kind.datatype)
        made.set_data_from_numpy(array)
        return [made]


class HttpCaller:
    """The Open Inference Protocol over HTTP."""

    def __init__(self, kind: TritonHttp, url: str, workload: Workload) -> None:
        from tritonclient import http

        self._model = kind.model
        self._tensors = _Tensors(kind, workload, http)
        self._client = http.InferenceServerClient(
            _address(kind, url),
            concurrency=workload.max_in_flight,
            connection_timeout=CONNECT_TIMEOUT_S,
            network_timeout=workload.request_timeout_s,
            ssl=kind.address is None and urlsplit(url).scheme == "https",
        )

    def call(self, call: Call) -> None:
        """Infer, and count the answer's bytes."""
        from tritonclient.utils import InferenceServerException

        try:
            result = self._client.infer(self._model, self._tensors.of(call))
        except InferenceServerException as error:
            _failed(call, error)
            return
        call.response_bytes = _bytes(result, result.get_response()["outputs"], "name")

    def close(self) -> None:
        """Let all connections go."""
        self._client.close()


class GrpcCaller:
    """The Open Inference Protocol over gRPC, on one channel."""

    def __init__(self, kind: TritonGrpc, url: str, workload: Workload) -> None:
        try:
            from grpc.experimental.gevent import init_gevent
            from tritonclient import grpc as library
        except ImportError as error:
            raise ConfigError(
                "client.kind = 'triton-grpc' needs grpcio: pip install 'tritonclient[grpc]'."
            ) from error
        init_gevent()  # before any channel, else it would block the loop
        self._model = kind.model
        self._timeout_s = workload.request_timeout_s
        self._tensors = _Tensors(kind, workload, library)
        self._client = library.InferenceServerClient(_address(kind, url))

    def call(self, call: Call) -> None:
        """Infer, and count the answer's bytes."""
        from tritonclient.utils import InferenceServerException

        try:
            result = self._client.infer(
                self._model, self._tensors.of(call), client_timeout=self._timeout_s
            )
        except InferenceServerException as error:
            _failed(call, error)
            return
        call.response_bytes = int(result.get_response().ByteSize())

    def close(self) -> None:
        """Let the channel go."""
        self._client.close()


def _address(kind: TritonHttp | TritonGrpc, url: str) -> str:
    return kind.address or urlsplit(url).netloc.rpartition("@")[2]


def _failed(call: Call, error: Any) -> None:
    """HTTP has a number as the status; gRPC a name, such as StatusCode.UNAVAILABLE."""
    text = str(error.status() or type(error).__name__).removeprefix("StatusCode.")
    number = int(text) if text.isdigit() else 0
    call.refused(number, f"HTTP {number}" if number else text)


def _bytes(result: Any, outputs: Any, name: str) -> int:
    found = (result.as_numpy(output[name]) for output in outputs)
    return sum(int(array.nbytes) for array in found if array is not None)
