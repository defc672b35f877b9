"""The answer in MLflow."""

from pathlib import Path

import pytest

from reports.report import make_report
from reports.tracking import EXPERIMENT, log, metrics
from tests.make_runs import make_pair, workload


def test_the_metrics_are_finite_and_named_after_their_option(tmp_path: Path) -> None:
    """Units last in their names."""
    found = metrics(make_report(make_pair(tmp_path, workload(4.5))))
    assert found["realtime.month_usd"] == pytest.approx(83.95)
    assert {name.split(".")[0] for name in found} == {"realtime", "serverless"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own parts, at their import
def test_a_report_is_logged_and_can_be_read_back(tmp_path: Path) -> None:
    """Metrics, parameters and files, in a store that is one local file."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: weighbridge[mlflow]")
    pytest.importorskip("sqlalchemy", reason="a local store needs SQLAlchemy")
    report = make_report(make_pair(tmp_path / "runs", workload(4.5)))
    note = tmp_path / "summary.md"
    note.write_text("# answer", encoding="utf-8")
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # MLflow keeps files beside the process where no server does
        run = mlflow.MlflowClient(uri).get_run(log(report, [note], uri))
    assert run.data.metrics == pytest.approx(metrics(report))
    assert run.data.params["answer"] == "serverless"
    assert mlflow.MlflowClient(uri).get_experiment(run.info.experiment_id).name == EXPERIMENT
