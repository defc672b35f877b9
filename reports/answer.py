"""The answer as plain values, for programs: ``recommendation.json``."""

from pathlib import Path
from typing import Any

import msgspec

from bench.run import write_json
from reports.option import Option
from reports.report import Report
from reports.summary import as_json

SCHEMA_VERSION = 1


def answer(report: Report) -> dict[str, Any]:
    """The recommendation, the numbers of each option and the ledger."""
    plain = msgspec.to_builtins(report.recommendation)
    plain["headline"] = report.recommendation.headline.replace("**", "")
    return {
        "schema_version": SCHEMA_VERSION,
        "workload": msgspec.to_builtins(report.workload),
        "valid": report.valid,
        **plain,
        "options": [_option(option) for option in report.options],
        "ledger": msgspec.to_builtins(report.ledger),
        "prices": {"region": report.prices.region, "as_of": report.prices.as_of},
    }


def write_answer(report: Report, path: Path) -> None:
    """Write the answer to ``path``."""
    write_json(path, answer(report))


def _option(option: Option) -> dict[str, Any]:
    cost = option.cost
    return {
        "mode": option.mode,
        "run": str(option.run.folder),
        "summary": as_json(option.summary),
        "cost": {
            **msgspec.to_builtins(cost),
            "amount_usd": cost.amount_usd,
            "month_usd": cost.month_usd,
            "per_million_usd": cost.per_million_usd,
        },
    }
