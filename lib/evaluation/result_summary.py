"""The part of `result.json` that every kind of model has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lib.data.splits import Split
from lib.evaluation import calibration, metrics, statistics, test_set_log
from lib.evaluation.predictions import Predictions


def of_model(scored: Predictions, split: Split, *, dataset_folder: Path) -> dict[str, Any]:
    """Returns metrics, split and calibration of a model whose predictions are `scored`.

    Metrics of the test split bear their plain names (`accuracy`, `kappa_low`), those of the others
    a prefix (`val_accuracy`).
    """
    numbers: dict[str, Any] = dict(statistics.headline(scored, "test"))
    for name in ("train", "val"):
        numbers |= {f"{name}_{key}": value for key, value in metrics.summary(scored, name).items()}
    advice = calibration.advice(scored)
    return {
        "metrics": numbers,
        "class_names": split.class_names,
        "split": split.id,
        "split_method": split.method,
        "split_counts": json.loads(split.counts().to_json()),
        "target": split.target,
        "data_hash": split.data_hash(),
        "calibration": advice,
        "temperature": advice["temperature"],
        "test_openings": test_set_log.count(dataset_folder, split.id),
    }
