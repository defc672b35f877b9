"""The Open Inference Protocol over gRPC, with the messages of tritonclient."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from msgspec import Struct
from tritonclient.grpc import service_pb2

from bench import __version__
from servers.batcher import Batcher, Overloaded, Ticket, TimedOut, timeout_text
from servers.engine import Computed
from servers.grpc_server import GrpcServer, Method, Turn
from servers.grpc_wire import Refused, Status
from servers.loop_sink import LoopSink, LoopTicket
from servers.open_inference import EXTENSIONS, VERSION, OpenModel, ProtocolError
from servers.tensors import (
    Array,
    BadTensor,
    Kinds,
    checked_shape,
    datatype_of,
    from_raw,
    from_values,
    to_raw,
)

SERVICE = "inference.GRPCInferenceService"

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

_REFUSED = (ProtocolError, BadTensor, Overloaded, TimedOut)
_STATUS = {400: Status.INVALID_ARGUMENT, 404: Status.NOT_FOUND}


class _Asked(Struct, frozen=True):
    """What is to be known of a request when its answer is there."""

    id: str
    outputs: list[str]
    began_s: float
    streamed: bool


Describe = Callable[[Any], Any]
"""What a request that computes nothing is answered."""


def open_inference_grpc(model: OpenModel, batcher: Batcher, max_payload_bytes: int) -> GrpcServer:
    """The service; it is opened by whoever has the event loop."""
    infer = _Infer(model, batcher)
    methods = {
        "ModelInfer": Method(infer.one),
        "ModelStreamInfer": Method(infer.of_stream, streams=True),
        **{name: Method(_described(*each)) for name, each in _descriptions(model).items()},
    }
    paths = {f"/{SERVICE}/{name}".encode(): method for name, method in methods.items()}
    return GrpcServer(paths, min(max_payload_bytes + 2**20, 2**31 - 1))


def _described(kind: Any, describe: Describe) -> Callable[[bytes, Turn], None]:
    def answer(message: bytes, turn: Turn) -> None:
        try:
            turn.send(describe(_parsed(kind, message)).SerializeToString())
        except ProtocolError as error:
            raise Refused(_status_of(error), str(error)) from error

    return answer


def _descriptions(model: OpenModel) -> dict[str, tuple[Any, Describe]]:
    """By its method, the kind of request and what it is answered."""
    pb, filled = service_pb2, json_format.ParseDict

    def named(answer: Describe) -> Describe:
        def describe(request: Any) -> Any:
            model.check_name(request.name, request.version)
            return answer(request)

        return describe

    def statistics(request: Any) -> Any:
        if request.name:
            model.check_name(request.name, request.version)
        return filled(model.stats(), pb.ModelStatisticsResponse())

    server = pb.ServerMetadataResponse(
        name="weighbridge", version=__version__, extensions=EXTENSIONS
    )
    index = {"models": model.index()}
    return {
        "ServerLive": (pb.ServerLiveRequest, lambda _: pb.ServerLiveResponse(live=True)),
        "ServerReady": (pb.ServerReadyRequest, lambda _: pb.ServerReadyResponse(ready=True)),
        "ServerMetadata": (pb.ServerMetadataRequest, lambda _: server),
        "ModelReady": (pb.ModelReadyRequest, named(lambda _: pb.ModelReadyResponse(ready=True))),
        "ModelMetadata": (
            pb.ModelMetadataRequest,
            named(lambda _: filled(model.metadata(), pb.ModelMetadataResponse())),
        ),
        "ModelConfig": (
            pb.ModelConfigRequest,
            named(lambda _: filled({"config": model.config()}, pb.ModelConfigResponse())),
        ),
        "ModelStatistics": (pb.ModelStatisticsRequest, statistics),
        "RepositoryIndex": (
            pb.RepositoryIndexRequest,
            lambda _: filled(index, pb.RepositoryIndexResponse()),
        ),
    }


class _Infer:
    """Answers requests to infer, each the only one of its call or one of a stream."""

    def __init__(self, model: OpenModel, batcher: Batcher) -> None:
        self._model = model
        self._sink = LoopSink(batcher)
        self._late = timeout_text(batcher.timeout_s)

    def one(self, message: bytes, turn: Turn) -> None:
        self._begin(message, turn, streamed=False)

    def of_stream(self, message: bytes, turn: Turn) -> None:
        """As `one`, but what is refused is answered too, and the stream goes on."""
        self._begin(message, turn, streamed=True)

    def _begin(self, message: bytes, turn: Turn, streamed: bool) -> None:
        began_s = time.perf_counter()
        request = _parsed(service_pb2.ModelInferRequest, message)
        names = [each.name for each in request.outputs]
        asked = _Asked(request.id, names, began_s, streamed)
        try:
            self._model.check_name(request.model_name, request.model_version)
            wanted = self._model.tensors(*_inputs(request))
            ticket = self._sink.submit(wanted, partial(turn.attempt, self._settle, asked, turn))
        except _REFUSED as error:
            self._refuse(asked, turn, error)
        else:
            turn.abandon = partial(self._abandon, asked, ticket)

    def _settle(self, asked: _Asked, turn: Turn, ticket: Ticket) -> None:
        computed: Computed = ticket.answer
        try:
            if ticket.given_up:
                raise TimedOut(self._late)
            outputs = self._model.outputs(computed, asked.outputs)
        except _REFUSED as error:
            self._refuse(asked, turn, error)
            return
        response = _response(self._model.name, asked.id, outputs)
        if asked.streamed:
            response = service_pb2.ModelStreamInferResponse(infer_response=response)
        answer = response.SerializeToString()
        took_s = time.perf_counter() - asked.began_s
        self._model.statistics.note(took_s, ticket.queue_s, computed.predict_s)
        turn.send(answer)

    def _refuse(self, asked: _Asked, turn: Turn, error: Exception) -> None:
        self._note_failure(asked)
        if not asked.streamed:
            turn.fail(_status_of(error), str(error))
            return
        refused = service_pb2.ModelStreamInferResponse(error_message=str(error))
        refused.infer_response.id = asked.id
        turn.send(refused.SerializeToString())

    def _abandon(self, asked: _Asked, ticket: LoopTicket) -> None:
        ticket.give_up()
        self._note_failure(asked)

    def _note_failure(self, asked: _Asked) -> None:
        self._model.statistics.note_failure(time.perf_counter() - asked.began_s)


def _parsed(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise Refused(Status.INTERNAL, f"The message is no {kind.DESCRIPTOR.name}.") from error


def _status_of(error: Exception) -> Status:
    if isinstance(error, ProtocolError):
        return _STATUS.get(error.status, Status.INTERNAL)
    return {Overloaded: Status.RESOURCE_EXHAUSTED, TimedOut: Status.DEADLINE_EXCEEDED}.get(
        type(error), Status.INVALID_ARGUMENT
    )


def _inputs(request: Any) -> tuple[dict[str, Array], Kinds]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadTensor(f"{len(raw)} raw contents for {len(request.inputs)} inputs: send one each.")
    arrays: dict[str, Array] = {}
    kinds = []
    for number, tensor in enumerate(request.inputs):
        shape = checked_shape(list(tensor.shape))
        kinds.append((tensor.name, tensor.datatype, tuple(shape)))
        if raw:
            arrays[tensor.name] = from_raw(raw[number], tensor.datatype, shape)
            continue
        field = _CONTENTS.get(tensor.datatype)
        if field is None:
            raise BadTensor(f"{tensor.datatype or 'no datatype'}: send it as raw contents.")
        values = list(getattr(tensor.contents, field))
        arrays[tensor.name] = from_values(values, tensor.datatype, shape)
    return arrays, tuple(kinds)


def _response(name: str, request_id: str, outputs: Mapping[str, Array]) -> Any:
    response = service_pb2.ModelInferResponse(model_name=name, model_version=VERSION, id=request_id)
    for output, array in outputs.items():
        tensor = response.outputs.add()
        tensor.name = output
        tensor.datatype = datatype_of(array)
        tensor.shape.extend(array.shape)
        response.raw_output_contents.append(to_raw(array))
    return response
