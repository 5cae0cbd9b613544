"""The end of a training run: the prediction table of all images, metrics, checks, the saved model,
and `result.json`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from lib import files, hashing, model_card
from lib.cleaning import leaks
from lib.data.batches import Batches
from lib.data.dataset import Dataset
from lib.data.splits import Split
from lib.errors import DarkroomError
from lib.evaluation import (
    checks,
    metrics,
    outcomes,
    overfitting,
    predictions,
    run_records,
    test_set_log,
)
from lib.evaluation.checks import RunFacts
from lib.evaluation.predictions import Predictions
from lib.models import heads, losses, predictor, serialization
from lib.models import inference as engines
from lib.runs import Run, record
from lib.training import plots, strategies
from lib.training.strategies import Trained, TrainingData

_BATCHES_AT_ONCE = 16  # so that no more than this many batches of pixels are in memory
_COMPARED, _TOLERANCE = 64, 0.01


def conclude(
    trained: Trained, split: Split, scored: Predictions, *, dataset: Dataset, run: Run
) -> dict[str, Any]:
    """Saves the model with its card, audits the run, writes `result.json` and returns its content.

    Every number in it is computed from the prediction table `scored`.
    """
    fitted = trained.fitted
    fitted.history.to_csv(run.folder / record.HISTORY, index=False)
    result = run_records.summary(scored, split, dataset_folder=dataset.folder)
    result |= _of_training(trained, result["metrics"])
    facts = RunFacts(
        scored,
        fitted.history,
        fitted.kept_epoch,
        settings=result["settings"],
        class_weights=fitted.class_weights,
        test_openings=result["test_openings"],
        diverged=fitted.diverged,
    )
    result["audit"] = checks.of_run(facts) + leaks.of_run(dataset, split, study=run.study)
    outcomes.require(result["audit"])
    path = run.checkpoint_folder / "model.keras"
    card = model_card.of_run(
        result,
        run=run,
        dataset=dataset,
        classes=metrics.by_class(scored),
        environment=files.read_json(run.folder / record.ENVIRONMENT),
    )
    serialization.save(trained.model, path, card=card)
    result["model_sha256"] = hashing.file(path)  # the site loads no other file in its place
    plots.show(run, trained, scored, dataset=dataset, numbers=result["metrics"])
    strategies.clear(run)
    return run.finish(result)


def _of_training(trained: Trained, numbers: dict[str, Any]) -> dict[str, Any]:
    fitted = trained.fitted
    known = {"train_accuracy": numbers["train_accuracy"], "val_accuracy": numbers["val_accuracy"]}
    diagnosis = overfitting.diagnose(fitted.history, **known)
    return {
        "metrics": numbers | {"overfit_gap": diagnosis["gap"]},
        "overfitting": diagnosis,
        "strategy": trained.strategy,
        "settings": dataclasses.asdict(trained.settings),
        "class_weights_that_acted": fitted.class_weights,
        "kept_epoch": fitted.kept_epoch,
        "epochs_run": len(fitted.history),
        "selection": trained.selection,
        "refitted_on_validation": trained.val_probabilities is not None,
        "diverged": fitted.diverged,
        "num_parameters": trained.model.count_params(),
        "training_seconds": trained.seconds,
        "peak_memory_bytes": _peak_memory(),
    }


def _peak_memory() -> int | None:
    """The most main memory this process has held, in bytes; None where the system does not tell
    (Windows).
    """
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def sentence(result: dict[str, Any]) -> str:
    """Returns the result in words: accuracy and kappa with their intervals, the kept epoch, and
    what the audit flags.
    """
    numbers = result["metrics"]
    openings = test_set_log.times(result["test_openings"])
    tiny = [record.TINY] if record.is_tiny(result) else []
    kept = f"{_kept(result)}. This test split was read {openings}, over all studies."
    if "exact_match" in numbers:
        lines = [
            *tiny,
            f"{result['unit']}: test macro F1 {numbers['macro_f1']:.2f} ({numbers['num_images']:,} "
            f"images; 95 % interval {numbers['macro_f1_low']:.2f} to "
            f"{numbers['macro_f1_high']:.2f}), by thresholds chosen on validation.",
            f"Exact match {100 * numbers['exact_match']:.1f} %, Hamming loss "
            f"{numbers['hamming_loss']:.3f}.",
            kept,
        ]
        return "\n".join([*lines, *outcomes.remarks(result["audit"])])
    bands = list(dict.fromkeys([numbers["kappa_low_band"], numbers["kappa_high_band"]]))
    lines = [
        *tiny,
        f"{result['unit']}: test accuracy {100 * numbers['accuracy']:.1f} % "
        f"({numbers['num_images']:,} images; 95 % interval {100 * numbers['accuracy_low']:.1f} % "
        f"to {100 * numbers['accuracy_high']:.1f} %).",
        f"Cohen's kappa {numbers['kappa']:.2f} (95 % interval {numbers['kappa_low']:.2f} to "
        f"{numbers['kappa_high']:.2f}), {' to '.join(bands)} agreement by Landis and Koch.",
        kept,
        overfitting.sentence(result["overfitting"]),
    ]
    lines += outcomes.remarks(result["audit"])
    return "\n".join(lines)


def _kept(result: dict[str, Any]) -> str:
    """Returns what was kept, as a clause."""
    selection = result.get("selection")
    number, total = result["kept_epoch"], result["epochs_run"]
    if selection is None and result.get("refitted_on_validation"):
        return (
            f"Candidate {number} of {total} was chosen on validation and refitted on train and val"
        )
    if selection is None:
        return f"The weights of epoch {number} of {total} were kept"
    losses = {name: state["val_log_loss"] for name, state in selection["states"].items()}
    kept = {
        "head": "The head on frozen features was kept, since fine-tuning did not improve it",
        "linear": "The fine-tuned network was kept with a linear head on its features",
        "mean": "The mean of head and fine-tuned weights was kept",  # runs of 0.1
        "tuned": f"The fine-tuned weights of epoch {number} of {total} were kept",
    }[selection["kept"]]
    compared = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    refitted = ", refitted on train and val" if result.get("refitted_on_validation") else ""
    return f"{kept}{refitted} ({selection['judge']}: {compared})"


def score(trained: Trained, data: TrainingData, *, run: Run, batch_size: int = 64) -> Predictions:
    """Scores train, validation and test, writes `predictions.parquet` into the run's folder and
    returns what it holds.

    The images are not augmented and the dtype policy is the model's own. Call it once a run, when
    the model is chosen: this is where the test split is opened, and the opening is recorded. The
    table also notes what Keras' own evaluate says of the test images, which the audit holds against
    it; their features go to TensorBoard's projector.

    Raises:
        DarkroomError: the model has other classes than the split, or its stored features are
            another model's.
    """
    split = data.split
    if list(heads.of(trained.model).class_names) != list(split.class_names):
        raise DarkroomError(
            f"The model has the classes {list(heads.of(trained.model).class_names)}, the split "
            f"{list(split.class_names)}. Build the model with the split's class_names."
        )
    test_set_log.record(data.dataset_folder, split.id, run.name)
    rows = data.pixels.rows_of(split.frame["path"])
    if trained.on_features is not None and not _fits(trained, data.pixels.array, rows):
        trained = dataclasses.replace(trained, on_features=None)
    if trained.on_features is None:
        probabilities = np.concatenate(
            list(_chunks(trained.model, data.pixels.array, rows, batch_size))
        )
    else:
        probabilities = _from_features(trained, rows)
    if trained.val_probabilities is not None:
        probabilities[split.frame["split"].to_numpy() == "val"] = trained.val_probabilities
    table = predictions.table(
        split.frame["path"],
        splits=split.frame["split"],
        labels=split.frame["label"],
        groups=split.frame["group"],
        probabilities=probabilities,
        class_names=split.class_names,
    )
    path = run.folder / record.PREDICTIONS
    about = {
        "class_names": split.class_names,
        "data_hash": split.data_hash(),
        "target": split.target,
    }
    predictions.write(
        path,
        table,
        {
            **about,
            "kind": "multilabel" if split.is_multilabel else "probability",
            "run": run.name,
            "evaluated": _evaluated(trained, data, batch_size),
        },
    )
    written = predictions.read(path)
    plots.features(trained, data, written, run=run)
    return written


def _evaluated(trained: Trained, data: TrainingData, batch_size: int) -> dict[str, float]:
    """Keras' own evaluation of the test images, which uses its batches and metric."""
    if trained.on_features is None:
        model, test = predictor.averaged(trained.model), data.examples("test")
        if not model.compiled:  # an ensemble, a linear head, or the mean over mirror images
            head = trained.model
            model.compile(loss=losses.loss(head), weighted_metrics=[losses.accuracy(head)])
    else:
        model, features = trained.on_features
        test = data.on_features("test", features)
    metrics = model.evaluate(Batches(test, batch_size=batch_size), return_dict=True, verbose=0)
    return {"accuracy": float(metrics["accuracy"])}


def _chunks(
    model: keras.Model, images: np.ndarray, rows: np.ndarray, batch_size: int
) -> Iterator[np.ndarray]:
    chunk = batch_size * _BATCHES_AT_ONCE
    for start in range(0, len(rows), chunk):
        yield predictor.predict_proba(
            model, images[rows[start : start + chunk]], batch_size=batch_size
        )


def _from_features(trained: Trained, rows: np.ndarray) -> np.ndarray:
    classifier, features = trained.on_features
    logits = classifier.predict(features[rows], batch_size=512, verbose=0)
    return heads.probabilities(heads.of(trained.model), logits)


def _fits(trained: Trained, images: np.ndarray, rows: np.ndarray) -> bool:
    """Returns whether the head on stored features scores some images as the whole model does.

    Features of another backend than Keras may be too coarse for that, and those of a body that
    diverged while this run tuned it are too large; the whole model scores in both cases.
    """
    some = rows[:: max(1, len(rows) // _COMPARED)][:_COMPARED]
    whole = predictor.predict_proba(trained.model, images[some])
    apart = float(np.abs(whole - _from_features(trained, some)).max())
    is_tuned = (trained.selection or {}).get("kept") == "linear"
    is_keras = engines.resolve(trained.settings.feature_backend) == "keras"
    if apart > _TOLERANCE and is_keras and not is_tuned:
        raise DarkroomError(
            f"The whole model and its head on stored features disagree by up to {apart:.3f} in "
            "probability; the stored features are not this model's. Delete the data set's folder "
            "`features` and run again."
        )
    return apart <= _TOLERANCE
