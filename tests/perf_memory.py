"""What the endpoint front and the model server hold: ``make perf ARGS=memory``.

Memory over 200 000 requests of mixed size, and copies of a payload of 25 MB on its way.
"""

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import psutil

from bench.deployment import Deployment, Endpoint
from bench.process import peak_memory_bytes
from bench.target import Realtime
from tests.perf_model_server import models, put_load
from tests.serving import serving

Processes = dict[str, psutil.Process]

REQUESTS, MIXED = 200_000, (1, 3, 10, 50, 200)
GROWTH_MIB = 16
"""Less than this, first round against last, is flat: allocators keep some pages more or less."""
PAYLOAD_BYTES, COPIES, CALLS = 25 * 2**20, 3.0, 5

ECHO = """
def model_fn(model_dir):
    return None
def input_fn(body, content_type):
    return body
def predict_fn(data, model):
    return data
def output_fn(data, accept):
    return data
"""


def memory(folder: Path) -> list[str]:
    """Through the front: resident memory over many requests, and copies of a large one."""
    echo = folder / "echo"
    (echo / "code").mkdir(parents=True)
    (echo / "code" / "inference.py").write_text(ECHO)
    with _behind_the_front(models(folder)["mlp"], folder / "mixed") as held:
        rows = _mixed(*held)
    with _behind_the_front(echo, folder / "large") as held:
        return [*rows, "", *_copies(*held)]


@contextlib.contextmanager
def _behind_the_front(model: Path, folder: Path) -> Iterator[tuple[str, Processes]]:
    """Where a real-time endpoint of one instance is asked, and its processes by name."""
    with serving(Deployment([Endpoint("one", Realtime(), str(model))]), folder) as server:
        [instance] = server.instances()
        processes = {"the front": psutil.Process(server.child.pid), "the model server": instance}
        yield f"{server.address}/endpoints/one/invocations", processes


def _mixed(url: str, processes: Processes) -> list[str]:
    bodies = [orjson.dumps(np.ones((rows, 64)).tolist()) for rows in MIXED]
    sizes: dict[str, list[float]] = {name: [] for name in processes}
    sent = 0
    while sent < REQUESTS:
        for body in bodies:
            found = put_load(url, body, 8, 2.0)
            assert not found["wrong"], found
            sent += int(found["requests"])
        for name, process in processes.items():
            sizes[name].append(process.memory_info().rss / 2**20)
    rows = [
        f"| resident MiB over {sent:,} requests of {len(MIXED)} sizes | first round | half-way "
        "| end | |",
        "|---|---|---|---|---|",
    ]
    for name, each in sizes.items():
        verdict = "pass" if each[-1] - each[0] < GROWTH_MIB else "FAIL"
        middle = each[len(each) // 2]
        rows.append(f"| {name} | {each[0]:.0f} | {middle:.0f} | {each[-1]:.0f} | {verdict} |")
    return rows


def _copies(url: str, processes: Processes) -> list[str]:
    """Peak memory beyond what was held before, in payloads; each goes there and comes back."""
    body = b"x" * PAYLOAD_BYTES
    peaks: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(CALLS):
        held = {name: each.memory_info().rss for name, each in processes.items()}
        for each in processes.values():
            Path(f"/proc/{each.pid}/clear_refs").write_text("5")  # the peak begins anew
        subprocess.run([sys.executable, "-c", ONCE, url], input=body, check=True)
        for name, each in processes.items():
            peaks[name].append((peak_memory_bytes(each.pid) - held[name]) / PAYLOAD_BYTES)
    rows = [
        f"| copies of a payload of {PAYLOAD_BYTES / 2**20:.0f} MiB and of its answer, as large "
        "| median | worst | |",
        "|---|---|---|---|",
    ]
    for name, found in peaks.items():
        # Beside whole copies there are the buffers of sockets, some hundredths of one.
        verdict = "pass" if round(max(found), 1) <= COPIES else "FAIL"
        middle = statistics.median(found)
        rows.append(f"| {name} | {middle:.2f} | {max(found):.2f} | goal {COPIES:g}: {verdict} |")
    return rows


ONCE = """
import sys, urllib.request
body = sys.stdin.buffer.read()
headers = {"content-type": "application/octet-stream"}
with urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, headers)) as answer:
    assert len(answer.read()) == len(body)
"""
