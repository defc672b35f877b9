"""The Open Inference Protocol over gRPC: grpcio's server, with the messages of tritonclient."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import json_format
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench import __version__
from bench.errors import ConfigError
from servers.batcher import Batcher, Overloaded, ThreadSink, TimedOut
from servers.open_inference import EXTENSIONS, VERSION, OpenModel, ProtocolError
from servers.tensors import (
    Array,
    BadTensor,
    checked_shape,
    datatype_of,
    from_raw,
    from_values,
    to_raw,
)

THREADS = 64
"""Most calls decoded or waiting at once; the rest wait in gRPC's own queue."""

MAX_QUEUED = 1000

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
}


def serve_grpc(
    address: str, model: OpenModel, batcher: Batcher, max_payload_bytes: int
) -> grpc.Server:
    """A started server; ConfigError when the address cannot be had."""
    limit = min(max_payload_bytes + 2**20, 2**31 - 1)
    server = grpc.server(
        ThreadPoolExecutor(THREADS, "grpc"),
        maximum_concurrent_rpcs=MAX_QUEUED,
        options=[
            ("grpc.so_reuseport", 1),  # the instances of an endpoint share it
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
        ],
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Servicer(model, batcher), server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"{address} cannot be bound for gRPC: {error}. Name another.") from error
    server.start()
    return server


def _refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong becomes a gRPC status."""

    def call(self: Any, request: Any, context: Any) -> Any:
        try:
            return method(self, request)
        except ProtocolError as error:
            status = _STATUS.get(error.status, grpc.StatusCode.INTERNAL)
            context.abort(status, str(error))
        except BadTensor as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Overloaded as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except TimedOut as error:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))

    return call


class _Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Names of methods are the protocol's."""

    def __init__(self, model: OpenModel, batcher: Batcher) -> None:
        self._model = model
        self._batcher = batcher
        self._sink = ThreadSink()

    @_refusing
    def ServerLive(self, _: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    @_refusing
    def ServerReady(self, _: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    @_refusing
    def ModelReady(self, request: Any) -> Any:
        self._model.check_name(request.name, request.version)
        return service_pb2.ModelReadyResponse(ready=True)

    @_refusing
    def ServerMetadata(self, _: Any) -> Any:
        return service_pb2.ServerMetadataResponse(
            name="weighbridge", version=__version__, extensions=EXTENSIONS
        )

    @_refusing
    def ModelMetadata(self, request: Any) -> Any:
        self._model.check_name(request.name, request.version)
        return json_format.ParseDict(self._model.metadata(), service_pb2.ModelMetadataResponse())

    @_refusing
    def ModelConfig(self, request: Any) -> Any:
        self._model.check_name(request.name, request.version)
        config = {"config": self._model.config()}
        return json_format.ParseDict(config, service_pb2.ModelConfigResponse())

    @_refusing
    def ModelStatistics(self, request: Any) -> Any:
        if request.name:
            self._model.check_name(request.name, request.version)
        return json_format.ParseDict(self._model.stats(), service_pb2.ModelStatisticsResponse())

    @_refusing
    def RepositoryIndex(self, _: Any) -> Any:
        index = {"models": self._model.index()}
        return json_format.ParseDict(index, service_pb2.RepositoryIndexResponse())

    @_refusing
    def ModelInfer(self, request: Any) -> Any:
        began_s = time.perf_counter()
        model = self._model
        model.check_name(request.model_name, request.model_version)
        try:
            arrays, datatypes = _inputs(request)
            wanted = model.tensors(arrays, datatypes)
            computed = self._sink.call(self._batcher, wanted)
            outputs = model.outputs(computed, [each.name for each in request.outputs])
        except Exception:
            model.statistics.note_failure(time.perf_counter() - began_s)
            raise
        model.statistics.note((time.perf_counter() - began_s, 0.0, computed.predict_s), 1)
        return _response(model.name, request.id, outputs)

    def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        """One answer or error for each request of the stream, in its order."""
        del context
        for request in requests:
            response = service_pb2.ModelStreamInferResponse
            try:
                yield response(infer_response=_Servicer.ModelInfer(self, request, _Raising()))
            except _Refused as error:
                refused = response(error_message=str(error))
                refused.infer_response.id = request.id
                yield refused


class _Refused(Exception):
    pass


class _Raising:
    """Stands for the context where an error must not end the stream."""

    def abort(self, _: Any, text: str) -> None:
        raise _Refused(text)


def _inputs(request: Any) -> tuple[dict[str, Array], dict[str, str]]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadTensor(f"{len(raw)} raw contents for {len(request.inputs)} inputs: send one each.")
    arrays: dict[str, Array] = {}
    datatypes: dict[str, str] = {}
    for number, tensor in enumerate(request.inputs):
        shape = checked_shape(list(tensor.shape))
        datatypes[tensor.name] = tensor.datatype
        if raw:
            arrays[tensor.name] = from_raw(raw[number], tensor.datatype, shape)
            continue
        field = _CONTENTS.get(tensor.datatype)
        if field is None:
            raise BadTensor(f"{tensor.datatype or 'no datatype'}: send it as raw contents.")
        values = list(getattr(tensor.contents, field))
        arrays[tensor.name] = from_values(values, tensor.datatype, shape)
    return arrays, datatypes


def _response(name: str, request_id: str, outputs: dict[str, Array]) -> Any:
    response = service_pb2.ModelInferResponse(model_name=name, model_version=VERSION, id=request_id)
    for output, array in outputs.items():
        tensor = response.outputs.add()
        tensor.name = output
        tensor.datatype = datatype_of(array)
        tensor.shape.extend(array.shape)
        response.raw_output_contents.append(to_raw(array))
    return response
