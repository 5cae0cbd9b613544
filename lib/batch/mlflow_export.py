"""Runs of a study as runs of MLflow: parameters, metrics with their intervals, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib import hashing, paths
from lib.batch import status
from lib.errors import DarkroomError
from lib.runs import record

ARTIFACTS = (record.RESULT, record.HISTORY, record.PREDICTIONS, record.NOTEBOOK)
_LONGEST_VALUE = 500  # MLflow refuses a longer parameter


def export(study: str, uri: str) -> list[str]:
    """Exports every finished run of a study to an MLflow tracking store.

    A run whose result the store already has is not exported again.

    Args:
        study: the folder of the study in `logs/`, which becomes the experiment's name.
        uri: the tracking store, such as `sqlite:///mlflow.db` or the address of a server.

    Returns:
        The names of the runs that were exported, `<stage>/<run>`.

    Raises:
        DarkroomError: where mlflow is not installed or the study has no finished run.
    """
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise DarkroomError(
            "The export to MLflow needs mlflow. Install it with: python -m pip install mlflow"
        ) from None
    finished = [run for run in status.of_study(study) if run.state == "finished"]
    if not finished:
        raise DarkroomError(f"The study {study} has no finished run to export. Run it first.")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(study)
    exported = []
    for run in finished:
        folder = paths.run(study, run.stage, run.name)
        name = f"{run.stage}/{run.name}"
        if _export(client, experiment_id, name, folder, record.read(folder)):
            exported.append(name)
    return exported


def _export(
    client: Any, experiment_id: str, name: str, folder: Path, result: dict[str, Any]
) -> bool:
    digest = hashing.file(folder / record.RESULT)
    known = client.search_runs([experiment_id], f"tags.`darkroom.result` = '{digest}'")
    if known:
        return False
    tags = {"mlflow.runName": name, "darkroom.result": digest, "darkroom.stage": result["stage"]}
    run_id = client.create_run(experiment_id, tags=tags).info.run_id
    for parameter, value in record.parameters(folder).items():
        client.log_param(run_id, parameter, str(value)[:_LONGEST_VALUE])
    for metric, value in result.get(
        "metrics", {}
    ).items():  # with `_low` and `_high` of each interval
        if isinstance(value, int | float):
            client.log_metric(run_id, metric, value)
    _log_history(client, run_id, folder)
    for file in (folder / artifact for artifact in ARTIFACTS):
        if file.is_file():
            client.log_artifact(run_id, str(file))
    if (folder / record.FIGURES).is_dir():
        client.log_artifacts(run_id, str(folder / record.FIGURES), record.FIGURES)
    client.set_terminated(run_id)
    return True


def _log_history(client: Any, run_id: str, folder: Path) -> None:
    import pandas

    if not (folder / record.HISTORY).is_file():
        return
    history = pandas.read_csv(folder / record.HISTORY).select_dtypes("number")
    for step, row in enumerate(history.to_dict("records"), start=1):
        for name, value in row.items():
            client.log_metric(run_id, f"epoch_{name}", value, step=step)
