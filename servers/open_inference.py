"""The Open Inference Protocol (KServe v2) apart from any wire: what is asked, checked, counted."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from servers.engine import MAX_KINDS, Computed, Tensors
from servers.signature import Signature
from servers.tensors import Array, Kinds

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]
VERSION = "1"

_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}


class ProtocolError(Exception):
    """What the caller did wrong, or the model; ``status`` is that of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Statistics:
    """What the statistics extension tells; of one event loop."""

    succeeded: int = 0
    failed: int = 0
    success_s: float = 0.0
    fail_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    last_s: float = 0.0
    """Since the epoch."""

    def note(self, total_s: float, queue_s: float, infer_s: float) -> None:
        """An answered request: the seconds it took, waited and was computed."""
        self.succeeded += 1
        self.success_s += total_s
        self.queue_s += queue_s
        self.infer_s += infer_s
        self.last_s = time.time()

    def note_failure(self, took_s: float) -> None:
        self.failed += 1
        self.fail_s += took_s


@dataclass(frozen=True)
class OpenModel:
    """The one model of a server, as the protocol describes it."""

    name: str
    signature: Signature
    max_batch: int
    executions: Counter[int]
    """How many times predict_fn was called with so many requests."""
    statistics: Statistics = field(default_factory=Statistics)
    _taken: set[Kinds] = field(default_factory=set)

    def check_name(self, name: str, version: str = "") -> None:
        """Return if this model in this version is the one there is."""
        if name != self.name:
            raise ProtocolError(404, f"There is no model {name!r}. There is {self.name!r}.")
        if version not in ("", VERSION):
            raise ProtocolError(404, f"Model {name!r} has no version {version!r}, only {VERSION}.")

    def tensors(self, arrays: dict[str, Array], kinds: Kinds) -> Tensors:
        """The call of the model for these inputs; ProtocolError when they are not its own."""
        if kinds not in self._taken:
            self._check(kinds)
            if len(self._taken) >= MAX_KINDS:
                self._taken.clear()
            self._taken.add(kinds)
        return Tensors(arrays, kinds)

    def _check(self, kinds: Kinds) -> None:
        given = {name: (datatype, shape) for name, datatype, shape in kinds}
        for tensor in self.signature.inputs:
            if tensor.name not in given:
                raise ProtocolError(400, f"The input {tensor.name!r} is missing.")
            datatype, shape = given[tensor.name]
            if not tensor.takes(datatype, shape):
                raise ProtocolError(
                    400,
                    f"Input {tensor.name!r} is {datatype} of shape {list(shape)}; "
                    f"send {tensor.datatype} of {tensor.shape}.",
                )
        if len(kinds) > len(self.signature.inputs):
            unknown = given.keys() - {tensor.name for tensor in self.signature.inputs}
            if unknown:
                raise ProtocolError(400, f"The model has no input {sorted(unknown)[0]!r}.")
            raise ProtocolError(400, "Name each input once.")

    def outputs(self, computed: Computed, wanted: list[str]) -> Mapping[str, Array]:
        """The outputs asked for (all, if none is named) in their order."""
        if computed.failure is not None:
            text = computed.failure.body.decode("utf-8", "replace")
            raise ProtocolError(computed.failure.status, text)
        found = computed.outputs
        if not wanted:
            return found
        for name in wanted:
            if name not in found:
                raise ProtocolError(400, f"The model has no output {name!r}.")
        return {name: found[name] for name in wanted}

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

        def span(count: int, seconds: float) -> dict[str, int]:
            return {"count": count, "ns": int(seconds * 1e9)}

        output_s = max(0.0, one.success_s - one.queue_s - one.infer_s)

        model = {
            "name": self.name,
            "version": VERSION,
            "last_inference": int(one.last_s * 1000),
            "inference_count": one.succeeded,
            "execution_count": sum(executions.values()),
            "inference_stats": {
                "success": span(one.succeeded, one.success_s),
                "fail": span(one.failed, one.fail_s),
                "queue": span(one.succeeded, one.queue_s),
                "compute_input": span(one.succeeded, 0),
                "compute_infer": span(one.succeeded, one.infer_s),
                "compute_output": span(one.succeeded, output_s),
            },
            "batch_stats": [
                {"batch_size": size, "compute_infer": span(count, 0)}
                for size, count in sorted(executions.items())
            ],
        }
        return {"model_stats": [model]}
