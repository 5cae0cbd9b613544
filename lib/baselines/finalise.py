"""The end of a thumbnail run: the chosen model fitted, the test split opened once, one table, the
audit, the saved model.
"""

from __future__ import annotations

import json
from typing import Any

import pandas

from lib import hashing
from lib.baselines import fitting
from lib.baselines import model as models
from lib.baselines.data import Material, told
from lib.baselines.fitting import Fit
from lib.baselines.model import Model
from lib.evaluation import calibration, checks, metrics, predictions, statistics, test_access
from lib.evaluation.checks import RunFacts
from lib.evaluation.predictions import Predictions
from lib.reporting.tensorboard import RESULTS, Board
from lib.runs import Run, record

_SPLITS = ("train", "val", "test")
_PREFIXES = ("train", "val")


def chosen(found: pandas.DataFrame, material: Material, *, seed: int) -> tuple[Fit, Model]:
    """Returns the first model of the results table, fitted on train, and how hot its outputs are by
    validation.
    """
    best = found.iloc[0]
    size = (int(best["height"]), int(best["width"]))
    train, val = (material.part(name, size) for name in _PREFIXES)
    fit = fitting.fit(best["kind"], json.loads(best["parameters"]), train, seed=seed, val=val)
    heat = fitting.temperature(fit.pipeline, val)
    model = Model(
        best["kind"],
        fit.pipeline,
        tuple(material.class_names),
        size,
        material.resize,
        heat,
        material.several,
    )
    return fit, model


def history(fit: Fit) -> pandas.DataFrame | None:
    """Returns loss and accuracy of train and validation after every epoch of a network; None for
    models without epochs.
    """
    rows = getattr(fit.pipeline[-1], "history_", None)
    return pandas.DataFrame(rows) if rows else None


def score(model: Model, material: Material, *, run: Run) -> Predictions:
    """Scores train, validation and test, writes `predictions.parquet` and returns it; this opens
    the test split, once.
    """
    name = f"{run.study}/{run.stage}/{run.unit}"
    test_access.open_test(material.dataset.folder, material.split.id, name)
    frames = []
    for split in _SPLITS:
        rows = material.split.of(split)
        stated = model.predict_proba(material.images(split, model.size))
        labels = material.labels.loc[rows["path"]]
        frames.append(
            predictions.table(
                rows["path"],
                splits=[split] * len(rows),
                labels=labels,
                groups=rows["group"],
                probabilities=stated,
                class_names=model.class_names,
            )
        )
    path = run.folder / record.PREDICTIONS
    about = {
        "class_names": list(model.class_names),
        "data_hash": material.data_hash(),
        "target": material.target,
        "run": name,
    }
    kind = "multilabel" if model.several else "probability"
    predictions.write(
        path, pandas.concat(frames).sort_values("path", ignore_index=True), {**about, "kind": kind}
    )
    return predictions.read(path)


def conclude(
    model: Model,
    fit: Fit,
    trials: pandas.DataFrame,
    material: Material,
    found: Predictions,
    *,
    run: Run,
) -> dict[str, Any]:
    """Saves the model with its card, audits the run, writes `result.json` last and returns what it
    says.
    """
    split, curve = material.split, history(fit)
    numbers: dict[str, Any] = dict(statistics.headline(found, "test"))
    for name in _PREFIXES:
        numbers |= {f"{name}_{key}": value for key, value in metrics.summary(found, name).items()}
    result: dict[str, Any] = {
        "metrics": numbers,
        "recipe": "thumbnails",
        "model": model.kind,
        "size": told(model.size),
        "settings": {"size": told(model.size), **fit.parameters},
        "class_names": list(model.class_names),
        "split": split.id,
        "split_method": split.method,
        "split_counts": json.loads(material.counts().to_json()),
        "target": material.target,
        "data_hash": material.data_hash(),
        "num_parameters": model.num_parameters(),
        "training_seconds": fit.seconds,
        "num_trials": len(trials),
        "search_seconds": round(float(trials["seconds"].sum()), 3),
        "converged": fit.converged,
    }
    kept = None
    if curve is not None:
        curve.to_csv(run.folder / record.HISTORY, index=False)
        kept = int(curve["epoch"].iloc[-1])
        result |= {"kept_epoch": kept, "epochs_run": len(curve)}
    if not model.several:
        result["calibration"] = calibration.advice(found)
        result["temperature"] = result["calibration"]["temperature"]
    result["test_openings"] = test_access.count(material.dataset.folder, split.id)
    result["audit"] = checks.of_run(
        RunFacts(found, curve, kept, test_openings=result["test_openings"])
    )
    checks.require(result["audit"])
    card = _card(result, run)
    models.save(Model(**{**vars(model), "card": card}), run.checkpoint_folder / models.NAME)
    result["model_sha256"] = hashing.file(
        run.checkpoint_folder / models.NAME
    )  # the site loads no other file in its place
    _show(run, result, curve)
    return run.finish(result)


def sentence(result: dict[str, Any]) -> str:
    """Returns the result in words, for one class an image or several, and what the audit flags."""
    numbers = result["metrics"]
    low, high = numbers.get("accuracy_low"), numbers.get("accuracy_high")
    if "exact_match" in numbers:
        told = (
            f"{result['unit']}: every label right on {100 * numbers['exact_match']:.1f} % of "
            f"{numbers['num_images']:,} test images; macro F1 {numbers['macro_f1']:.2f} (95 % "
            f"{numbers['macro_f1_low']:.2f} to {numbers['macro_f1_high']:.2f})."
        )
    else:
        told = (
            f"{result['unit']}: test accuracy {100 * numbers['accuracy']:.1f} % "
            f"({numbers['num_images']:,} images; 95 % {100 * low:.1f} to {100 * high:.1f} %); "
            f"Cohen's kappa {numbers['kappa']:.2f}."
        )
    fitted = (
        f"{result['num_parameters']:,} parameters, fitted in {result['training_seconds']:.2g} s."
    )
    flags = checks.remarks(result["audit"])
    times = test_access.times(result["test_openings"])
    opened = f"This test split has been read {times}, over all studies."
    return "\n".join([told, fitted, opened, *flags])


def _card(result: dict[str, Any], run: Run) -> dict[str, Any]:
    numbers = result["metrics"]
    plain = {name: result[name] for name in ("data_hash", "split", "target", "class_names")}
    told = {name: numbers[name] for name in sorted(numbers) if not name.startswith(_PREFIXES)}
    about = {"run": f"{run.study}/{run.stage}/{run.unit}", "data": run.data, **plain}
    about |= {"parameters": run.parameters, "metrics": told}
    return about | ({"calibration": result["calibration"]} if "calibration" in result else {})


def _show(run: Run, result: dict[str, Any], curve: pandas.DataFrame | None) -> None:
    board = Board(run.folder)
    if curve is not None:
        steps = max(1, len(curve) // 500)  # more points than that no screen shows
        for row in curve.iloc[::steps].to_dict("records"):
            board.epoch(int(row["epoch"]), row)
    numbers = {
        tag: result["metrics"][name] for name, tag in RESULTS.items() if name in result["metrics"]
    }
    board.hparams(
        {name: str(value) for name, value in result["settings"].items()}
        | {"model": result["model"]},
        numbers,
    )
