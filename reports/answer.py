"""The answer as plain values, for programs: ``recommendation.json``, with its schema."""

from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from bench.documents import write_json
from reports.bill import Cost
from reports.ledger import Entry
from reports.option import Option
from reports.recommendation import Recommendation
from reports.report import Report
from reports.summary import Summary, as_json
from reports.worlds import Sensitivity

SCHEMA_VERSION = 2
SCHEMA_FILE = Path(__file__).with_name("answer.schema.json")

_NUMBER = {"type": ["number", "null"]}
_COST_MORE = ("amount_usd", "month_usd", "per_million_usd", "requests_a_month")


def answer(report: Report) -> dict[str, Any]:
    """The recommendation, the numbers of each option and the ledger.

    A number that is not known, or without end, is null.
    """
    recommendation = msgspec.to_builtins(report.recommendation)
    recommendation["headline"] = report.recommendation.headline.replace("**", "")
    found = {
        "schema_version": SCHEMA_VERSION,
        "emulated": True,
        "workload": msgspec.to_builtins(report.workload),
        "valid": report.valid,
        "met": report.met,
        **recommendation,
        "options": [_option(option) for option in report.options],
        "sensitivity": msgspec.to_builtins(report.sensitivity),
        "doubts": [
            {"mode": name or None, "text": doubt.text, "invalid": doubt.invalid}
            for name, doubt in report.doubts
        ],
        "ledger": msgspec.to_builtins(report.ledger),
        "prices": {
            "region": report.prices.region,
            "as_of": report.prices.as_of,
            "speed_factor": report.prices.speed_factor,
        },
    }
    plain: dict[str, Any] = finite(found)
    return plain


def write_answer(report: Report, path: Path) -> None:
    """Write the answer to ``path``."""
    write_json(path, answer(report))


def finite(value: Any) -> Any:
    """``value`` with null where a number is infinite or none: JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def schema() -> dict[str, Any]:
    """The JSON schema of the answer; `SCHEMA_FILE` holds it."""
    kinds = (Recommendation, Summary, Cost, Entry, Sensitivity)
    references, parts = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    named = dict(zip((kind.__name__ for kind in kinds), references, strict=True))
    parts["Summary"]["properties"] |= {"valid": {"type": "boolean"}, "error_rate": _NUMBER}
    parts["Cost"]["properties"] |= dict.fromkeys(_COST_MORE, _NUMBER)
    parts["Cost"]["required"] = [*parts["Cost"]["required"], *_COST_MORE]
    own = {
        "schema_version": {"const": SCHEMA_VERSION},
        "emulated": {"const": True},
        "workload": {"type": "object", "required": ["name", "objective", "arrivals"]},
        "valid": {"type": "boolean"},
        "met": {"type": "boolean"},
        "options": {
            "type": "array",
            "items": _object(
                {
                    "mode": {"type": "string"},
                    "run": {"type": "string"},
                    "summary": named["Summary"],
                    "cost": named["Cost"],
                }
            ),
        },
        "sensitivity": {"anyOf": [named["Sensitivity"], {"type": "null"}]},
        "doubts": {
            "type": "array",
            "items": _object(
                {
                    "mode": {"type": ["string", "null"]},
                    "text": {"type": "string"},
                    "invalid": {"type": "boolean"},
                }
            ),
        },
        "ledger": {"type": "array", "items": named["Entry"]},
        "prices": _object(
            {
                "region": {"type": "string"},
                "as_of": {"type": "string"},
                "speed_factor": {"type": "number"},
            }
        ),
    }
    recommendation = parts.pop("Recommendation")
    document = _object({**own, **recommendation["properties"]})
    opened: dict[str, Any] = _nullable(document)
    whole: dict[str, Any] = finite(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "The answer of a Weighbridge report, recommendation.json",
            **opened,
            "$defs": _nullable(parts),
        }
    )
    return whole


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _nullable(value: Any) -> Any:
    """Every number may be null: not known, or without end."""
    if isinstance(value, dict):
        if value.get("type") == "number":
            return {**value, "type": ["number", "null"]}
        return {key: _nullable(each) for key, each in value.items()}
    return [_nullable(each) for each in value] if isinstance(value, list) else value


def _option(option: Option) -> dict[str, Any]:
    cost = option.cost
    return {
        "mode": option.mode,
        "run": str(option.run.folder),
        "summary": as_json(option.summary),
        "cost": {
            **msgspec.to_builtins(cost),
            **{name: getattr(cost, name) for name in _COST_MORE},
        },
    }


if __name__ == "__main__":  # python -m reports.answer: renew the schema after a change of a field
    write_json(SCHEMA_FILE, schema())
