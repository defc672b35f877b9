"""The batched server against bare torch on a GPU: ``make perf-gpu``, where there is one.

Both compute the same model at the same batch size. Bare torch copies a batch from pinned memory,
computes it and copies the result back; the server does that with requests that come over HTTP.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson

from tests.test_model_server import serving

PROGRAM = """
import numpy as np, torch
WIDTH = {width}
def model_fn(model_dir):
    torch.manual_seed(1)
    layers = [torch.nn.Linear(64, WIDTH), torch.nn.ReLU()]
    for _ in range(4):
        layers += [torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 10)).to({device!r}).eval()
def input_fn(body, content_type):
    import json
    if content_type == "application/json":
        return torch.tensor(json.loads(body))
    return torch.from_numpy(np.frombuffer(body, np.float32).reshape(-1, 64).copy())
def predict_fn(data, model):
    with torch.inference_mode():
        return model(data.to({device!r}, non_blocking=True)).cpu()
def output_fn(prediction, accept):
    return prediction.numpy().tobytes(), "application/octet-stream"
"""
SECONDS = 5.0


def bare_rows_per_s(program: str, batch: int, device: str, seconds: float) -> float:
    """Rows a second of the model alone, a batch after the other."""
    import torch

    space: dict[str, Any] = {}
    exec(compile(program, "model", "exec"), space)
    model = space["model_fn"]("")
    rows = torch.rand(batch, 64)
    if device.startswith("cuda"):
        rows = rows.pin_memory()
    for _ in range(20):
        space["predict_fn"](rows, model)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        space["predict_fn"](rows, model)
        done += batch
    return done / (time.perf_counter() - began)


async def served_rows_per_s(port: int, callers: int, seconds: float) -> float:
    """Rows a second of the server under ``callers`` that each send one row after the other."""
    body = np.random.default_rng(1).random((1, 64), np.float32).tobytes()
    headers = {"Content-Type": "application/octet-stream"}
    url = f"http://127.0.0.1:{port}/invocations"
    done = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        end = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < end:
                async with session.post(url, data=body) as answer:
                    assert answer.status == 200
                    assert len(await answer.read()) == 40
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return done / (time.perf_counter() - began)


def formed(port: int) -> float:
    """The mean number of calls that the server computed at once."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/model/stats") as answer:
        found = json.load(answer)["model_stats"][0]["batch_stats"]
    calls = sum(each["batch_size"] * each["compute_infer"]["count"] for each in found)
    return float(calls / max(1, sum(each["compute_infer"]["count"] for each in found)))


def compared(device: str, batch: int, width: int, seconds: float) -> str:
    """One row of the table."""
    program = PROGRAM.format(device=device, width=width)
    bare = bare_rows_per_s(program, batch, device, seconds)
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as name:
        folder = Path(name) / "model"
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "inference.py").write_text(program)
        samples = [{"body": np.full((1, 64), n / 4).tolist()} for n in range(4)]
        (folder / "samples.json").write_bytes(orjson.dumps(samples))
        variables = {"WEIGHBRIDGE_MAX_BATCH": str(batch), "WEIGHBRIDGE_DEVICE": device}
        with serving(folder, **variables) as (_, port):
            asyncio.run(served_rows_per_s(port, 2 * batch, seconds / 5))
            served = asyncio.run(served_rows_per_s(port, 2 * batch, seconds))
            mean = formed(port)
    return f"| {batch} | {mean:.1f} | {bare:,.0f} | {served:,.0f} | {served / bare:.2f} |"


def main() -> None:
    """Print the table, or why there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 128])
    given = parser.parse_args()
    import torch

    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("Skipped: torch finds no GPU on this machine. Nothing was measured.")
        sys.exit(0)
    name = torch.cuda.get_device_name(0) if given.device.startswith("cuda") else "processor"
    print(f"{name}, torch {torch.__version__}, an MLP of 4 layers of {given.width}")
    print("| batch | formed | bare torch rows/s | served rows/s | share |\n|---|---|---|---|---|")
    for batch in given.batches:
        print(compared(given.device, batch, given.width, given.seconds), flush=True)


if __name__ == "__main__":
    main()
