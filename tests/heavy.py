"""A model as users bring them: a large library to import, half a gigabyte of weights to load."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import save_file

WEIGHTS = {"embedding": (61_440, 2048), "head": (2048, 10)}
"""503 MB as 32-bit floats."""

NEEDED_MEMORY_BYTES = 4 * 10**9
NEEDED_DISK_BYTES = 3 * 10**9

PROGRAM = """
import json

import torch
from safetensors.torch import load_file
from sklearn.preprocessing import normalize


def model_fn(model_dir):
    weights = load_file(f"{model_dir}/model.safetensors")
    return {name: tensor.clone() for name, tensor in weights.items()}


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(tokens, model):
    with torch.inference_mode():
        vector = model["embedding"][torch.tensor(tokens)].mean(0)
        return normalize((vector @ model["head"]).numpy()[None])[0].tolist()
"""


def why_not() -> str | None:
    """Why this machine cannot serve it; None when it can."""
    memory = psutil.virtual_memory().available
    if memory < NEEDED_MEMORY_BYTES:
        return f"only {memory / 1e9:.1f} GB of memory are free"
    disk = shutil.disk_usage(tempfile.gettempdir()).free
    if disk < NEEDED_DISK_BYTES:
        return f"only {disk / 1e9:.1f} GB of disk are free"
    return None


def heavy_model(folder: Path) -> Path:
    """The model's folder, with generated weights."""
    (folder / "code").mkdir(parents=True)
    chance = np.random.default_rng(1)
    save_file(
        {name: chance.random(shape, np.float32) for name, shape in WEIGHTS.items()},
        folder / "model.safetensors",
    )
    (folder / "code" / "inference.py").write_text(PROGRAM)
    (folder / "samples.json").write_text(json.dumps([{"body": [1, 2, 3]}]))
    return folder
