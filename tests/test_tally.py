"""Each scenario file under plain Locust, headless and under the web page, and its statistics."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.answering import OK, listening, plainly, read_request
from tests.loading import SCENARIOS, load, sets
from tests.serving import eventually

pytestmark = pytest.mark.slow

FILES = sorted(path.with_suffix(".py") for path in SCENARIOS.glob("*.toml"))
# Some scenarios send gigabytes; here their requests are small.
SHORT = sets("duration_s=1", 'arrivals={kind="constant", rate_rps=20}', "payload={}")


def command(file: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(file), *options, *SHORT]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with listening(plainly) as address:
        yield address


def test_each_scenario_runs_headless(server: str, tmp_path: Path) -> None:
    """With nothing but Locust's own options, and its CSV, HTML and JSON come out."""
    side_by_side(run_headless, server, tmp_path)


def test_each_scenario_runs_under_the_web_page(server: str, tmp_path: Path) -> None:
    """A test that is started there sends the schedule, shows it, and can be started again."""
    side_by_side(run_under_the_web_page, server, tmp_path)


def side_by_side(run: Callable[[Path, str, Path], None], server: str, folder: Path) -> None:
    """Try each scenario, several at a time, for most of it is waiting."""

    def one(file: Path) -> None:
        own = folder / file.stem
        own.mkdir()
        try:
            run(file, server, own)
        except BaseException as error:
            error.add_note(f"scenario {file.stem}")
            raise

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(one, FILES))) == len(FILES) > 5


def run_headless(file: Path, server: str, tmp_path: Path) -> None:
    found = subprocess.run(
        [
            *command(file, "--headless", "--host", server),
            *("--csv", str(tmp_path / "locust"), "--html", str(tmp_path / "page.html")),
            *("--json-file", str(tmp_path / "locust")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr
    with (tmp_path / "locust_stats.csv").open() as rows:
        assert [row["Request Count"] for row in csv.DictReader(rows)] == ["20", "20"]
    assert "digits-realtime" in (tmp_path / "page.html").read_text()
    (entry,) = json.loads((tmp_path / "locust.json").read_text())
    assert entry["num_requests"] == 20


def run_under_the_web_page(file: Path, server: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = f"http://127.0.0.1:{port}"
    options = ["--web-host", "127.0.0.1", "--web-port", str(port)]
    with (tmp_path / "out").open("w") as out:
        child = subprocess.Popen(command(file, *options), stdout=out, stderr=out)
        try:
            eventually(lambda: _answers(page), "the web page is there", 60)
            for _ in range(2):
                form = {"user_count": 1, "spawn_rate": 1, "host": server}
                assert json.loads(_fetch(f"{page}/swarm", form))["success"]
                # Which takes away what the last test counted.
                eventually(lambda: _counted(page) != 20, "the test begins")
                eventually(lambda: _counted(page) == 20, "all is counted")
                # The page keeps what it shows for two seconds.
                eventually(lambda: _stats(page)["state"] == "stopped", "the test ends")
                total = _stats(page)["stats"][-1]
                assert (total["num_requests"], total["num_failures"]) == (20, 0)
                assert 0 < total["median_response_time"] < 1000
        finally:
            child.terminate()
            child.wait(30)
    assert "Traceback" not in (tmp_path / "out").read_text()


def _fetch(url: str, form: dict[str, Any] | None = None) -> str:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def _answers(page: str) -> bool:
    try:
        return bool(_fetch(page))
    except OSError:
        return False


def _counted(page: str) -> int:
    """Requests so far, from the table that the page offers for download."""
    rows = csv.DictReader(_fetch(f"{page}/stats/requests/csv").splitlines())
    return int(list(rows)[-1]["Request Count"])


def _stats(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_fetch(f"{page}/stats/requests"))
    return found


def test_locusts_percentiles_are_those_of_the_records(tmp_path: Path) -> None:
    """To a thousandth, also below 100 ms, where Locust itself rounds to whole milliseconds."""

    def slowly(connection: socket.socket, number: int) -> None:
        random = np.random.default_rng(number)
        while read_request(connection) is not None:
            time.sleep(random.uniform(0.001, 0.02))
            connection.sendall(OK + b"Content-Length: 0\r\n\r\n")

    options = sets("duration_s=2", 'arrivals={kind="constant", rate_rps=100}')
    with listening(slowly) as address:
        csv_options = ("--csv", str(tmp_path / "locust"))
        records = load(address, tmp_path, [1], *options, *csv_options)
    latency_ms = np.sort((records["done_s"] - records["due_s"]) * 1000)
    with (tmp_path / "locust_stats.csv").open() as rows:
        total = list(csv.DictReader(rows))[-1]
    assert total["Name"] == "Aggregated"
    for name, q in (("50%", 0.5), ("90%", 0.9), ("99%", 0.99)):
        true_ms = latency_ms[int(q * len(latency_ms))]
        assert float(total[name]) == pytest.approx(true_ms, rel=0.0011), name
    assert float(total["Max Response Time"]) == pytest.approx(latency_ms[-1])


OWN = """
import locust.stats
from scenarios.engine import OpenLoopUser

locust.stats.bucket_response_time = lambda ms: 1000 * round(ms / 1000)

class Sustained(OpenLoopUser):
    scenario = "sustained"
"""


def test_rounding_of_the_users_own_is_kept(server: str, tmp_path: Path) -> None:
    """Whoever has replaced Locust's function in their file gets what they put there."""
    (tmp_path / "file.py").write_text(OWN)
    options = ("--headless", "--host", server, "--payload", str(SCENARIOS / "payloads"))
    done = subprocess.run(
        [*command(tmp_path / "file.py", *options), "--json-file", str(tmp_path / "locust")],
        env={**os.environ, "PYTHONPATH": str(SCENARIOS.parent)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    (entry,) = json.loads((tmp_path / "locust.json").read_text())
    counts = entry["response_times"]
    assert sum(counts.values()) == 20
    assert all(int(bucket) % 1000 == 0 for bucket in counts)
