"""The Open Inference Protocol (KServe v2) apart from any wire: what is asked, checked, counted."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from servers.engine import Computed, Tensors
from servers.signature import Signature
from servers.tensors import Array

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]
VERSION = "1"

_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}


class ProtocolError(Exception):
    """What the caller did wrong, or the model; ``status`` is that of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Statistics:
    """What the statistics extension tells; times in nanoseconds."""

    succeeded: int = 0
    failed: int = 0
    success_ns: int = 0
    fail_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    last_ms: int = 0
    inferences: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, spans_s: tuple[float, float, float], rows: int) -> None:
        """An answered request: the seconds it took, waited and was computed."""
        total_s, queue_s, infer_s = spans_s
        with self._lock:
            self.succeeded += 1
            self.inferences += rows
            self.success_ns += int(total_s * 1e9)
            self.queue_ns += int(queue_s * 1e9)
            self.infer_ns += int(infer_s * 1e9)
            self.output_ns += int(max(0.0, total_s - queue_s - infer_s) * 1e9)
            self.last_ms = int(time.time() * 1000)

    def note_failure(self, took_s: float) -> None:
        with self._lock:
            self.failed += 1
            self.fail_ns += int(took_s * 1e9)


@dataclass(frozen=True)
class OpenModel:
    """The one model of a server, as the protocol describes it."""

    name: str
    signature: Signature
    max_batch: int
    executions: Counter[int]
    """How many times predict_fn was called with so many requests."""
    statistics: Statistics = field(default_factory=Statistics)

    def check_name(self, name: str, version: str = "") -> None:
        """Return if this model in this version is the one there is."""
        if name != self.name:
            raise ProtocolError(404, f"There is no model {name!r}. There is {self.name!r}.")
        if version not in ("", VERSION):
            raise ProtocolError(404, f"Model {name!r} has no version {version!r}, only {VERSION}.")

    def tensors(self, arrays: dict[str, Array], datatypes: dict[str, str]) -> Tensors:
        """The call of the model for these inputs; ProtocolError when they are not its own."""
        for tensor in self.signature.inputs:
            if tensor.name not in arrays:
                raise ProtocolError(400, f"The input {tensor.name!r} is missing.")
            given = arrays[tensor.name]
            if not tensor.takes(datatypes[tensor.name], given.shape):
                raise ProtocolError(
                    400,
                    f"Input {tensor.name!r} is {datatypes[tensor.name]} of shape "
                    f"{list(given.shape)}; send {tensor.datatype} of {tensor.shape}.",
                )
        if len(arrays) > len(self.signature.inputs):
            unknown = arrays.keys() - {tensor.name for tensor in self.signature.inputs}
            raise ProtocolError(400, f"The model has no input {sorted(unknown)[0]!r}.")
        try:
            return Tensors(self.signature.data(arrays))
        except UnicodeDecodeError as error:
            raise ProtocolError(400, f"A text is not UTF-8: {error}.") from None

    def outputs(self, computed: Computed, wanted: list[str]) -> dict[str, Array]:
        """The outputs asked for (all, if none is named) in their order."""
        if computed.failure is not None:
            text = computed.failure.body.decode("utf-8", "replace")
            raise ProtocolError(computed.failure.status, text)
        try:
            found = self.signature.results(computed.prediction)
        except (ValueError, TypeError) as error:
            raise ProtocolError(500, f"{error}. Correct the model's signature.") from error
        for name in wanted:
            if name not in found:
                raise ProtocolError(400, f"The model has no output {name!r}.")
        return {name: found[name] for name in wanted or found}

    def metadata(self) -> dict[str, Any]:
        def described(tensors: list[Any]) -> list[dict[str, Any]]:
            return [
                {"name": each.name, "datatype": each.datatype, "shape": each.shape}
                for each in tensors
            ]

        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": "weighbridge_python",
            "inputs": described(self.signature.inputs),
            "outputs": described(self.signature.outputs),
        }

    def config(self) -> dict[str, Any]:
        """The model configuration, as far as perf_analyzer reads it."""
        tensors = [*self.signature.inputs, *self.signature.outputs]
        batched = all(each.shape and each.shape[0] == -1 for each in tensors)
        skip = 1 if batched else 0

        def described(tensors: list[Any]) -> list[dict[str, Any]]:
            return [
                {
                    "name": each.name,
                    "data_type": _CONFIG_TYPES.get(each.datatype, f"TYPE_{each.datatype}"),
                    "dims": each.shape[skip:] or [1],
                }
                for each in tensors
            ]

        return {
            "name": self.name,
            "platform": "weighbridge_python",
            "backend": "python",
            "max_batch_size": self.max_batch if batched else 0,
            "input": described(self.signature.inputs),
            "output": described(self.signature.outputs),
        }

    def index(self) -> list[dict[str, str]]:
        return [{"name": self.name, "version": VERSION, "state": "READY", "reason": ""}]

    def stats(self) -> dict[str, Any]:
        """The statistics extension's account."""
        one, executions = self.statistics, dict(self.executions)

        def span(count: int, ns: int) -> dict[str, int]:
            return {"count": count, "ns": ns}

        model = {
            "name": self.name,
            "version": VERSION,
            "last_inference": one.last_ms,
            "inference_count": one.inferences,
            "execution_count": sum(executions.values()),
            "inference_stats": {
                "success": span(one.succeeded, one.success_ns),
                "fail": span(one.failed, one.fail_ns),
                "queue": span(one.succeeded, one.queue_ns),
                "compute_input": span(one.succeeded, 0),
                "compute_infer": span(one.succeeded, one.infer_ns),
                "compute_output": span(one.succeeded, one.output_ns),
            },
            "batch_stats": [
                {"batch_size": size, "compute_infer": span(count, 0)}
                for size, count in sorted(executions.items())
            ],
        }
        return {"model_stats": [model]}
