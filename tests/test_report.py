"""Which runs belong into one report, and what it then holds."""

import json
from pathlib import Path

import pytest

from bench.errors import ConfigError
from bench.run import Run
from reports.answer import answer, write_answer
from reports.report import make_report
from tests.make_runs import make_pair, make_run, realistic, records, workload


def test_a_report_holds_one_option_for_each_run_in_a_fixed_order(tmp_path: Path) -> None:
    """Whatever the order of the runs."""
    report = make_report(make_pair(tmp_path, workload())[::-1])
    assert [option.mode for option in report.options] == ["realtime", "serverless"]
    assert (report.valid, report.met) == (True, True)
    assert report.workload == workload()


def test_two_runs_of_one_mode_are_refused(tmp_path: Path) -> None:
    """The error names both folders and the command for it."""
    runs = [make_run(tmp_path / name, "realtime", records(9, 9.0)) for name in "ab"]
    with pytest.raises(ConfigError, match=r"/a and .*/b both measured real-time.*compare"):
        make_report(runs)


def test_runs_of_different_workloads_are_refused_with_the_difference(tmp_path: Path) -> None:
    """The error names the first value that differs."""
    one = make_run(tmp_path / "a", "realtime", records(9, 9.0), workload=workload(seed=1))
    other = make_run(tmp_path / "b", "serverless", records(9, 9.0), workload=workload(seed=2))
    with pytest.raises(ConfigError, match="seed is 1 in one and 2 in the other"):
        make_report([one, other])


def test_a_report_needs_a_run() -> None:
    """And says where runs are found."""
    with pytest.raises(ConfigError, match="at least one run"):
        make_report([])


def test_a_mode_without_a_price_is_judged_and_listed_without_one(tmp_path: Path) -> None:
    """Its latency counts, its cost is not known, and the report says so; it never ranks first."""
    pair = make_pair(tmp_path, workload(4.5))
    other = Run(pair[0].folder, {**pair[0].manifest, "mode": "elsewhere"})
    report = make_report([*pair, other])
    assert [option.mode for option in report.options] == ["realtime", "serverless", "elsewhere"]
    assert report.recommendation.ranking == ("serverless", "realtime", "elsewhere")
    assert any("knows no option 'elsewhere'" in doubt.text for _, doubt in report.doubts)
    assert answer(report)["options"][2]["cost"]["month_usd"] is None


def test_a_workload_that_is_none_is_refused(tmp_path: Path) -> None:
    """The error names the manifest."""
    broken = {"objective": {"latency_s": 1.0}}
    run = make_run(tmp_path / "a", "realtime", records(9, 9.0), workload=broken)
    with pytest.raises(ConfigError, match=r"manifest\.json is not one"):
        make_report([run])


def test_a_doubt_that_all_options_share_is_said_once(tmp_path: Path) -> None:
    """Few samples on both sides are one doubt about both."""
    doubts = make_report(make_pair(tmp_path, workload())).doubts
    assert [name for name, doubt in doubts if "too few" in doubt.text] == [""]


def test_runs_of_different_machines_are_doubted(tmp_path: Path) -> None:
    """They can be compared, with care."""
    runs = [
        make_run(tmp_path / mode, mode, realistic(mode), machine={"fingerprint": mode})
        for mode in ("realtime", "serverless")
    ]
    assert any("different machines" in doubt.text for _, doubt in make_report(runs).doubts)


def test_the_ledger_names_basis_source_and_consequence(tmp_path: Path) -> None:
    """Nothing the answer rests on goes without them; every setting of a profile is there."""
    entries = make_report(make_pair(tmp_path, workload())).ledger
    assert all(each.basis and each.source and each.if_wrong for each in entries)
    assert any("(keep_alive_s)" in each.what for each in entries)
    assert {"measured", "modelled", "assumed"} <= {each.basis for each in entries}


def test_the_ledger_says_what_the_bill_assumes(tmp_path: Path) -> None:
    """The speed of AWS's machine, what is not counted, and whether the capacity was checked."""
    known = {each.what: each for each in make_report(make_pair(tmp_path, workload())).ledger}
    assert known["Speed of AWS's machine"].basis == "assumed"
    assert known["Real-time: capacity of an instance"].value == "not checked"
    assert known["Free tier, Savings Plans, taxes"].value == "none"


def test_the_answer_is_written_for_programs(tmp_path: Path) -> None:
    """Plain JSON with the headline, the option and its numbers."""
    write_answer(make_report(make_pair(tmp_path, workload(4.5))), tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (read["mode"], read["outcome"], read["valid"]) == ("serverless", "use", True)
    assert "*" not in read["headline"]
    assert [each["mode"] for each in read["options"]] == ["realtime", "serverless"]
    assert read["options"][0]["cost"]["amount_usd"] == pytest.approx(2.76)
