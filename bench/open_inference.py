"""Request bodies rewritten for a server that speaks the Open Inference Protocol."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench.errors import ConfigError

_KINDS = {"BOOL": np.bool_, "FP16": np.float32, "FP32": np.float32, "FP64": np.float64}


def request_files(
    files: Sequence[Path], inputs: Sequence[dict[str, Any]], folder: Path
) -> list[Path]:
    """A body of the protocol for each file, written to ``folder`` under the same name.

    A file is one JSON array for the only input (one item, or a batch of them), or an object with
    an array for each input, or already a request of the protocol. ConfigError names another one.
    """
    folder.mkdir(parents=True)
    written = []
    for file in files:
        path = folder / file.name
        try:
            path.write_bytes(request_body(file.read_bytes(), inputs))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{file} cannot be sent to a server of the Open Inference Protocol: {error}. Give "
                "JSON arrays of the model's inputs, or whole requests of the protocol."
            ) from None
        written.append(path)
    return written


def request_body(body: bytes, inputs: Sequence[dict[str, Any]]) -> bytes:
    """One body of the protocol; ValueError or TypeError when this cannot become one."""
    value = json.loads(body)
    if isinstance(value, dict) and isinstance(value.get("inputs"), list):
        return body
    if not isinstance(value, dict):
        if len(inputs) != 1:
            raise ValueError(f"the model takes {len(inputs)} inputs")
        value = {inputs[0]["name"]: value}
    tensors = []
    for described in inputs:
        name = described["name"]
        if name not in value:
            raise ValueError(f"there is no {name!r} in it")
        tensors.append(_tensor(described, value[name]))
    return orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)


def _tensor(described: dict[str, Any], value: Any) -> dict[str, Any]:
    wanted = [int(size) for size in described["shape"]]
    datatype = str(described["datatype"])
    if datatype == "BYTES":
        array = np.asarray(value, dtype=object)
    else:
        array = np.asarray(value, dtype=_KINDS.get(datatype, np.int64))
    if array.ndim == len(wanted) - 1:
        array = array[np.newaxis]  # one item, where a batch is taken
    fits = array.ndim == len(wanted) and all(
        size in (-1, found) for size, found in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{described['name']!r} has the shape {array.shape}, not {wanted}")
    data = array.ravel().tolist() if array.dtype.hasobject else array.ravel()
    return {
        "name": described["name"],
        "shape": list(array.shape),
        "datatype": datatype,
        "data": data,
    }
