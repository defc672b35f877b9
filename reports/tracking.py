"""The answer logged to MLflow, where it is installed: ``pip install 'weighbridge[mlflow]'``."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from bench.errors import ConfigError
from reports.report import Report

EXPERIMENT = "weighbridge"


def log(report: Report, files: Sequence[Path], uri: str) -> str:
    """Log one MLflow run with the metrics of each option and ``files``; its id.

    ConfigError when MLflow is not installed or ``uri`` cannot be written.
    """
    try:
        import mlflow
    except ImportError:
        raise ConfigError(
            "--mlflow needs MLflow, which is not installed. "
            "Install it with: pip install 'weighbridge[mlflow]'"
        ) from None
    try:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run(run_name=report.workload.name) as run:
            mlflow.log_params(_parameters(report))
            mlflow.log_metrics(metrics(report))
            for path in files:
                mlflow.log_artifact(str(path))
        return str(run.info.run_id)
    except mlflow.exceptions.MlflowException as error:
        raise ConfigError(
            f"--mlflow {uri}: {error}. Name a tracking server or sqlite:///FILE."
        ) from error


def metrics(report: Report) -> dict[str, float]:
    """The numbers of each option, by names such as ``serverless.p95_s``."""
    found: dict[str, float | None] = {}
    for option in report.options:
        summary, name = option.summary, option.mode
        found |= {
            f"{name}.p50_s": summary.latency_s.at(0.5),
            f"{name}.p95_s": summary.latency_s.at(0.95),
            f"{name}.p99_s": summary.latency_s.at(0.99),
            f"{name}.share_in_time": summary.within.share,
            f"{name}.error_rate": summary.error_rate,
            f"{name}.cold_share": summary.cold.share,
            f"{name}.month_usd": option.cost.month_usd,
        }
    return {key: value for key, value in found.items() if value is not None and isfinite(value)}


def _parameters(report: Report) -> dict[str, Any]:
    answer = report.recommendation
    return {
        "workload": report.workload.name,
        "seed": report.workload.seed,
        "answer": answer.mode or answer.outcome,
        "confidence": answer.confidence,
        "valid": report.valid,
        "prices_as_of": report.prices.as_of,
        "speed_factor": report.prices.speed_factor,
    }
