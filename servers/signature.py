"""The tensors that a model takes and gives, for callers that speak the Open Inference Protocol.

``signature.json`` at the top of the model says it::

    {"inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 64]}],
     "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}]}

Without this file it is what the model's own samples show. The input goes straight to predict_fn:
one input by itself, several as a dict (or as the tuple that input_fn makes of a sample). A tensor
is an array of the library whose arrays input_fn makes; ``"library": "torch"`` or ``"numpy"`` says
it for a model without samples.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct

from bench.errors import ConfigError
from servers.stacking import Way, is_tensor
from servers.tensors import DATATYPES, datatype_of, to_array

NAME = "signature.json"
MAX_BYTES = 10**6


class Tensor(Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output; -1 in the shape is any length."""

    name: str
    datatype: str
    shape: list[int]

    def takes(self, datatype: str, shape: Sequence[int]) -> bool:
        """Whether a tensor of this datatype and shape may be given for it."""
        if datatype != self.datatype or len(shape) != len(self.shape):
            return False
        for wanted, given in zip(self.shape, shape, strict=True):  # noqa: SIM110 - twice as fast
            if wanted not in (-1, given):
                return False
        return True


class Signature(Struct, frozen=True, forbid_unknown_fields=True):
    """What goes in and what comes out."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    library: Literal["numpy", "torch", ""] = ""
    container: Literal["one", "dict", "tuple", ""] = ""

    def data(self, arrays: "Mapping[str, np.ndarray[Any, Any]]") -> Any:
        """What predict_fn is given for these arrays, one for each input."""
        values = [self._value(arrays[tensor.name]) for tensor in self.inputs]
        if self.container == "tuple":
            return tuple(values)
        if self.container == "dict" or len(values) > 1:
            return {tensor.name: value for tensor, value in zip(self.inputs, values, strict=True)}
        return values[0]

    def results(self, prediction: Any) -> "dict[str, np.ndarray[Any, Any]]":
        """The outputs in a prediction, by name; ValueError when it is not what was declared."""
        if isinstance(prediction, dict):
            found = {name: to_array(value) for name, value in prediction.items()}
        else:
            several = len(self.outputs) > 1 and isinstance(prediction, tuple | list)
            values = prediction if several else [prediction]
            pairs = zip(self.outputs, values, strict=False)
            found = {tensor.name: to_array(value) for tensor, value in pairs}
        outputs = {}
        for tensor in self.outputs:
            if tensor.name not in found:
                raise ValueError(f"predict_fn gave no output {tensor.name!r}, which is declared")
            array = found[tensor.name]
            wanted = DATATYPES[tensor.datatype]
            if array.dtype != wanted and array.dtype.kind in "biuf":
                array = array.astype(wanted, casting="same_kind")
            if not tensor.takes(datatype_of(array), array.shape):
                raise ValueError(
                    f"predict_fn gave {tensor.name} as {datatype_of(array)} of shape "
                    f"{list(array.shape)}; {tensor.datatype} of {tensor.shape} is declared"
                )
            outputs[tensor.name] = array
        return outputs

    def _value(self, array: "np.ndarray[Any, Any]") -> Any:
        if array.dtype.hasobject:
            return [item.decode() for item in array.ravel()]
        if self.library != "torch":
            return array
        return _torch().from_numpy(array if array.flags.writeable else array.copy())


@functools.cache
def _torch() -> Any:
    import torch

    return torch


def read_signature(folder: Path) -> Signature | None:
    """The signature that the model in ``folder`` declares; ConfigError when it cannot be read."""
    path = folder / NAME
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(
            f"{path} is over {MAX_BYTES:,} bytes. Keep only inputs and outputs in it."
        )
    try:
        signature = msgspec.json.decode(path.read_bytes(), type=Signature)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}. Correct or remove it.") from error
    tensors = [*signature.inputs, *signature.outputs]
    unknown = [tensor.datatype for tensor in tensors if tensor.datatype not in DATATYPES]
    if unknown:
        raise ConfigError(f"{path}: datatype {unknown[0]!r}. Use one of {', '.join(DATATYPES)}.")
    names = [tensor.name for tensor in signature.inputs], [t.name for t in signature.outputs]
    if not all(names) or any(len(set(each)) < len(each) for each in names):
        raise ConfigError(f"{path}: name each input and each output once, at least one of both.")
    return signature


def completed(signature: Signature, data: Any) -> Signature:
    """The signature with what a sample's input tells of the library and the container."""
    kinds = [name for kind, name in ((dict, "dict"), (tuple, "tuple")) if isinstance(data, kind)]
    first = next(iter(data.values())) if isinstance(data, dict) else data
    first = first[0] if isinstance(first, tuple) else first
    library = signature.library or ("torch" if is_tensor(first) else "numpy")
    return msgspec.structs.replace(signature, library=library, container=(*kinds, "one")[0])


def as_sent(signature: Signature, data: Any) -> Any | None:
    """What predict_fn is given when a sample's input comes as tensors; None when it cannot."""
    values = list(data.values()) if isinstance(data, dict) else data
    values = values if isinstance(data, dict | tuple) else [data]
    if len(values) != len(signature.inputs):
        return None
    arrays = {}
    try:
        for tensor, value in zip(signature.inputs, values, strict=True):
            array = to_array(data[tensor.name] if isinstance(data, dict) else value)
            array = array.astype(DATATYPES[tensor.datatype], casting="same_kind")
            if not tensor.takes(tensor.datatype, array.shape):
                return None
            arrays[tensor.name] = array
        return signature.data(arrays)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def shown(data: Sequence[Any], prediction: Any, way: Way | None) -> Signature | None:
    """The signature that inputs of samples and a prediction show; None when they show none."""
    try:
        inputs = _shown([_named(each, "input") for each in data], way)
        outputs = _shown([_named(prediction, "output")], way)
    except (TypeError, ValueError):
        return None
    return completed(Signature(inputs, outputs), data[0])


def _named(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, tuple):
        return {f"{name}_{number}": part for number, part in enumerate(value)}
    return {name: value}


def _shown(found: list[dict[str, Any]], way: Way | None) -> list[Tensor]:
    tensors = []
    for name in found[0]:
        arrays = [to_array(each[name]) for each in found]
        datatypes = {datatype_of(array) for array in arrays}
        lengths = {array.ndim for array in arrays}
        if len(datatypes) != 1 or len(lengths) != 1:
            raise ValueError("the samples differ in kind")
        dims = [set(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
        shape = [int(next(iter(sizes))) if len(sizes) == 1 else -1 for sizes in dims]
        if way == "rows":
            shape = [-1, *shape[1:]]
        tensors.append(Tensor(name, datatypes.pop(), shape))
    if not tensors:
        raise ValueError("there is nothing in it")
    return tensors
