"""Reading traces: every format and timestamp, and what is wrong with some."""

import gzip
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.arrivals import due_times
from bench.errors import ConfigError
from bench.replay import Replay
from tests.make_traces import NGINX, csv, replayed

ALB = (
    "https {answered} app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 "
    '0.086 0.048 0.037 200 200 0 57 "GET https://www.example.com:443/?q=a\\"b HTTP/1.1" '
    '"curl/7.46.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 '
    "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "
    '"Root=1-58337281-1d84f3d73c47ec4e58577259" "www.example.com" '
    '"arn:aws:acm:us-east-2:123456789012:certificate/12345678-1234-1234-1234-123456789012" '
    '1 {came} "authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_123456'
)

DATES = pd.to_datetime(["2026-11-02T00:00:00.0", "2026-11-02T00:00:01.5"])


@pytest.mark.parametrize(
    "stamps",
    [
        (5, 5.25, 7.5),
        (1762041600, 1762041600.25, 1762041602.5),
        (1762041600000, 1762041600250, 1762041602500),
        (1762041600000000, 1762041600250000, 1762041602500000),
        (1762041600000000000, 1762041600250000000, 1762041602500000000),
        ("2026-11-02T00:00:00Z", "2026-11-02T01:00:00.25+01:00", "2026-11-02 00:00:02.5"),
    ],
)
def test_every_kind_of_timestamp_is_read(
    trace: Callable[..., str], stamps: tuple[object, ...]
) -> None:
    """Seconds, time since 1970 in any unit, and ISO 8601; the first request is at zero."""
    assert replayed(trace(csv(*stamps))) == [0, 0.25, 2.5]


@pytest.mark.parametrize("stamp", ["now", "true", "1e20", "-inf", "2026-02-30", "0x1A", "\0", "é"])
def test_what_is_no_timestamp_is_refused(trace: Callable[..., str], stamp: str) -> None:
    """Also what a library would take for one."""
    with pytest.raises(ConfigError, match="none of its 1 rows has a readable timestamp"):
        Replay(trace(csv(stamp))).length_s()


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.ndjson", "unnamed"])
def test_jsonl_is_read(trace: Callable[..., str], name: str) -> None:
    """One object a line, the time as number or text, under any key."""
    lines = [json.dumps({"at": at, "bytes": 3}) for at in (10, 11.5, "13")]
    assert replayed(trace(lines, name), timestamp_column="at") == [0, 1.5, 3]


@pytest.mark.parametrize(
    "column",
    [
        DATES,
        DATES.tz_localize("Asia/Tokyo"),
        DATES.as_unit("ns"),
        [1762041600.0, 1762041601.5],
        [1762041600000, 1762041601500],
        pd.to_timedelta([60, 61.5], unit="s"),
        ["2026-11-02T00:00:00Z", "2026-11-02T00:00:01.5Z"],
    ],
)
@pytest.mark.parametrize("name", ["trace.parquet", "unnamed"])
def test_parquet_is_read(tmp_path: Path, column: Any, name: str) -> None:
    """Whatever type the column has; the name need not say what the file is."""
    pd.DataFrame({"size": 1, "timestamp": column}).to_parquet(tmp_path / name)
    assert replayed(str(tmp_path / name)) == [0, 1.5]


def test_an_alb_log_is_read_as_requests_came(trace: Callable[..., str]) -> None:
    """The time is when the balancer received a request, not when it answered."""
    came = ["2026-11-02T22:22:48.364000Z", "2026-11-02T22:22:49.614000Z"]
    lines = [ALB.format(answered="2026-11-02T22:23:00.186641Z", came=each) for each in came]
    assert replayed(trace(lines, "123_elasticloadbalancing.log")) == [0, 1.25]


def test_an_alb_log_without_a_target_is_read(trace: Callable[..., str]) -> None:
    """Refused requests have dashes in many fields, and are traffic too."""
    line = (
        "http 2026-11-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 10.1.1.1:2817 - "
        '-1 -1 -1 502 - 34 366 "- http://www.example.com:80- -" "-" - - - "-" "-" "-" '
        '- 2026-11-02T22:22:48.364000Z "-" "-" "TargetConnectionError" "-" "-" "-" "-" TID_1'
    )
    assert replayed(trace([line], "alb.log")) == [0]


def test_a_packed_log_is_unpacked(tmp_path: Path) -> None:
    """Load balancers deliver their logs as .gz."""
    line = ALB.format(answered="2026-11-02T22:23:00Z", came="2026-11-02T22:22:48.364000Z")
    (tmp_path / "alb.log.gz").write_bytes(gzip.compress(f"{line}\n".encode()))
    assert replayed(str(tmp_path / "alb.log.gz")) == [0]


def test_an_nginx_log_is_read(trace: Callable[..., str]) -> None:
    """The combined format, across months and offsets, whatever stands in the request."""
    lines = [
        NGINX.format(came="31/Oct/2026:23:59:58 +0000"),
        NGINX.format(came="01/Nov/2026:00:59:59 +0100").replace("frank", "frank [x] y"),
        '203.0.113.9 - - [01/Nov/2026:00:00:02 +0000] "\\x16\\x03\\x01" 400 157 "-" "-"',
    ]
    assert replayed(trace(lines, "access.log"), spread_s=0) == [0, 1, 4]


def test_rows_need_not_be_in_order(trace: Callable[..., str]) -> None:
    """They are sorted, and requests of the same moment are all kept."""
    assert replayed(trace(csv(30, 10, 20, 10))) == [0, 0, 10, 20]


def test_malformed_rows_are_counted_and_shown(trace: Callable[..., str]) -> None:
    """Up to the limit they are left out; the description has how many, and the first ones."""
    path = trace(["timestamp,class", "1,a", "soon,b", "3,c,extra", "", "nan,\x1b[31m", "4,d"])
    replay = Replay(path, max_malformed=3)
    assert due_times(replay, 100.0, 1).tolist() == [0, 3]
    described = replay.describe()
    assert (described["rows"], described["malformed"], described["requests"]) == (5, 3, 2)
    assert described["first_malformed"] == [
        "row 3: 'soon,b'",
        "row 4: '3,c,extra'",
        r"row 6: 'nan,\x1b[31m'",
    ]
    assert "3 malformed are left out. The first malformed: row 3" in replay.sentence()


def test_rows_that_an_open_quote_swallowed_count_each(trace: Callable[..., str]) -> None:
    """A quote that is not closed does not hide how much it cost."""
    replay = Replay(trace(["timestamp,class", "1,a", '"2,b', "3,c", "4,d"]), max_malformed=3)
    assert replay.describe()["malformed"] == 3


def test_quoted_cells_over_several_lines_are_one_row(trace: Callable[..., str]) -> None:
    """And rows after them are named by their own line."""
    path = trace(["class,timestamp", '"a', 'b",1', "c,2", "d,x"])
    replay = Replay(path, max_malformed=1)
    assert replay.describe()["rows"] == 3
    assert replay.describe()["first_malformed"] == ["row 5: 'd,x'"]


@pytest.mark.parametrize(
    ("name", "lines", "settings", "message"),
    [
        ("t.csv", [], {}, r"t\.csv has no column 'timestamp'; .* are none"),
        ("t.csv", ["timestamp"], {}, r"t\.csv has no rows"),
        ("t.csv", ["timestamp", ""], {}, r"t\.csv has no rows"),
        ("t.csv", ["when,size", "1,2"], {}, r"are 'when', 'size'.*timestamp_column"),
        ("t.csv", csv("a", "b"), {}, r"none of its 2 rows .*row 2: 'a'; row 3: 'b'"),
        ("t.csv", csv(1, "2026-11-02"), {}, r"row 3: '2026-11-02' \(a date and time; row 2 has s"),
        ("t.csv", csv(1762041600, 1762041600000), {}, r"\(epoch milliseconds; row 2 has epoch se"),
        ("t.jsonl", ['{"at": 1}', "[1]"], {}, r"row 1: '\{\"at\": 1\}'; row 2: '\[1\]'"),
        ("t.jsonl", ['{"timestamp": true}', "{"], {}, "none of its 2 rows"),
        ("t.log", ["what is this"], {}, r"no column 'timestamp'.*arrivals\.format"),
        ("t.log", [NGINX.format(came="01/Nux/2026:00:00:02 +0000")], {}, "read as nginx: none"),
        ("t.log", [NGINX], {"format": "alb"}, "read as alb: none of its 1 rows"),
        ("t.parquet", ["PAR1"], {}, r"t\.parquet is not valid Parquet"),
        ("t.csv.gz", ["timestamp"], {}, r"t\.csv\.gz cannot be read: Not a gzipped file"),
        ("t.csv", csv(1, 2), {"start": 2}, r"no request from 2 s to its last: .* 0 to 1 s"),
        ("t.csv", csv(1, 2), {"start": datetime(2026, 1, 1)}, "has seconds, not dates"),
        ("t.csv", csv("2026-11-02"), {"end": 0}, r"to 0 s: it goes from 2026-11-02T00:00:00\+00"),
    ],
)
def test_what_is_wrong_with_a_trace_is_named(
    trace: Callable[..., str], name: str, lines: list[str], settings: Any, message: str
) -> None:
    """The file, the rows with their numbers, and the remedy."""
    with pytest.raises(ConfigError, match=message):
        Replay(trace(lines, name), **settings).length_s()


def test_a_missing_column_of_parquet_is_named(tmp_path: Path) -> None:
    """With the columns that there are."""
    pd.DataFrame({"when": [1.0]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"no column 'timestamp'; its columns, .* are 'when'"):
        Replay(str(tmp_path / "t.parquet")).length_s()


def test_missing_values_of_parquet_are_malformed(tmp_path: Path) -> None:
    """They are named by their row."""
    pd.DataFrame({"timestamp": [DATES[0], pd.NaT]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"1 of its 2 rows .*row 2: 'timestamp: NaT'"):
        Replay(str(tmp_path / "t.parquet")).length_s()


@pytest.mark.parametrize("name", ["nosuch.csv", "."])
def test_a_missing_file_is_named(name: str) -> None:
    """A folder is no file either."""
    with pytest.raises(ConfigError, match=r"There is no trace file .* --trace"):
        Replay(name).length_s()


def test_a_long_row_is_shown_in_part(trace: Callable[..., str]) -> None:
    """An error stays readable."""
    with pytest.raises(ConfigError) as caught:
        Replay(trace(csv("x" * 100_000))).length_s()
    assert "x" * 80 + "'…" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_field_without_end_is_named(trace: Callable[..., str]) -> None:
    """A quote that stays open for long is found by its row."""
    with pytest.raises(ConfigError, match=r"beyond row \d+: field larger .*not closed"):
        Replay(trace([*csv(1), '"', *["2"] * 100_000])).length_s()


def test_a_changed_file_is_read_again(trace: Callable[..., str]) -> None:
    """The schedule follows the file's content, whose fingerprint is in the description."""
    path = trace(csv(1, 2))
    before = Replay(path).describe()
    trace(csv(1, 2, 3))
    after = Replay(path).describe()
    assert (before["requests"], after["requests"]) == (2, 3)
    assert before["sha256"] != after["sha256"]
