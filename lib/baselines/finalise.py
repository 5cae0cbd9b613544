"""The end of a thumbnail run: fits the best model, opens the test split, runs the checks, saves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pandas

from lib import hashing, model_card
from lib.baselines import estimators
from lib.baselines import model as models
from lib.baselines.data import ThumbnailData, format_size
from lib.baselines.estimators import Fit
from lib.baselines.model import Model
from lib.cleaning import leaks
from lib.evaluation import checks, metrics, outcomes, predictions, run_records, test_set_log
from lib.evaluation.checks import RunFacts
from lib.evaluation.predictions import Predictions
from lib.reporting.tensorboard import RESULTS, Board
from lib.runs import Run, record

_SPLITS = ("train", "val", "test")
_MAX_POINTS = 500  # of a curve in TensorBoard


def fit_best(table: pandas.DataFrame, data: ThumbnailData, *, seed: int) -> tuple[Fit, Model]:
    """Returns the first row of the results table fitted on train, with a calibrated model."""
    best = table.iloc[0]
    name, size = best["kind"], (int(best["height"]), int(best["width"]))
    train, val = (data.part(split, size) for split in ("train", "val"))
    fit = estimators.fit(name, json.loads(best["parameters"]), train, seed=seed, val=val)
    model = Model(
        name,
        fit.pipeline,
        tuple(data.class_names),
        size,
        data.resize,
        estimators.fit_temperature(fit.pipeline, val),
        data.multilabel,
    )
    return fit, model


def history(fit: Fit) -> pandas.DataFrame | None:
    """Returns loss and accuracy of every epoch of a network; None for models without epochs."""
    rows = getattr(fit.pipeline[-1], "history_", None)
    return pandas.DataFrame(rows) if rows else None


def score(model: Model, data: ThumbnailData, *, run: Run) -> Predictions:
    """Opens the test split, scores all images once, and writes `predictions.parquet`."""
    test_set_log.record(data.dataset.folder, data.split.id, run.name)
    tables = []
    for split in _SPLITS:
        rows = data.split.of(split)
        table = predictions.table(
            rows["path"],
            splits=[split] * len(rows),
            labels=data.labels_by_path.loc[rows["path"]],
            groups=rows["group"],
            probabilities=model.predict_proba(data.images(split, model.size)),
            class_names=model.class_names,
        )
        tables.append(table)
    path = run.folder / record.PREDICTIONS
    about = {
        "class_names": list(model.class_names),
        "data_hash": data.data_hash(),
        "target": data.target,
        "run": run.name,
        "kind": "multilabel" if model.multilabel else "probability",
    }
    predictions.write(path, pandas.concat(tables).sort_values("path", ignore_index=True), about)
    return predictions.read(path)


def finish(
    model: Model,
    fit: Fit,
    table: pandas.DataFrame,
    data: ThumbnailData,
    predicted: Predictions,
    *,
    run: Run,
) -> dict[str, Any]:
    """Runs the checks, saves the model with its card, writes and returns `result.json`.

    Args:
        model: the model that was scored.
        fit: its fit.
        table: the results of the search.
        data: the images.
        predicted: the scores, from which all metrics are computed.
        run: the open run.
    """
    split, curve = data.split, history(fit)
    result = run_records.summary(predicted, split, dataset_folder=data.dataset.folder) | {
        "strategy": "thumbnails",
        "model": model.kind,
        "size": format_size(model.size),
        "settings": {"size": format_size(model.size), **fit.parameters},
        "num_parameters": model.num_parameters(),
        "training_seconds": fit.seconds,
        "num_trials": len(table),
        "search_seconds": round(float(table["seconds"].sum()), 3),
        "converged": fit.converged,
    }
    kept_epoch = None
    if curve is not None:
        curve.to_csv(run.folder / record.HISTORY, index=False)
        kept_epoch = int(curve["epoch"].iloc[-1])
        result |= {"kept_epoch": kept_epoch, "epochs_run": len(curve)}
    result["audit"] = checks.of_run(
        RunFacts(predicted, curve, kept_epoch, test_openings=result["test_openings"])
    )
    result["audit"] += leaks.of_run(data.dataset, split, study=run.study)
    outcomes.require(result["audit"])
    path = run.checkpoint_folder / models.NAME
    classes = metrics.by_class(predicted)
    card = model_card.of_run(result, run=run, dataset=data.dataset, classes=classes)
    models.save(replace(model, card=card), path)
    result["model_sha256"] = hashing.file(path)  # the site loads no other file in its place
    _log(run, result, curve)
    return run.finish(result)


def sentence(result: dict[str, Any]) -> str:
    """Returns the result in words, with the checks that did not hold."""
    numbers = result["metrics"]
    num_images = f"({numbers['num_images']:,} images)"
    if "exact_match" in numbers:
        low, high = numbers["macro_f1_low"], numbers["macro_f1_high"]
        score = (
            f"{result['unit']}: test exact match {100 * numbers['exact_match']:.1f} % "
            f"{num_images}; macro F1 {numbers['macro_f1']:.2f} (95 % {low:.2f} to {high:.2f})."
        )
    else:
        low, high = 100 * numbers["accuracy_low"], 100 * numbers["accuracy_high"]
        score = (
            f"{result['unit']}: test accuracy {100 * numbers['accuracy']:.1f} % {num_images}, 95 % "
            f"{low:.1f} % to {high:.1f} %; Cohen's kappa {numbers['kappa']:.2f}."
        )
    openings = test_set_log.times(result["test_openings"])
    lines = [
        *([record.TINY] if record.is_tiny(result) else []),
        score,
        f"The model has {result['num_parameters']:,} parameters and was fitted in "
        f"{result['training_seconds']:.2g} s.",
        f"This test split has been read {openings}, over all studies.",
    ]
    return "\n".join([*lines, *outcomes.remarks(result["audit"])])


def _log(run: Run, result: dict[str, Any], curve: pandas.DataFrame | None) -> None:
    board, numbers = Board(run.folder), result["metrics"]
    if curve is not None:
        for row in curve.iloc[:: max(1, len(curve) // _MAX_POINTS)].to_dict("records"):
            board.epoch(int(row["epoch"]), row)
    settings = {name: str(value) for name, value in result["settings"].items()}
    headlines = {tag: numbers[name] for name, tag in RESULTS.items() if name in numbers}
    board.hparams(settings | {"model": result["model"]}, headlines)
