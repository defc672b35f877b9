"""Decode, forward and encode in one process, for `tests/perf_model_server.py`.

Called with a model's folder and a batch size; the body comes on stdin.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

SECONDS = 2.0


def main() -> None:
    """Print how many requests a second could be answered with nothing else to do, and the CPU."""
    import torch

    torch.set_num_threads(1)
    folder, batch = Path(sys.argv[1]), int(sys.argv[2])
    body = sys.stdin.buffer.read()
    spec: Any = importlib.util.spec_from_file_location("served", folder / "code" / "inference.py")
    program: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    model = program.model_fn(str(folder))
    done, began, began_cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < SECONDS:
        rows = [np.array(orjson.loads(body)["inputs"][0]["data"], np.float32) for _ in range(batch)]
        result = program.predict_fn(torch.from_numpy(np.stack(rows)), model)
        outputs = result if isinstance(result, tuple) else (result,)
        for number in range(batch):
            parts = [_described(each[number : number + 1]) for each in outputs]
            orjson.dumps({"outputs": parts}, option=orjson.OPT_SERIALIZE_NUMPY)
        done += batch
    cpu_us = (time.process_time() - began_cpu) / done * 1e6
    print(json.dumps({"rate": done / (time.perf_counter() - began), "cpu_us": cpu_us}))


def _described(part: "np.ndarray[Any, Any]") -> dict[str, Any]:
    kind = "FP32" if part.dtype == np.float32 else "INT64"
    return {"name": "output", "datatype": kind, "shape": part.shape, "data": part.ravel()}


if __name__ == "__main__":
    main()
