"""A user's model inside Triton's Python backend. Triton loads this file; nothing of ours is there.

The parameters of the model's configuration name the folder of the model and its signature.
"""

import importlib.util
import json
import os
import sys
from typing import Any

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What the backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        told = {name: value["string_value"] for name, value in parameters.items()}
        self._signature = json.loads(told["signature"])
        folder = told["model_dir"]
        os.environ["WEIGHBRIDGE_DEVICE"] = told["device"]
        if self._signature.get("library") == "torch":
            import torch

            torch.set_num_threads(int(told["threads"]))
        path = os.path.join(folder, "code", told["program"])
        sys.path.insert(0, os.path.dirname(path))
        sys.dont_write_bytecode = True
        spec: Any = importlib.util.spec_from_file_location("_user_code", path)
        self._code: Any = importlib.util.module_from_spec(spec)
        sys.modules["_user_code"] = self._code
        spec.loader.exec_module(self._code)
        self._model = self._code.model_fn(folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        names = [tensor["name"] for tensor in self._signature["inputs"]]
        given = [
            [triton.get_input_tensor_by_name(request, name).as_numpy() for name in names]
            for request in requests
        ]
        counts = [len(arrays[0]) for arrays in given]
        joined = [np.concatenate(arrays) for arrays in zip(*given, strict=True)]
        outputs = self._outputs(joined, names)
        ends = np.cumsum(counts).tolist()
        return [
            triton.InferenceResponse(
                [triton.Tensor(name, array[end - count : end]) for name, array in outputs]
            )
            for count, end in zip(counts, ends, strict=True)
        ]

    def _outputs(self, joined: list[Any], names: list[str]) -> list[tuple[str, Any]]:
        if self._signature.get("library") == "torch":
            import torch

            joined = [torch.from_numpy(array) for array in joined]
        data = joined[0] if len(joined) == 1 else dict(zip(names, joined, strict=True))
        result = self._code.predict_fn(data, self._model)
        wanted = [tensor["name"] for tensor in self._signature["outputs"]]
        if not isinstance(result, dict):
            several = len(wanted) > 1 and isinstance(result, tuple | list)
            result = dict(zip(wanted, result if several else [result], strict=False))
        return [(name, _array(result[name])) for name in wanted]


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
