"""What a report of a million requests costs: ``make perf ARGS=report``."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.make_runs import make_cold, make_run, records, workload

REQUESTS = 1_000_000
GOALS = {"time": 10.0, "size": 3e6, "memory": 1.5e9}  # s, bytes, bytes
ROUNDS = 3

_CHILD = """
import json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
from bench.process import peak_memory_bytes
from bench.run import read_run
from reports.answer import write_answer
from reports.files import write_files
from reports.page import write_page
from reports.report import make_report
runs = [read_run(Path(folder)) for folder in sys.argv[2:]]
report = make_report(runs)
out = Path(sys.argv[1])
write_answer(report, out / "recommendation.json")
write_files(report, out)
size = write_page(report, out / "report.html").stat().st_size
used = peak_memory_bytes()
print(json.dumps([time.perf_counter() - began, size, used]))
"""


def report(folder: Path) -> list[str]:
    """A million requests on two options, from the start of Python to the last file."""
    given = workload(1.0, duration_s=80_000.0)
    random = np.random.default_rng(1)
    folders = []
    for mode in ("realtime", "serverless"):
        rows = records(REQUESTS // 2, 0.16, model_s=0.01)
        rows["done_s"] += random.lognormal(-4, 1, len(rows))
        if mode == "serverless":
            make_cold(rows, slice(0, None, 500))
        run = make_run(folder / mode, mode, rows, workload=given, load={"duration_s": 80_000.0})
        folders.append(str(run.folder))
    took = [_once(folder, folders) for _ in range(ROUNDS)]
    worst = [max(each) for each in zip(*took, strict=True)]
    texts = (f"{worst[0]:.1f} s", f"{worst[1] / 1e6:.2f} MB", f"{worst[2] / 1e9:.2f} GB")
    goals = ("10 s", "3 MB", "1.5 GB")
    met = [value <= goal for value, goal in zip(worst, GOALS.values(), strict=True)]
    rows_ = [
        f"| {name} | {text} | {goal} | {'yes' if good else 'no'} |"
        for name, text, goal, good in zip(GOALS, texts, goals, met, strict=True)
    ]
    head = f"| report on {REQUESTS:,} requests, worst of {ROUNDS} | measured | goal | met |"
    return [head, "|---|---|---|---|", *rows_]


def _once(folder: Path, runs: list[str]) -> tuple[float, float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), *runs],
        capture_output=True,
        text=True,
        check=True,
    )
    time_s, size, memory = json.loads(done.stdout)
    return float(time_s), float(size), float(memory)
