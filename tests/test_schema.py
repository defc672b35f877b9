"""``recommendation.json`` and the schema that is shipped for it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from bench.run import Run
from reports.answer import SCHEMA_FILE, answer, finite, schema, write_answer
from reports.report import make_report
from tests.make_queued import async_run, batch_run
from tests.make_runs import make_pair, make_run, records, workload

SHIPPED = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
_MANY = workload(300.0, accepts_queueing=True)


def four(folder: Path) -> list[Run]:
    return [
        *make_pair(folder, _MANY),
        async_run(folder / "a", workload=_MANY),
        batch_run(folder / "b", workload=_MANY),
    ]


RUNS: dict[str, Callable[[Path], list[Run]]] = {
    "pair": lambda folder: make_pair(folder, workload(4.5)),
    "alone": lambda folder: make_pair(folder, workload(1.0))[:1],
    "none meets": lambda folder: make_pair(folder, workload(0.001)),
    "invalid": lambda folder: make_pair(folder, workload(4.0), load={"dropped": 5}),
    "batch by rule": lambda folder: make_pair(folder, workload(4.5, needs_answer=False)),
    "nothing sent": lambda folder: [make_run(folder, "realtime", records(0, 1.0))],
    "four": four,
}


def test_the_shipped_schema_is_the_one_of_the_code() -> None:
    """After a change of a field: python -m reports.answer."""
    assert schema() == SHIPPED
    Draft202012Validator.check_schema(SHIPPED)


@pytest.mark.parametrize("story", RUNS)
def test_every_answer_obeys_the_schema(tmp_path: Path, story: str) -> None:
    """As it lies on the disk: no NaN, no infinity."""
    write_answer(make_report(RUNS[story](tmp_path)), tmp_path / "answer.json")

    def refused(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    text = (tmp_path / "answer.json").read_text(encoding="utf-8")
    read = json.loads(text, parse_constant=refused)
    errors = [error.message for error in Draft202012Validator(SHIPPED).iter_errors(read)]
    assert errors == []


@pytest.mark.parametrize(
    ("key", "value"), [("confidence", 3), ("options", {}), ("valid", None), ("chart", {"steps": 1})]
)
def test_the_schema_refuses_what_is_wrong(tmp_path: Path, key: str, value: object) -> None:
    """And what is missing."""
    good = answer(make_report(make_pair(tmp_path, workload(4.5))))
    validator = Draft202012Validator(SHIPPED)
    assert not validator.is_valid({**good, key: value})
    assert not validator.is_valid({name: each for name, each in good.items() if name != key})


def test_a_number_without_end_becomes_null() -> None:
    """At any depth."""
    inf, nan = float("inf"), float("nan")
    assert finite({"a": [inf, (nan, 1.5)], "b": {"c": -inf}}) == {
        "a": [None, [None, 1.5]],
        "b": {"c": None},
    }
