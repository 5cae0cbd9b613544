"""What an MLflow store holds of a study, read back by MLflow itself."""

import json

import pytest

from lib import paths
from lib.batch import results
from lib.cli import main
from lib.errors import DarkroomError
from lib.runs import record


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    folder = paths.run("s", "train", "a-s0")
    folder.mkdir(parents=True)
    (folder / record.KEY).write_text("{}")
    (folder / record.PARAMETERS).write_text(json.dumps({"study": "s", "epochs": 3}))
    (folder / record.HISTORY).write_text("epoch,loss\n1,0.5\n2,0.25\n")
    result = {
        "study": "s",
        "stage": "train",
        "unit": "a-s0",
        "metrics": {"accuracy": 0.75, "accuracy_low": 0.7, "kappa_band": "fair"},
        "files": record.hashes(folder),
    }
    (folder / record.RESULT).write_text(json.dumps(result))
    return "s"


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_parameters_metrics_and_files_are_read_back(study, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)  # where MLflow puts artefacts by itself
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert results.export_to_mlflow(study, uri) == ["train/a-s0"]
    assert results.export_to_mlflow(study, uri) == []  # it is there already
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("s")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["epochs"] == "3"
    assert run.data.metrics["accuracy"] == 0.75 and run.data.metrics["accuracy_low"] == 0.7
    assert [point.value for point in client.get_metric_history(run.info.run_id, "epoch_loss")] == [
        0.5,
        0.25,
    ]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {
        record.RESULT,
        record.HISTORY,
    }


def test_a_study_without_a_finished_run_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    (tmp_path / "logs" / "s" / "train").mkdir(parents=True)
    with pytest.raises(DarkroomError, match="'s' never ran|no finished run"):
        results.export_to_mlflow("s", str(tmp_path / "store"))


def test_the_option_needs_a_study(capsys):
    assert main(["results", "--mlflow", "store"]) == 2
    assert "darkroom results STUDY --mlflow URI" in capsys.readouterr().err
