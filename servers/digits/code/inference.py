"""Reads handwritten digits: an image of 8 by 8 pixels, each from 0 (white) to 16 (black).

    body      one image as 64 numbers, or a list of images, as JSON; one image a line as JSON Lines;
              one image a row as CSV; NPY
    answer    {"predictions": [{"label": 7, "probability": 0.9931}, …]} as JSON, one prediction a
              line as JSON Lines, or the labels alone, one a row as CSV, or as NPY

It runs unchanged in SageMaker's PyTorch containers.
"""

import io
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

loads: Callable[..., Any] = json.loads
dumps: Callable[..., str | bytes] = partial(json.dumps, separators=(",", ":"))
try:
    import orjson

    loads, dumps = orjson.loads, orjson.dumps
except ImportError:  # SageMaker's containers may not have it
    pass

PIXELS = 64
DARKEST = 16.0
TOGETHER = {"cpu": 256, "cuda": 16384}
"""Images computed at once: more would not fit into a processor's caches."""

JSON_LINES = ("application/jsonlines", "application/x-jsonlines")


class BadInput(ValueError):
    """The caller's mistake: the server answers 400."""

    status_code = 400


class Digits(nn.Module):
    """Two convolutions and two linear layers; images in, one score a digit out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(images.view(-1, 1, 8, 8) / DARKEST)
        return scores


def device() -> torch.device:
    """Where to compute: WEIGHBRIDGE_DEVICE, or a GPU when there is one."""
    wanted = os.environ.get("WEIGHBRIDGE_DEVICE", "auto")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def model_fn(model_dir: str) -> Digits:
    model = Digits()
    model.load_state_dict(load_file(os.path.join(model_dir, "model.safetensors")))
    # In this order of memory MaxPool2d takes several channels at once: a batch is done sooner.
    model.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device()).eval()


def model_warmup_fn(model_dir: str, model: Digits) -> None:
    del model_dir
    predict_fn(torch.zeros(1, PIXELS), model)


def input_fn(body: str | bytes, content_type: str | None) -> torch.Tensor:
    kind = (content_type or "application/json").partition(";")[0].strip().lower()
    try:
        images = _read(body, kind)
    except BadInput:
        raise
    except (ValueError, TypeError, EOFError, MemoryError, RecursionError) as error:
        raise BadInput(f"{_EXPECTED} The body is none of them: {error}") from None
    if images.ndim == 1:
        images = images.reshape(1, -1)
    elif images.shape[1:] == (8, 8):
        images = images.reshape(-1, PIXELS)
    if images.ndim != 2 or images.shape[1] != PIXELS or not len(images):
        raise BadInput(f"{_EXPECTED} The body has the shape {images.shape}.")
    least, most = images.item(images.argmin()), images.item(images.argmax())
    if not (least >= 0 and most <= DARKEST):  # neither holds for a NaN, which is both
        raise BadInput(f"{_EXPECTED} The body holds other numbers.")
    return torch.from_numpy(images)


def predict_fn(
    images: torch.Tensor, model: Digits
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    where = next(model.parameters()).device
    with torch.inference_mode():
        parts = [
            model(part.to(where)).softmax(dim=1).max(dim=1)
            for part in torch.split(images, TOGETHER.get(where.type, 256))
        ]
    probabilities = np.concatenate([part.values.cpu().numpy() for part in parts])
    labels = np.concatenate([part.indices.cpu().numpy() for part in parts])
    return labels, probabilities


def output_fn(
    prediction: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]], accept: str
) -> tuple[str | bytes, str]:
    labels, probabilities = prediction
    for part in accept.split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in ("application/json", "application/*", "*/*"):
            pairs = zip(labels.tolist(), probabilities.tolist(), strict=True)
            answers = [{"label": label, "probability": round(p, 4)} for label, p in pairs]
            return dumps({"predictions": answers}), "application/json"
        if kind in JSON_LINES:
            pairs = zip(labels.tolist(), probabilities.tolist(), strict=True)
            lines = [f'{{"label":{label},"probability":{round(p, 4)}}}\n' for label, p in pairs]
            return "".join(lines), kind
        if kind in ("text/csv", "text/*"):
            return "".join(f"{label}\n" for label in labels.tolist()), "text/csv"
        if kind == "application/x-npy":
            stream = io.BytesIO()
            np.save(stream, labels, allow_pickle=False)
            return stream.getvalue(), kind
    error = BadInput(
        f"Accept {accept!r}: ask for application/json, application/jsonlines, text/csv, "
        "application/x-npy."
    )
    error.status_code = 406
    raise error


_EXPECTED = "Send images as 64 numbers from 0 to 16 each, in JSON, JSON Lines, CSV or NPY."


def _read(body: str | bytes, kind: str) -> np.ndarray[Any, Any]:
    if kind == "application/json":
        return np.array(loads(body), dtype=np.float32)
    if kind in JSON_LINES:
        return _read_lines(body if isinstance(body, bytes) else body.encode())
    if kind == "text/csv":
        text = body if isinstance(body, str) else body.decode("utf-8")
        if not text.strip():
            raise ValueError("it is empty")
        return np.loadtxt(
            io.StringIO(text), delimiter=",", comments=None, ndmin=2, dtype=np.float32
        )
    if kind == "application/x-npy" and isinstance(body, bytes):
        if not body.startswith(b"\x93NUMPY"):  # np.load would open a zip as well
            raise ValueError("it is no NPY array")
        return np.asarray(np.load(io.BytesIO(body), allow_pickle=False), dtype=np.float32)
    error = BadInput(
        f"Content type {kind!r}: send application/json, application/jsonlines, text/csv, "
        "application/x-npy."
    )
    error.status_code = 415
    raise error


def _read_lines(body: bytes) -> np.ndarray[Any, Any]:
    """A part of the lines at a time: the numbers as Python's own take twenty times their room."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not lines:
        raise ValueError("it is empty")
    parts = []
    for begin in range(0, len(lines), 1024):
        images = loads(b"[" + b",".join(lines[begin : begin + 1024]) + b"]")
        parts.append(np.array(images, dtype=np.float32).reshape(len(images), -1))
    return np.concatenate(parts)
