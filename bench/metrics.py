"""The servers' own metrics of a run, as CloudWatch would keep them: a row a metric and period."""

from pathlib import Path

import pandas as pd

from bench.events import read_lines

FILE, DRAFT = "metrics.parquet", "metrics.jsonl"

METRIC_COLUMNS = {
    "at_s": "float64",  # when the period began; periods are those of the run's clock
    "period_s": "float64",  # 60, or 10 where the metric is of high resolution
    "endpoint": "str",
    "variant": "str",  # of production, or the shadow
    "metric": "str",  # the name that CloudWatch has
    "unit": "str",  # None (a number) or Microseconds
    "sum": "float64",
    "count": "float64",  # values in the period
    "min": "float64",
    "max": "float64",
}
"""Columns of metrics.parquet. A period in which nothing came has no row."""


def finish_metrics(folder: Path, start_s: float) -> None:
    """Bring what the servers wrote into its final form; times count from ``start_s``."""
    rows = [
        {**line, "metric": line["kind"], "at_s": line["at_s"] - start_s}
        for line in read_lines(folder / DRAFT)
    ]
    frame = pd.DataFrame(rows, columns=list(METRIC_COLUMNS)).astype(METRIC_COLUMNS)
    frame.to_parquet(folder / FILE, index=False, compression="zstd")
    (folder / DRAFT).unlink(missing_ok=True)


def read_metrics(folder: Path) -> pd.DataFrame:
    """The metrics of the run in ``folder``; no rows where it has none."""
    if not (folder / FILE).exists():
        return pd.DataFrame(columns=list(METRIC_COLUMNS)).astype(METRIC_COLUMNS)
    return pd.read_parquet(folder / FILE)
